"""Windows of whole tenants, and of all together (``*``), with what pages tell of a distribution beside it: its head and four percentiles."""

from django.db import migrations

# Sums as floats: exact up to 2^53, and much quicker than the numerics that sums of bigints are.
TOLD = """
CREATE FUNCTION tg_dist_told(packed bigint[]) RETURNS bigint[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN cardinality(packed) < 5 THEN packed ELSE packed[1:4] || (
        SELECT ARRAY[min(bucket) FILTER (WHERE seen >= ceil(packed[1] * 0.5::float8)),
                     min(bucket) FILTER (WHERE seen >= ceil(packed[1] * 0.9::float8)),
                     min(bucket) FILTER (WHERE seen >= ceil(packed[1] * 0.95::float8)),
                     min(bucket) FILTER (WHERE seen >= ceil(packed[1] * 0.99::float8))]
        FROM (SELECT entry >> 40 AS bucket, sum((entry & ((1::bigint << 40) - 1))::float8) OVER (ORDER BY place) AS seen
              FROM unnest(packed[5:]) WITH ORDINALITY AS each (entry, place)) AS ranked) END
$$;
"""
STEPS = ("15m", "3h", "6h", "1d")
COLUMNS = ("latency_us", "tokens", "call_cost_nusd", "queue_depth")
TABLES = "".join(
    f"""
    CREATE TABLE telemetry_tenant_{step} (LIKE telemetry_window_1h INCLUDING DEFAULTS);
    ALTER TABLE telemetry_tenant_{step} DROP COLUMN route, DROP COLUMN model, DROP COLUMN category, ADD PRIMARY KEY (tenant, starts_at),
        {", ".join(f"ADD COLUMN {name}_told bigint[] GENERATED ALWAYS AS (tg_dist_told({name})) STORED" for name in COLUMNS)};
    CREATE INDEX telemetry_tenant_{step}_time ON telemetry_tenant_{step} (starts_at);
    """
    for step in STEPS
)


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0012_bounded_sums")]

    operations = [
        migrations.RunSQL(TOLD, "DROP FUNCTION tg_dist_told(bigint[]);"),
        migrations.RunSQL(
            TABLES,
            f"DROP TABLE {', '.join(f'telemetry_tenant_{step}' for step in STEPS)}; "
            "DELETE FROM telemetry_fold WHERE kind LIKE 'tenant\\_%';",
        ),
    ]

"""Windows of calls of a quarter of an hour and of six hours; and, of all resolutions, what all tenants come to together."""

from django.db import migrations

LONGER = ("telemetry_window_15m", "telemetry_window_6h")
TOTALS = ("telemetry_total_10s", "telemetry_total_1m", "telemetry_total_15m", "telemetry_total_1h", "telemetry_total_6h")

MAKE = "".join(
    f"""
    CREATE TABLE {name} (LIKE telemetry_window_1h INCLUDING DEFAULTS, PRIMARY KEY (starts_at, tenant, route, model, category));
    CREATE INDEX {name}_tenant ON {name} (tenant, starts_at);
    """
    for name in LONGER
) + "".join(
    f"""
    CREATE TABLE {name} (LIKE telemetry_window_1h INCLUDING DEFAULTS, PRIMARY KEY (starts_at, route, model));
    ALTER TABLE {name} DROP COLUMN tenant, DROP COLUMN category;
    """
    for name in TOTALS
) + "CREATE INDEX telemetry_window_1h_tenant ON telemetry_window_1h (tenant, starts_at);"


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0009_quantile")]

    operations = [
        migrations.RunSQL(
            MAKE,
            f"DROP INDEX telemetry_window_1h_tenant; DROP TABLE {', '.join((*LONGER, *TOTALS))}; "
            "DELETE FROM telemetry_fold WHERE kind LIKE 'window\\_%' OR kind LIKE 'total\\_%';"
            "DELETE FROM telemetry_late_hour WHERE kind = 'ladder';",
        )
    ]

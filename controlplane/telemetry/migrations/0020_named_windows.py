"""Windows of what all tenants come to by route, and by model, with what pages tell of a distribution beside it."""

from django.db import migrations

STEPS = ("15m", "3h", "6h", "1d")
DIMENSIONS = ("route", "model")
TABLES = "".join(
    f"""
    CREATE TABLE telemetry_{dimension}_{step} (LIKE telemetry_tenant_{step} INCLUDING DEFAULTS INCLUDING GENERATED);
    ALTER TABLE telemetry_{dimension}_{step} RENAME COLUMN tenant TO {dimension};
    ALTER TABLE telemetry_{dimension}_{step} ALTER COLUMN {dimension} TYPE varchar(120), ADD PRIMARY KEY (starts_at, {dimension});
    """
    for dimension in DIMENSIONS
    for step in STEPS
)


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0019_samples")]

    operations = [
        migrations.RunSQL(
            TABLES,
            f"DROP TABLE {', '.join(f'telemetry_{dimension}_{step}' for dimension in DIMENSIONS for step in STEPS)}; "
            "DELETE FROM telemetry_fold WHERE kind LIKE 'route\\_%' OR kind LIKE 'model\\_%';",
        )
    ]

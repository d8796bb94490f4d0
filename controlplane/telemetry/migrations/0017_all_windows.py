"""Windows of five minutes and of hours of all tenants together, one row for each, with what pages tell of a distribution beside it."""

from django.db import migrations

STEPS = ("5m", "1h")


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0016_trace_shapes")]

    operations = [
        migrations.RunSQL(
            "".join(f"CREATE TABLE telemetry_all_{step} (LIKE telemetry_tenant_15m INCLUDING ALL);" for step in STEPS),
            f"DROP TABLE {', '.join(f'telemetry_all_{step}' for step in STEPS)}; "
            "DELETE FROM telemetry_fold WHERE kind LIKE 'all\\_%';",
        )
    ]

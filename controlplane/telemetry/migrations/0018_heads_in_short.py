"""First spans of traces are kept with their name, service and duration. What there is of them is folded again, by the worker."""

from django.db import migrations

AGAIN = """
DELETE FROM telemetry_fold WHERE kind = 'shapes';
TRUNCATE telemetry_trace_head, telemetry_trace_shape, telemetry_shape_15m, telemetry_shape_6h;
"""


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0017_all_windows")]

    operations = [
        migrations.RunSQL(
            f"""{AGAIN} ALTER TABLE telemetry_trace_head ADD COLUMN duration_us bigint NOT NULL, ADD COLUMN service varchar(120) NOT NULL,
                ADD COLUMN name varchar(200) NOT NULL;""",
            f"{AGAIN} ALTER TABLE telemetry_trace_head DROP COLUMN duration_us, DROP COLUMN service, DROP COLUMN name;",
        )
    ]

"""The points of a quarter of an hour, added up with those of its hour. Partitioned by day like points, and dropped with them."""

from django.db import migrations

TABLE = """
CREATE TABLE telemetry_point_15m (LIKE telemetry_point INCLUDING DEFAULTS, PRIMARY KEY (series_id, at)) PARTITION BY RANGE (at);
CREATE TABLE telemetry_point_15m_strays PARTITION OF telemetry_point_15m DEFAULT;
"""


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0013_tenant_windows")]

    operations = [migrations.RunSQL(
            TABLE,
            "DROP TABLE telemetry_point_15m; DELETE FROM telemetry_fold WHERE kind = 'quarters'; "
            "DELETE FROM telemetry_late_hour WHERE kind = 'quarters';",
        )]

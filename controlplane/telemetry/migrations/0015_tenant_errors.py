"""Failed spans by tenant: they are few, so the index costs next to nothing."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0014_point_quarters")]

    operations = [
        migrations.RunSQL(
            "CREATE INDEX telemetry_span_tenant_errors ON telemetry_span (tenant, starts_at DESC) WHERE status = 2;",
            "DROP INDEX telemetry_span_tenant_errors;",
        )
    ]

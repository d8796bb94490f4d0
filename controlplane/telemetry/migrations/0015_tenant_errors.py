"""Spans by user, and failed ones by tenant: those are few, so their index costs next to nothing."""

from django.db import migrations

from controlplane.indexes import concurrently


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("telemetry", "0014_point_quarters")]

    operations = [
        concurrently("telemetry_span_users", "telemetry_span", """(tenant, "user", starts_at DESC) WHERE "user" <> ''"""),
        concurrently(
            "telemetry_span_tenant_errors", "telemetry_span", "(tenant, starts_at DESC) WHERE status = 2"
        )
    ]

"""Samples of the first spans of traces, one in sixteen and one in 256 by a hash of their ids, with all that is asked of them."""

from django.db import migrations

INDEXES = "".join(
    f"""CREATE INDEX telemetry_trace_head_one_in_{one_in} ON telemetry_trace_head (starts_at)
        INCLUDE (tenant, status, shape, duration_us, service, name, trace_id) WHERE hashtextextended(trace_id, 0) & {one_in - 1} = 0;"""
    for one_in in (16, 256)
)


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0018_heads_in_short")]

    operations = [
        migrations.RunSQL(INDEXES, "DROP INDEX telemetry_trace_head_one_in_16, telemetry_trace_head_one_in_256;"),
    ]

"""Samples of the first spans of traces, one in sixteen and one in 256 by a hash of their ids, with all that is asked of them."""

from django.db import migrations

from controlplane.indexes import concurrently


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("telemetry", "0018_heads_in_short")]

    operations = [
        concurrently(
            f"telemetry_trace_head_one_in_{one_in}",
            "telemetry_trace_head",
            f"""(starts_at) INCLUDE (tenant, status, shape, duration_us, service, name, trace_id)
                WHERE hashtextextended(trace_id, 0) & {one_in - 1} = 0""",
        )
        for one_in in (16, 256)
    ]

"""What traces are like: the words of each by its first span, sets of words once a day, and how many traces had which.

Tables are partitioned by day like spans, and dropped with them. The tenant ``*`` stands for all together.
"""

from django.db import migrations

HEADS = """
CREATE TABLE telemetry_trace_head (
    starts_at timestamptz NOT NULL,
    trace_id varchar(32) NOT NULL,
    span_id varchar(16) NOT NULL,
    tenant varchar(64) NOT NULL,
    status smallint NOT NULL,
    shape uuid NOT NULL,
    PRIMARY KEY (trace_id, span_id, starts_at)
) PARTITION BY RANGE (starts_at);
CREATE TABLE telemetry_trace_head_strays PARTITION OF telemetry_trace_head DEFAULT;
CREATE INDEX telemetry_trace_head_time ON telemetry_trace_head USING brin (starts_at) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX telemetry_trace_head_tenant ON telemetry_trace_head (tenant, starts_at DESC);
CREATE TABLE telemetry_trace_shape (
    starts_at timestamptz NOT NULL,
    id uuid NOT NULL,
    words text[] NOT NULL,
    PRIMARY KEY (starts_at, id)
) PARTITION BY RANGE (starts_at);
CREATE TABLE telemetry_trace_shape_strays PARTITION OF telemetry_trace_shape DEFAULT;
"""

SUMS = "".join(
    f"""
    CREATE TABLE telemetry_shape_{step} (
        starts_at timestamptz NOT NULL,
        tenant varchar(64) NOT NULL,
        shape uuid NOT NULL,
        traces bigint NOT NULL,
        errors bigint NOT NULL,
        PRIMARY KEY (tenant, starts_at, shape)
    ) PARTITION BY RANGE (starts_at);
    CREATE TABLE telemetry_shape_{step}_strays PARTITION OF telemetry_shape_{step} DEFAULT;
    """
    for step in ("15m", "6h")
)


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0015_tenant_errors")]

    operations = [
        migrations.RunSQL(
            HEADS + SUMS,
            "DROP TABLE telemetry_trace_head, telemetry_trace_shape, telemetry_shape_15m, telemetry_shape_6h; "
            "DELETE FROM telemetry_fold WHERE kind = 'shapes';",
        )
    ]

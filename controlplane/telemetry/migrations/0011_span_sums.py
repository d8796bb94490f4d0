"""What spans come to: traces and edges of the mesh per window of time, sessions per day; notes of what came late.

Tables are partitioned by day like spans, and dropped with them. The tenant ``*`` stands for all together.
"""

from django.db import migrations, models

TRACES = "".join(
    f"""
    CREATE TABLE telemetry_traces_{step} (
        starts_at timestamptz NOT NULL,
        tenant varchar(64) NOT NULL,
        traces bigint NOT NULL,
        errors bigint NOT NULL,
        PRIMARY KEY (tenant, starts_at)
    ) PARTITION BY RANGE (starts_at);
    CREATE TABLE telemetry_traces_{step}_strays PARTITION OF telemetry_traces_{step} DEFAULT;
    CREATE INDEX telemetry_traces_{step}_time ON telemetry_traces_{step} (starts_at);
    CREATE TABLE telemetry_mesh_{step} (
        starts_at timestamptz NOT NULL,
        tenant varchar(64) NOT NULL,
        from_tenant varchar(64) NOT NULL,
        from_kind varchar(8) NOT NULL,
        from_name varchar(120) NOT NULL,
        to_kind varchar(8) NOT NULL,
        to_name varchar(120) NOT NULL,
        calls bigint NOT NULL,
        errors bigint NOT NULL,
        tokens bigint NOT NULL,
        cost_nusd bigint NOT NULL,
        duration_us bigint NOT NULL
    ) PARTITION BY RANGE (starts_at);
    CREATE TABLE telemetry_mesh_{step}_strays PARTITION OF telemetry_mesh_{step} DEFAULT;
    CREATE INDEX telemetry_mesh_{step}_tenant ON telemetry_mesh_{step} (tenant, starts_at);
    CREATE INDEX telemetry_mesh_{step}_time ON telemetry_mesh_{step} (starts_at);
    """
    for step in ("10s", "15m", "6h")
)

SESSIONS = """
CREATE TABLE telemetry_session_day (
    starts_at timestamptz NOT NULL,
    tenant varchar(64) NOT NULL,
    session varchar(120) NOT NULL,
    users text NOT NULL,
    service varchar(120) NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    turns bigint NOT NULL,
    spans bigint NOT NULL,
    errors bigint NOT NULL,
    tokens_told bigint NOT NULL,
    tokens_seen bigint NOT NULL,
    cost_told_nusd bigint NOT NULL,
    cost_seen_nusd bigint NOT NULL,
    PRIMARY KEY (tenant, session, starts_at)
) PARTITION BY RANGE (starts_at);
CREATE TABLE telemetry_session_day_strays PARTITION OF telemetry_session_day DEFAULT;
CREATE INDEX telemetry_session_day_last ON telemetry_session_day (last_at DESC);
CREATE INDEX telemetry_session_day_tenant ON telemetry_session_day (tenant, last_at DESC);
"""

class Migration(migrations.Migration):
    dependencies = [("telemetry", "0010_ladder")]

    operations = [
        migrations.CreateModel(
            name="LateSpans",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("since", models.DateTimeField()),
                ("until", models.DateTimeField()),
            ],
            options={"db_table": "telemetry_late_spans"},
        ),
        migrations.RunSQL(
            TRACES,
            "DROP TABLE telemetry_traces_10s, telemetry_traces_15m, telemetry_traces_6h, "
            "telemetry_mesh_10s, telemetry_mesh_15m, telemetry_mesh_6h; DELETE FROM telemetry_fold WHERE kind = 'spans';",
        ),
        migrations.CreateModel(
            name="SessionDay",
            fields=[
                ("pk", models.CompositePrimaryKey("tenant", "session", "starts_at", blank=True, editable=False, primary_key=True, serialize=False)),
                ("starts_at", models.DateTimeField()),
                ("tenant", models.CharField(max_length=64)),
                ("session", models.CharField(max_length=120)),
                ("users", models.TextField()),
                ("service", models.CharField(max_length=120)),
                ("first_at", models.DateTimeField()),
                ("last_at", models.DateTimeField()),
                ("turns", models.BigIntegerField()),
                ("spans", models.BigIntegerField()),
                ("errors", models.BigIntegerField()),
                ("tokens_told", models.BigIntegerField()),
                ("tokens_seen", models.BigIntegerField()),
                ("cost_told_nusd", models.BigIntegerField()),
                ("cost_seen_nusd", models.BigIntegerField()),
            ],
            options={"db_table": "telemetry_session_day", "managed": False},
        ),
        migrations.RunSQL(SESSIONS, "DROP TABLE telemetry_session_day;"),
    ]

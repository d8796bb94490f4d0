"""Points of OTLP metrics and log records, partitioned by time like spans."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models
from django.db.models.functions import Now

TABLES = """
CREATE TABLE telemetry_point (
    series_id bigint NOT NULL,
    at timestamptz NOT NULL,
    samples bigint NOT NULL,
    sum double precision NOT NULL,
    min double precision,
    max double precision,
    buckets bigint[],
    exemplars jsonb,
    PRIMARY KEY (series_id, at)
) PARTITION BY RANGE (at);
CREATE TABLE telemetry_point_strays PARTITION OF telemetry_point DEFAULT;
CREATE INDEX telemetry_point_time ON telemetry_point USING brin (at) WITH (pages_per_range = 32, autosummarize = on);
CREATE TABLE telemetry_point_1h (LIKE telemetry_point INCLUDING DEFAULTS, PRIMARY KEY (series_id, at)) PARTITION BY RANGE (at);
CREATE TABLE telemetry_point_1h_strays PARTITION OF telemetry_point_1h DEFAULT;
CREATE TABLE telemetry_log (
    at timestamptz NOT NULL,
    severity smallint NOT NULL DEFAULT 0,
    digest bytea NOT NULL,
    tenant varchar(64) NOT NULL DEFAULT '',
    service varchar(120) NOT NULL DEFAULT '',
    scope varchar(120) NOT NULL DEFAULT '',
    event varchar(120) NOT NULL DEFAULT '',
    trace_id varchar(32) NOT NULL DEFAULT '',
    span_id varchar(16) NOT NULL DEFAULT '',
    body text NOT NULL DEFAULT '',
    attributes jsonb NOT NULL DEFAULT '{}',
    resource jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (at, digest)
) PARTITION BY RANGE (at);
CREATE TABLE telemetry_log_strays PARTITION OF telemetry_log DEFAULT;
CREATE INDEX telemetry_log_trace ON telemetry_log (trace_id) WHERE trace_id <> '';
"""

POINT = [
    ("at", models.DateTimeField()),
    ("samples", models.BigIntegerField()),
    ("sum", models.FloatField()),
    ("min", models.FloatField(null=True)),
    ("max", models.FloatField(null=True)),
    ("buckets", django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), null=True, size=None)),
    ("exemplars", models.JSONField(null=True)),
    ("pk", models.CompositePrimaryKey("series_id", "at", blank=True, editable=False, primary_key=True, serialize=False)),
    ("series", models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name="+", to="telemetry.series")),
]


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0005_priced_usage")]

    operations = [
        migrations.CreateModel(
            name="Series",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("digest", models.BinaryField(max_length=16, unique=True)),
                ("tenant", models.CharField(max_length=64)),
                ("name", models.CharField(max_length=255)),
                ("unit", models.CharField(max_length=63)),
                ("kind", models.CharField(max_length=12)),
                ("monotonic", models.BooleanField()),
                ("service", models.CharField(max_length=120)),
                ("instance", models.CharField(max_length=120)),
                ("route", models.CharField(max_length=64)),
                ("model", models.CharField(max_length=120)),
                ("release", models.CharField(max_length=64)),
                ("attributes", models.JSONField(default=dict)),
                ("bounds", django.contrib.postgres.fields.ArrayField(base_field=models.FloatField(), default=list, size=None)),
                ("state", models.JSONField(null=True)),
                ("created_at", models.DateTimeField(db_default=Now())),
                ("seen_at", models.DateTimeField(db_default=Now())),
            ],
            options={
                "db_table": "telemetry_series",
                "indexes": [
                    models.Index(fields=["tenant", "name"], name="series_tenant_name"),
                    models.Index(fields=["name"], name="series_name"),
                ],
            },
        ),
        migrations.CreateModel(name="Point", fields=POINT, options={"db_table": "telemetry_point", "managed": False}),
        migrations.CreateModel(name="PointHour", fields=POINT, options={"db_table": "telemetry_point_1h", "managed": False}),
        migrations.CreateModel(
            name="LogRecord",
            fields=[
                ("pk", models.CompositePrimaryKey("at", "digest", blank=True, editable=False, primary_key=True, serialize=False)),
                ("at", models.DateTimeField()),
                ("severity", models.PositiveSmallIntegerField()),
                ("digest", models.BinaryField(max_length=16)),
                ("tenant", models.CharField(max_length=64)),
                ("service", models.CharField(max_length=120)),
                ("scope", models.CharField(max_length=120)),
                ("event", models.CharField(max_length=120)),
                ("trace_id", models.CharField(max_length=32)),
                ("span_id", models.CharField(max_length=16)),
                ("body", models.TextField()),
                ("attributes", models.JSONField(default=dict)),
                ("resource", models.JSONField(default=dict)),
            ],
            options={"db_table": "telemetry_log", "managed": False},
        ),
        migrations.RunSQL(TABLES, "DROP TABLE telemetry_point, telemetry_point_1h, telemetry_log;"),
    ]

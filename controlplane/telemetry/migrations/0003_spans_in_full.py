"""Spans with the vocabulary of generative AI in columns, found by trace, by time, by root, by error and by session.

The primary key begins with the trace, so that it finds a trace too; time is for BRIN, which costs next to nothing.
"""

from django.db import migrations

COLUMNS = """
ALTER TABLE telemetry_span
    ADD COLUMN usage_by smallint NOT NULL DEFAULT 0,
    ADD COLUMN cached_tokens bigint,
    ADD COLUMN reasoning_tokens bigint,
    ADD COLUMN ttft_us bigint,
    ADD COLUMN scope varchar(120) NOT NULL DEFAULT '',
    ADD COLUMN operation varchar(64) NOT NULL DEFAULT '',
    ADD COLUMN provider varchar(64) NOT NULL DEFAULT '',
    ADD COLUMN release varchar(64) NOT NULL DEFAULT '',
    ADD COLUMN decision varchar(64) NOT NULL DEFAULT '',
    ADD COLUMN agent varchar(120) NOT NULL DEFAULT '',
    ADD COLUMN tool varchar(120) NOT NULL DEFAULT '',
    ADD COLUMN links jsonb NOT NULL DEFAULT '[]';
UPDATE telemetry_span SET operation = 'chat', usage_by = 2 WHERE input_tokens IS NOT NULL OR output_tokens IS NOT NULL;
"""

INDEXES = """
ALTER TABLE telemetry_span DROP CONSTRAINT telemetry_span_pkey;
ALTER TABLE telemetry_span ADD PRIMARY KEY (trace_id, span_id, starts_at);
DROP INDEX telemetry_span_trace;
CREATE INDEX telemetry_span_time ON telemetry_span USING brin (starts_at) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX telemetry_span_tenant_roots ON telemetry_span (tenant, starts_at DESC) WHERE parent_span_id = '';
CREATE INDEX telemetry_span_errors ON telemetry_span (starts_at DESC) WHERE status = 2;
CREATE INDEX telemetry_span_sessions ON telemetry_span (session, starts_at DESC) WHERE session <> '';
"""

MESSAGES = """
CREATE TABLE telemetry_message (
    starts_at timestamptz NOT NULL,
    trace_id varchar(32) NOT NULL,
    span_id varchar(16) NOT NULL,
    name varchar(200) NOT NULL,
    tenant varchar(64) NOT NULL,
    content text NOT NULL,
    PRIMARY KEY (trace_id, span_id, name, starts_at)
) PARTITION BY RANGE (starts_at);
CREATE TABLE telemetry_message_strays PARTITION OF telemetry_message DEFAULT;
"""


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0002_distributions_and_spans")]

    operations = [
        migrations.RunSQL(
            COLUMNS,
            "ALTER TABLE telemetry_span DROP COLUMN usage_by, DROP COLUMN cached_tokens, DROP COLUMN reasoning_tokens, "
            "DROP COLUMN ttft_us, DROP COLUMN scope, DROP COLUMN operation, DROP COLUMN provider, DROP COLUMN release, "
            "DROP COLUMN decision, DROP COLUMN agent, DROP COLUMN tool, DROP COLUMN links;",
        ),
        migrations.RunSQL(
            INDEXES,
            "DROP INDEX telemetry_span_time, telemetry_span_tenant_roots, telemetry_span_errors, telemetry_span_sessions; "
            "CREATE INDEX telemetry_span_trace ON telemetry_span (trace_id); "
            "ALTER TABLE telemetry_span DROP CONSTRAINT telemetry_span_pkey; "
            "ALTER TABLE telemetry_span ADD PRIMARY KEY (starts_at, trace_id, span_id);",
        ),
        migrations.RunSQL(MESSAGES, "DROP TABLE telemetry_message;"),
    ]

"""Merging inside SQL for distributions and counts, and the partitioned table of spans with a partition for strays."""

from django.db import migrations

MERGE_DISTRIBUTIONS = """
CREATE FUNCTION tg_dist_merge(a bigint[], b bigint[]) RETURNS bigint[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN coalesce(cardinality(a), 0) = 0 THEN b
        WHEN coalesce(cardinality(b), 0) = 0 THEN a
        ELSE ARRAY[a[1] + b[1], a[2] + b[2], least(a[3], b[3]), greatest(a[4], b[4])] || ARRAY(
            SELECT (bucket << 40) + sum(amount)::bigint
            FROM (
                SELECT packed >> 40 AS bucket, packed & ((1::bigint << 40) - 1) AS amount
                FROM unnest(a[5:] || b[5:]) AS packed
            ) AS unpacked
            GROUP BY bucket
            ORDER BY bucket
        )
    END
$$;
CREATE AGGREGATE tg_dist_sum(bigint[]) (SFUNC = tg_dist_merge, STYPE = bigint[], INITCOND = '{}');
"""

MERGE_COUNTS = """
CREATE FUNCTION tg_counts_merge(a jsonb, b jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN a = '{}'::jsonb THEN b
        WHEN b = '{}'::jsonb THEN a
        ELSE (
            SELECT jsonb_object_agg(key, amount)
            FROM (
                SELECT key, sum(value::bigint) AS amount
                FROM (SELECT * FROM jsonb_each_text(a) UNION ALL SELECT * FROM jsonb_each_text(b)) AS entries
                GROUP BY key
            ) AS sums
        )
    END
$$;
CREATE AGGREGATE tg_counts_sum(jsonb) (SFUNC = tg_counts_merge, STYPE = jsonb, INITCOND = '{}');
"""

SPANS = """
CREATE TABLE telemetry_span (
    starts_at timestamptz NOT NULL,
    trace_id varchar(32) NOT NULL,
    span_id varchar(16) NOT NULL,
    parent_span_id varchar(16) NOT NULL DEFAULT '',
    duration_us bigint NOT NULL,
    tenant varchar(64) NOT NULL DEFAULT '',
    service varchar(120) NOT NULL DEFAULT '',
    name varchar(200) NOT NULL,
    kind smallint NOT NULL DEFAULT 0,
    status smallint NOT NULL DEFAULT 0,
    status_message varchar(500) NOT NULL DEFAULT '',
    route varchar(64) NOT NULL DEFAULT '',
    model varchar(120) NOT NULL DEFAULT '',
    session varchar(120) NOT NULL DEFAULT '',
    "user" varchar(120) NOT NULL DEFAULT '',
    input_tokens bigint,
    output_tokens bigint,
    cost_nusd bigint,
    attributes jsonb NOT NULL DEFAULT '{}',
    resource jsonb NOT NULL DEFAULT '{}',
    events jsonb NOT NULL DEFAULT '[]',
    PRIMARY KEY (starts_at, trace_id, span_id)
) PARTITION BY RANGE (starts_at);
CREATE TABLE telemetry_span_strays PARTITION OF telemetry_span DEFAULT;
CREATE INDEX telemetry_span_trace ON telemetry_span (trace_id);
CREATE INDEX telemetry_span_roots ON telemetry_span (starts_at DESC) WHERE parent_span_id = '';
"""


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0001_initial")]

    operations = [
        migrations.RunSQL(
            MERGE_DISTRIBUTIONS,
            "DROP AGGREGATE tg_dist_sum(bigint[]); DROP FUNCTION tg_dist_merge(bigint[], bigint[]);",
        ),
        migrations.RunSQL(
            MERGE_COUNTS,
            "DROP AGGREGATE tg_counts_sum(jsonb); DROP FUNCTION tg_counts_merge(jsonb, jsonb);",
        ),
        migrations.RunSQL(SPANS, "DROP TABLE telemetry_span;"),
    ]

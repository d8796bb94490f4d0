"""Sums that stay inside a bigint, whatever is reported: counts stop at what fits. So many calls nobody has; liars say so."""

from django.db import migrations

WHOLE = """
CREATE FUNCTION tg_whole(amount numeric) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN amount > 9e18 THEN 9e18 ELSE amount END::bigint
$$;
"""

MERGE_DISTRIBUTIONS = """
CREATE OR REPLACE FUNCTION tg_dist_merge(a bigint[], b bigint[]) RETURNS bigint[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN coalesce(cardinality(a), 0) = 0 THEN b
        WHEN coalesce(cardinality(b), 0) = 0 THEN a
        ELSE ARRAY[
            {count}, {total}, least(a[3], b[3]), greatest(a[4], b[4])
        ] || ARRAY(
            SELECT (bucket << 40) + {amount}::bigint
            FROM (
                SELECT packed >> 40 AS bucket, packed & ((1::bigint << 40) - 1) AS amount
                FROM unnest(a[5:] || b[5:]) AS packed
            ) AS unpacked
            GROUP BY bucket
            ORDER BY bucket
        )
    END
$$;
"""
BOUNDED = {
    "count": "least(a[1]::numeric + b[1], 4611686018427387903)::bigint",
    "total": "least(a[2]::numeric + b[2], 4611686018427387903)::bigint",
    "amount": "least(sum(amount), (1::bigint << 40) - 1)",
}
UNBOUNDED = {"count": "a[1] + b[1]", "total": "a[2] + b[2]", "amount": "sum(amount)"}

MERGE_COUNTS = """
CREATE OR REPLACE FUNCTION tg_counts_merge(a jsonb, b jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN a = '{{}}'::jsonb THEN b
        WHEN b = '{{}}'::jsonb THEN a
        ELSE (
            SELECT jsonb_object_agg(key, amount)
            FROM (
                SELECT key, {amount} AS amount
                FROM (SELECT * FROM jsonb_each_text(a) UNION ALL SELECT * FROM jsonb_each_text(b)) AS entries
                GROUP BY key
            ) AS sums
        )
    END
$$;
"""


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0011_span_sums")]

    operations = [
        migrations.RunSQL(WHOLE, "DROP FUNCTION tg_whole(numeric);"),
        migrations.RunSQL(MERGE_DISTRIBUTIONS.format(**BOUNDED), MERGE_DISTRIBUTIONS.format(**UNBOUNDED)),
        migrations.RunSQL(
            MERGE_COUNTS.format(amount="least(sum(value::bigint), 4611686018427387903)"),
            MERGE_COUNTS.format(amount="sum(value::bigint)"),
        ),
    ]

"""Folding spans into what traces are like (``telemetry.shapes``): the words of every trace by its first span, and how many have which.

What a trace is like is only ever added to, span by span: sums get the difference between what was known of it and what is now. To fold a
span of time twice changes nothing, for there is no difference the second time.
"""

from __future__ import annotations

from datetime import datetime

from django.db import connection

from controlplane.telemetry.resolutions import EVERYBODY
from controlplane.telemetry.shapes import COLUMNS, FAILED, HEADS, HERE, STEPS
from controlplane.telemetry.spansums import FIRST_SPANS

# So long before and after its spans the first one of a trace is sought, and theirs beside it.
_KNOWN = "interval '1 day'"
_KEY = "trace_id, span_id, starts_at"
_TOLD = "tenant, status, service, name, duration_us"  # of a first span, beside its key
_EITHER = ", ".join(f"coalesce(first.{column}, old.{column}) AS {column}" for column in _TOLD.split(", "))
_NAMED = ", ".join(COLUMNS)
_FACTS = f"{_NAMED}, CASE WHEN status = 2 THEN tenant END AS failed"
_TELLS = "(" + " OR ".join((*(f"{column} <> ''" for column in COLUMNS), "status = 2")) + ")"
_WORDS = ", ".join(
    (
        *(f"(CASE WHEN {column} <> '' THEN '{column}=' || {column} END)" for column in COLUMNS),
        f"(CASE WHEN failed IS NOT NULL THEN '{FAILED}' END)",
        f"('{FAILED}=' || CASE WHEN failed = tenant THEN '{HERE}' ELSE failed END)",
    )
)
_NEAR = f"starts_at >= %(since)s - {_KNOWN} AND starts_at < %(until)s + {_KNOWN}"
_WITHIN = "starts_at >= %(since)s AND starts_at < %(until)s"
_FIRST = FIRST_SPANS.replace("%s", "%(since)s").format(clause="AND r.starts_at < %(until)s", order="")


def _sum(step_s: int, name: str, source: str) -> str:
    """Return SQL that adds differences to the sums of windows of ``step_s``."""
    return f"""
        INSERT INTO telemetry_shape_{name} AS kept (starts_at, tenant, shape, traces, errors)
        SELECT date_bin(interval '{step_s} seconds', starts_at, '1970-01-01Z'), tenant, shape, sum(traces), sum(errors) FROM {source}
        GROUP BY 1, 2, 3 HAVING sum(traces) <> 0 OR sum(errors) <> 0
        ON CONFLICT (tenant, starts_at, shape) DO UPDATE SET traces = kept.traces + excluded.traces, errors = kept.errors + excluded.errors"""  # noqa: S608


# said: what spans of the time tell of their traces. first: those that traces begin with. old: what was known of both. Of a trace that
# nothing was known of all spans are looked at, for what came before its first one.
_FOLD = f"""
    WITH said AS MATERIALIZED (
        SELECT trace_id, {_FACTS} FROM telemetry_span WHERE {_WITHIN} AND {_TELLS} GROUP BY 1, 2, 3, 4, 5),
    first AS MATERIALIZED (SELECT {_KEY}, {_TOLD} FROM ({_FIRST}) AS first),
    old AS MATERIALIZED (
        SELECT head.* FROM (SELECT DISTINCT trace_id FROM said) AS named CROSS JOIN LATERAL (
            SELECT {_KEY}, {_TOLD}, shape FROM {HEADS} AS of WHERE of.trace_id = named.trace_id AND {_NEAR} OFFSET 0) AS head
        UNION SELECT {_KEY}, {_TOLD}, shape FROM {HEADS} WHERE {_WITHIN}),
    heads AS MATERIALIZED (
        SELECT row_number() OVER () AS id, {_KEY}, {_EITHER},
               old.shape AS was, first.tenant IS NULL AND {_WITHIN} AS gone
        FROM first FULL JOIN old USING ({_KEY})),
    facts AS (
        SELECT id, heads.tenant, {_NAMED}, failed FROM heads JOIN said USING (trace_id) WHERE was IS NOT NULL AND NOT gone
        UNION ALL
        SELECT id, heads.tenant, {_NAMED}, failed FROM heads CROSS JOIN LATERAL (
            SELECT {_FACTS} FROM telemetry_span AS s WHERE s.trace_id = heads.trace_id AND {_NEAR} AND {_TELLS} OFFSET 0) AS span
        WHERE was IS NULL),
    worded AS (
        SELECT id, array_agg(word ORDER BY word COLLATE "C") AS words FROM (
            SELECT id, word FROM (SELECT DISTINCT * FROM facts) AS fact CROSS JOIN LATERAL (VALUES {_WORDS}) AS each (word) WHERE word IS NOT NULL
            UNION SELECT heads.id, unnest(known.words) FROM heads JOIN telemetry_trace_shape AS known
                  ON known.id = was AND known.starts_at = date_trunc('day', heads.starts_at, 'UTC')) AS every GROUP BY id),
    made AS (
        SELECT heads.*, coalesce(words, '{{}}') AS words,
               CASE WHEN NOT gone THEN md5(array_to_string(coalesce(words, '{{}}'), chr(31)))::uuid END AS shape
        FROM heads LEFT JOIN worded USING (id)),
    changed AS MATERIALIZED (SELECT * FROM made WHERE shape IS DISTINCT FROM was),
    shapes AS (
        INSERT INTO telemetry_trace_shape (starts_at, id, words)
        SELECT DISTINCT date_trunc('day', starts_at, 'UTC'), shape, words FROM changed WHERE shape IS NOT NULL ON CONFLICT DO NOTHING),
    kept AS (
        INSERT INTO {HEADS} ({_KEY}, {_TOLD}, shape)
        SELECT {_KEY}, {_TOLD}, shape FROM changed WHERE shape IS NOT NULL
        ON CONFLICT ({_KEY}) DO UPDATE SET shape = excluded.shape),
    dropped AS (DELETE FROM {HEADS} AS of USING changed WHERE changed.shape IS NULL AND of.trace_id = changed.trace_id
                AND of.span_id = changed.span_id AND of.starts_at = changed.starts_at),
    differences AS MATERIALIZED (
        SELECT date_bin(interval '{STEPS[0][0]} seconds', starts_at, '1970-01-01Z') AS starts_at,
               CASE WHEN grouping(tenant) = 0 THEN tenant ELSE '{EVERYBODY}' END AS tenant, shape, sum(traces) AS traces, sum(errors) AS errors
        FROM (SELECT starts_at, tenant, shape, 1 AS traces, (status = 2)::int AS errors FROM changed WHERE shape IS NOT NULL
              UNION ALL SELECT starts_at, tenant, was, -1, -(status = 2)::int FROM changed WHERE was IS NOT NULL) AS each
        GROUP BY GROUPING SETS ((1, tenant, shape), (1, shape))),
    short AS ({_sum(*STEPS[0], "differences")})
    {_sum(*STEPS[1], "differences")}"""  # noqa: S608 - names of ours


def fold_shapes(begins: datetime, ends: datetime) -> None:
    """Fold what the spans of a span of time tell of their traces, in the caller's transaction."""
    with connection.cursor() as cursor:
        cursor.execute(_FOLD, {"since": begins, "until": ends})

"""SQL that adds spans up, in one place for what the worker keeps and for what pages read of the spans that are not folded yet.

Traces count where their first span begins, edges of the mesh where the one called begins, sessions on the days of their spans.
"""

from __future__ import annotations

from typing import NamedTuple

from controlplane.telemetry.resolutions import Rung

MARK = "spans"  # until when, in the table of marks, all of it is folded
NAMES = "names"  # the same of the names of users
RAW = "telemetry_span"
FINE_S = 10
STEPS = ((FINE_S, "10s"), (900, "15m"), (21600, "6h"))
MOST_SPANS = 50_000  # of those that are not folded, for one mesh
TRACES = (*(Rung(step_s, f"telemetry_traces_{name}", MARK) for step_s, name in reversed(STEPS)), Rung(FINE_S, RAW))
MESH = (*(Rung(step_s, f"telemetry_mesh_{name}", MARK) for step_s, name in reversed(STEPS)), Rung(FINE_S, RAW))


class Kept(NamedTuple):
    """A kind of sums: its tables begin with ``prefix``, ``names`` tell their rows apart, ``sums`` add up."""

    prefix: str
    names: tuple[str, ...]
    sums: tuple[str, ...]


OF_TRACES = Kept("telemetry_traces", ("tenant",), ("traces", "errors"))
OF_MESH = Kept(
    "telemetry_mesh",
    ("tenant", "from_tenant", "from_kind", "from_name", "to_kind", "to_name"),
    ("calls", "errors", "tokens", "cost_nusd", "duration_us"),
)

# The first spans of traces: roots, and for traces whose root never came what was first of the rest.
FIRST_SPANS = """(SELECT r.*, FALSE AS rootless FROM telemetry_span AS r WHERE r.parent_span_id = '' AND r.starts_at >= %s {clause}
             {order})
            UNION ALL
            (SELECT r.*, TRUE FROM telemetry_rootless AS less JOIN telemetry_span AS r USING (trace_id, span_id, starts_at)
             WHERE less.starts_at >= %s {clause} AND NOT EXISTS (
                SELECT 1 FROM telemetry_span AS c WHERE c.trace_id = r.trace_id AND c.parent_span_id = '') {order})"""

_PARTY = """tenant, trace_id, span_id, parent_span_id, starts_at, status, duration_us, coalesce(cost_nusd, 0) AS cost_nusd,
                   coalesce(input_tokens, 0) + coalesce(output_tokens, 0) AS tokens,
                   CASE WHEN operation IN ('invoke_agent', 'create_agent') AND agent <> '' THEN 'agent'
                        WHEN operation = 'execute_tool' AND tool <> '' THEN 'tool'
                        WHEN usage_by > 0 AND model <> '' THEN 'model'
                        WHEN parent_span_id = '' THEN 'service' ELSE '' END AS kind,
                   CASE WHEN operation IN ('invoke_agent', 'create_agent') AND agent <> '' THEN agent
                        WHEN operation = 'execute_tool' AND tool <> '' THEN tool
                        WHEN usage_by > 0 AND model <> '' THEN model ELSE service END AS name"""


def calls_between(scope: str = "", limit: str = "") -> str:
    """Return SQL for who called whom, a row for each call that began in a span of time.

    Parameters: since, until, those of ``scope``, since, until, those of ``scope``. Columns: those of ``telemetry_mesh`` without
    sums, then ``starts_at``, status, tokens, cost and duration of the one called. A caller is sought among the spans of its trace
    that began within six hours before.
    """
    return f"""
        WITH RECURSIVE party AS MATERIALIZED (
            SELECT {_PARTY} FROM telemetry_span WHERE starts_at >= %s AND starts_at < %s {scope} {limit}),
        known AS MATERIALIZED (
            SELECT {_PARTY} FROM telemetry_span
            WHERE trace_id IN (SELECT DISTINCT trace_id FROM party WHERE kind <> '' AND parent_span_id <> '')
            AND starts_at >= %s - interval '6 hours' AND starts_at < %s + interval '1 hour' {scope}),
        up AS (
            SELECT party.*, caller.kind AS from_kind, caller.name AS from_name, caller.tenant AS from_tenant,
                   caller.parent_span_id AS above, 0 AS hops
            FROM party JOIN known AS caller ON caller.trace_id = party.trace_id AND caller.span_id = party.parent_span_id
            WHERE party.kind <> ''
            UNION ALL
            SELECT up.tenant, up.trace_id, up.span_id, up.parent_span_id, up.starts_at, up.status, up.duration_us, up.cost_nusd, up.tokens,
                   up.kind, up.name, caller.kind, caller.name, caller.tenant, caller.parent_span_id, hops + 1
            FROM up JOIN known AS caller ON caller.trace_id = up.trace_id AND caller.span_id = up.above
            WHERE up.from_kind = '' AND hops < 32)
        SELECT tenant, from_tenant, from_kind, from_name, kind AS to_kind, name AS to_name, starts_at, status, tokens, cost_nusd,
               duration_us
        FROM up WHERE from_kind <> '' AND (from_kind, from_name) <> (kind, name)"""  # noqa: S608 - clauses of ours


def sessions_between(scope: str = "", source: str = "telemetry_span AS c") -> str:
    """Return SQL for what sessions come to in a span of time, with the columns of ``telemetry_session_day`` after its first one.

    Parameters: since thrice, until, those of ``source``, since, until, those of ``scope``. A session's errors are all failed spans of
    its turns in its tenant, also of those that don't name the session. A trace that began before is a turn of then: of traces that go on
    within an hour that is looked up.
    """
    tokens = "coalesce(c.input_tokens, 0) + coalesce(c.output_tokens, 0)"
    return f"""
        SELECT tenant, session, left(coalesce(string_agg(DISTINCT said, chr(10)), ''), 4000) AS users, max(service) AS service,
               min(first_at) AS first_at, max(last_at) AS last_at,
               count(*) FILTER (WHERE NOT (first_at < %s + interval '1 hour' AND EXISTS (
                   SELECT 1 FROM telemetry_span AS p WHERE p.trace_id = turn.trace_id AND p.session = turn.session
                   AND p.starts_at < %s))) AS turns,
               tg_whole(sum(spans)) AS spans,
               tg_whole(sum((SELECT count(*) FROM telemetry_span AS f WHERE f.trace_id = turn.trace_id AND f.tenant = turn.tenant
                             AND f.status = 2 AND f.starts_at >= %s AND f.starts_at < %s))) AS errors,
               tg_whole(coalesce(sum(tokens_told), 0)) AS tokens_told, tg_whole(coalesce(sum(tokens_seen), 0)) AS tokens_seen,
               tg_whole(coalesce(sum(cost_told_nusd), 0)) AS cost_told_nusd, tg_whole(coalesce(sum(cost_seen_nusd), 0)) AS cost_seen_nusd
        FROM (SELECT c.tenant, c.session, c.trace_id, max(nullif(c."user", '')) AS said, max(c.service) AS service,
                     min(c.starts_at) AS first_at, max(c.starts_at) AS last_at, count(*) AS spans,
                     sum({tokens}) FILTER (WHERE c.usage_by = 2) AS tokens_told, sum({tokens}) FILTER (WHERE c.usage_by <> 2) AS tokens_seen,
                     sum(c.cost_nusd) FILTER (WHERE c.usage_by = 2) AS cost_told_nusd,
                     sum(c.cost_nusd) FILTER (WHERE c.usage_by <> 2) AS cost_seen_nusd
              FROM {source}
              WHERE c.session <> '' AND c.starts_at >= %s AND c.starts_at < %s {scope} GROUP BY 1, 2, 3) AS turn
        GROUP BY tenant, session"""  # noqa: S608 - clauses of ours

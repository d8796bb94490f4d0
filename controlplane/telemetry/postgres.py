"""The store of spans on PostgreSQL: partitions by day, found by trace, by root, by error and by session."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import OperationalError, connection, transaction

from controlplane.problems import Unavailable
from controlplane.telemetry.models import Span
from controlplane.telemetry.store import Edge, Session, Slot, Trace, TraceFilter, Wanted

PATIENCE_MS = 4_000
MOST_EDGES = 400
_ANY_SPAN = ("route", "model", "release", "session", "user", "agent", "tool", "operation")
_TOKENS = "coalesce(c.input_tokens, 0) + coalesce(c.output_tokens, 0)"


class TooDear(Unavailable):
    """The question takes too long to answer: it has to be made narrower."""


def patient_rows(sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return the rows of a statement that may take ``PATIENCE_MS``."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(PATIENCE_MS)])
            cursor.execute(sql, list(values))
            found = list(cursor.fetchall())
            cursor.execute("SELECT set_config('statement_timeout', '0', true)")
            return found
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", "") == "57014":  # query_canceled
            raise TooDear(
                "This takes too long to find: choose a shorter time or a tenant, or filter by session, error or trace."
            ) from None
        raise


def _summed(column: str) -> str:
    """Return SQL for a sum over spans ``c`` that counts what both our SDK and an instrumentation saw once."""
    return (
        f"greatest(coalesce(sum({column}) FILTER (WHERE c.usage_by = 2), 0), "
        f"coalesce(sum({column}) FILTER (WHERE c.usage_by <> 2), 0))::bigint"
    )


class _Clauses:
    """The rest of a WHERE over first spans ``r``, and its parameters."""

    def __init__(self) -> None:
        self.text = ""
        self.values: list[Any] = []

    def add(self, clause: str, *values: Any) -> None:
        self.text += f" AND {clause}"
        self.values += values


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _like(text: str) -> str:
    return "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"


def _clauses(wanted: Wanted) -> _Clauses:
    found = _Clauses()
    if wanted.slugs is not None:
        found.add("r.tenant = ANY(%s)", list(wanted.slugs))
    if wanted.until is not None:
        found.add("r.starts_at < %s", wanted.until)
    _of_root(wanted.filter, found)
    _of_any_span(wanted, found)
    _of_sums(wanted.filter, found)
    at, _, trace_id = wanted.cursor.partition("~")
    if trace_id:
        found.add("(r.starts_at, r.trace_id) < (%s::timestamptz, %s)", at, trace_id)
    return found


def _of_root(wanted: TraceFilter, found: _Clauses) -> None:
    if wanted.text:
        like = _like(wanted.text)
        found.add("(r.name ILIKE %s OR r.service ILIKE %s)", like, like)
    if wanted.trace_id:
        found.add("r.trace_id = %s", wanted.trace_id.strip().lower())
    if wanted.service:
        found.add("r.service = %s", wanted.service)
    for value, sign in ((wanted.min_ms, ">="), (wanted.max_ms, "<=")):
        if (limit := _number(value)) is not None:
            found.add(f"r.duration_us {sign} %s", limit * 1000)


def _of_any_span(wanted: Wanted, found: _Clauses) -> None:
    inside = "r.trace_id IN (SELECT c.trace_id FROM telemetry_span AS c WHERE c.starts_at >= %s AND {})"
    exists = "EXISTS (SELECT 1 FROM telemetry_span AS c WHERE c.trace_id = r.trace_id AND {})"
    since = wanted.since - timedelta(hours=1)  # a span may begin a little before what is called the first
    for column in _ANY_SPAN:
        value = getattr(wanted.filter, column)
        if value:
            clause = f'c."{column}" = %s'
            if column == "session":
                found.add(inside.format(clause), since, value)
            else:
                found.add(exists.format(clause), value)
    if wanted.filter.status == "error":
        found.add(inside.format("c.status = 2"), since)
    elif wanted.filter.status == "ok":
        found.add("NOT " + exists.format("c.status = 2"))
    key, equals, value = wanted.filter.attribute.partition("=")
    if equals:
        clause = "(c.attributes ->> %s = %s OR c.resource ->> %s = %s)"
        found.add(exists.format(clause), key.strip(), value.strip(), key.strip(), value.strip())
    elif key:
        found.add(exists.format("(c.attributes ? %s OR c.resource ? %s)"), key.strip(), key.strip())


def _of_sums(wanted: TraceFilter, found: _Clauses) -> None:
    for value, column, factor in ((wanted.min_tokens, _TOKENS, 1), (wanted.min_usd, "c.cost_nusd", 10**9)):
        if (least := _number(value)) is not None:
            subject = f"(SELECT {_summed(column)} FROM telemetry_span AS c WHERE c.trace_id = r.trace_id)"  # noqa: S608
            found.add(f"{subject} >= %s", least * factor)


# The first spans of traces: roots, and for traces whose root never came what was first of the rest.
_FIRST = """(SELECT r.*, FALSE AS rootless FROM telemetry_span AS r WHERE r.parent_span_id = '' AND r.starts_at >= %s {clause}
             {order})
            UNION ALL
            (SELECT r.*, TRUE FROM telemetry_rootless AS less JOIN telemetry_span AS r USING (trace_id, span_id, starts_at)
             WHERE less.starts_at >= %s {clause} AND NOT EXISTS (
                SELECT 1 FROM telemetry_span AS c WHERE c.trace_id = r.trace_id AND c.parent_span_id = '') {order})"""


def first_spans(wanted: Wanted) -> tuple[str, list[Any]]:
    """Return SQL for the first spans of the traces that fit, and its parameters."""
    clauses = _clauses(wanted)
    return _FIRST.format(clause=clauses.text, order=""), [wanted.since, *clauses.values] * 2


class PostgresSpans:
    """Implements ``SpanStore``."""

    def traces(self, wanted: Wanted, limit: int) -> list[Trace]:
        if wanted.cursor:
            datetime.fromisoformat(wanted.cursor.partition("~")[0])
        clauses = _clauses(wanted)
        first = _FIRST.format(clause=clauses.text, order="ORDER BY r.starts_at DESC, r.trace_id DESC LIMIT %s")
        once = [wanted.since, *clauses.values, limit]
        sql = f"""
            WITH page AS ({first} ORDER BY starts_at DESC, trace_id DESC LIMIT %s)
            SELECT r.trace_id, r.starts_at, r.duration_us, r.tenant, r.service, r.name, r.status, r.rootless, sums.*
            FROM page AS r CROSS JOIN LATERAL (
                SELECT coalesce(max(nullif(c.session, '')), ''), coalesce(max(nullif(c."user", '')), ''),
                       coalesce(max(nullif(c.route, '')), ''), coalesce(max(nullif(c.model, '')), ''),
                       coalesce(max(nullif(c.release, '')), ''), count(*), count(*) FILTER (WHERE c.status = 2),
                       {_summed(_TOKENS)}, {_summed("c.cost_nusd")}
                FROM telemetry_span AS c WHERE c.trace_id = r.trace_id) AS sums
            ORDER BY r.starts_at DESC, r.trace_id DESC"""  # noqa: S608 - clauses of ours, values as parameters
        return [Trace(*row) for row in patient_rows(sql, [*once, *once, limit])]

    def slots(self, wanted: Wanted, step_s: int) -> list[Slot]:
        first, values = first_spans(wanted)
        sql = f"""SELECT date_bin(%s, starts_at, %s) AS slot, count(*), count(*) FILTER (WHERE status = 2)
                  FROM ({first}) AS first GROUP BY 1 ORDER BY 1"""  # noqa: S608 - as above
        return [Slot(*row) for row in patient_rows(sql, [timedelta(seconds=step_s), wanted.since, *values])]

    def spans(self, trace_id: str, slugs: Sequence[str] | None, limit: int, *, light: bool = False) -> list[Span]:
        found = Span.objects.filter(trace_id=trace_id)
        if slugs is not None:
            found = found.filter(tenant__in=slugs)
        if light:
            found = found.defer("attributes", "resource", "events", "links")
        return list(found.order_by("starts_at", "span_id")[:limit])

    def span(self, trace_id: str, span_id: str, slugs: Sequence[str] | None) -> Span | None:
        found = Span.objects.filter(trace_id=trace_id, span_id=span_id)
        return (found if slugs is None else found.filter(tenant__in=slugs)).first()

    def count(self, trace_id: str, slugs: Sequence[str] | None) -> int:
        found = Span.objects.filter(trace_id=trace_id)
        return (found if slugs is None else found.filter(tenant__in=slugs)).count()

    def edges(self, slugs: Sequence[str] | None, since: datetime, until: datetime) -> list[Edge]:
        scope, values = ("AND tenant = ANY(%s)", [list(slugs)]) if slugs is not None else ("", [])
        sql = f"""
            WITH RECURSIVE hit AS MATERIALIZED (
                SELECT trace_id, span_id, parent_span_id, status, duration_us, usage_by, cost_nusd,
                       coalesce(input_tokens, 0) + coalesce(output_tokens, 0) AS tokens,
                       CASE WHEN operation IN ('invoke_agent', 'create_agent') AND agent <> '' THEN 'agent'
                            WHEN operation = 'execute_tool' AND tool <> '' THEN 'tool'
                            WHEN usage_by > 0 AND model <> '' THEN 'model'
                            WHEN parent_span_id = '' THEN 'service' ELSE '' END AS kind,
                       CASE WHEN operation IN ('invoke_agent', 'create_agent') AND agent <> '' THEN agent
                            WHEN operation = 'execute_tool' AND tool <> '' THEN tool
                            WHEN usage_by > 0 AND model <> '' THEN model ELSE service END AS name
                FROM telemetry_span WHERE starts_at >= %s AND starts_at < %s {scope}
                ORDER BY starts_at DESC LIMIT 50000),
            up AS (
                SELECT trace_id, span_id AS of, parent_span_id AS at, 0 AS hops FROM hit WHERE kind <> ''
                UNION ALL
                SELECT up.trace_id, up.of, hit.parent_span_id, hops + 1 FROM up
                JOIN hit ON hit.trace_id = up.trace_id AND hit.span_id = up.at AND hit.kind = '' WHERE hops < 32)
            SELECT caller.kind, caller.name, party.kind, party.name, count(*), count(*) FILTER (WHERE party.status = 2),
                   coalesce(sum(party.tokens), 0)::bigint, coalesce(sum(party.cost_nusd), 0)::bigint,
                   sum(party.duration_us)::bigint
            FROM up JOIN hit AS caller ON caller.trace_id = up.trace_id AND caller.span_id = up.at AND caller.kind <> ''
            JOIN hit AS party ON party.trace_id = up.trace_id AND party.span_id = up.of
            WHERE (caller.kind, caller.name) <> (party.kind, party.name)
            GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC, 1, 2, 3, 4 LIMIT %s"""  # noqa: S608 - as above
        return [Edge(*row) for row in patient_rows(sql, [since, until, *values, MOST_EDGES])]

    def sessions(self, wanted: Wanted, limit: int) -> list[Session]:
        clauses, values = "", list[Any]()
        if wanted.slugs is not None:
            clauses += " AND c.tenant = ANY(%s)"
            values.append(list(wanted.slugs))
        for column in ("session", "user"):
            if value := getattr(wanted.filter, column):
                clauses += f' AND c."{column}" ILIKE %s'
                values.append(_like(value))
        sql = f"""
            SELECT c.session, coalesce(max(nullif(c."user", '')), ''), c.tenant, max(c.service),
                   min(c.starts_at), max(c.starts_at),
                   count(DISTINCT c.trace_id), count(*), count(*) FILTER (WHERE c.status = 2),
                   {_summed(_TOKENS)}, {_summed("c.cost_nusd")}
            FROM telemetry_span AS c WHERE c.session <> '' AND c.starts_at >= %s {clauses}
            GROUP BY c.session, c.tenant ORDER BY max(c.starts_at) DESC, c.session, c.tenant LIMIT %s"""  # noqa: S608 - as above
        return [Session(*row) for row in patient_rows(sql, [wanted.since, *values, limit])]

"""The store of spans on PostgreSQL: partitions by day, found by trace, by root, by error and by session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from controlplane.telemetry import shapes
from controlplane.telemetry.counted import (
    counted_calls,
    counted_traces,
    is_counted,
    newest_sessions,
    number,
    of_first_span,
)
from controlplane.telemetry.models import Span
from controlplane.telemetry.patience import patient_rows
from controlplane.telemetry.shaped import is_shaped, newest_shaped, shaped_traces
from controlplane.telemetry.spansums import FIRST_SPANS
from controlplane.telemetry.store import Edge, Session, Slot, Trace, TraceFilter, Wanted

MOST_EDGES = 400
MANY = 1000
_ANY_SPAN = ("route", "model", "release", "session", "user", "agent", "tool", "operation")
_TOKENS = "coalesce(c.input_tokens, 0) + coalesce(c.output_tokens, 0)"


def _summed(column: str) -> str:
    """Return SQL for a sum over spans ``c`` that counts what both our SDK and an instrumentation saw once."""
    return (
        f"tg_whole(greatest(coalesce(sum({column}) FILTER (WHERE c.usage_by = 2), 0), "
        f"coalesce(sum({column}) FILTER (WHERE c.usage_by <> 2), 0)))"
    )


class _Clauses:
    """The rest of a WHERE over first spans ``r``, and its parameters."""

    def __init__(self) -> None:
        self.text = ""
        self.values: list[Any] = []

    def add(self, clause: str, *values: Any) -> None:
        self.text += f" AND {clause}"
        self.values += values


def _clauses(wanted: Wanted, *, page: bool = False) -> _Clauses:
    """``page``: only the newest are wanted, so that traces are looked at one by one until there are enough."""
    found = _Clauses()
    if wanted.slugs is not None:
        found.add("r.tenant = ANY(%s)", list(wanted.slugs))
    if wanted.until is not None:
        found.add("r.starts_at < %s", wanted.until)
    _of_root(wanted.filter, found)
    _of_any_span(wanted, found, page=page)
    _of_sums(wanted.filter, found)
    at, _, trace_id = wanted.cursor.partition("~")
    if trace_id:
        found.add("(r.starts_at, r.trace_id) < (%s::timestamptz, %s)", at, trace_id)
    return found


def _of_root(wanted: TraceFilter, found: _Clauses) -> None:
    clauses, values = of_first_span(wanted, "r.")
    found.text += clauses
    found.values += values
    if wanted.trace_id:
        found.add("r.trace_id = %s", wanted.trace_id.strip().lower())


_INSIDE = "r.trace_id IN (SELECT c.trace_id FROM telemetry_span AS c WHERE c.starts_at >= %s AND {})"
_EXISTS = "EXISTS (SELECT 1 FROM telemetry_span AS c WHERE c.trace_id = r.trace_id AND {})"


def _of_any_span(wanted: Wanted, found: _Clauses, *, page: bool) -> None:
    # With an OFFSET it is not joined.
    inside, exists = _INSIDE, _EXISTS.replace("{}", "{} OFFSET 0") if page else _EXISTS
    since = wanted.since - timedelta(hours=1)  # a span may begin a little before what is called the first
    for column in _ANY_SPAN:
        value = getattr(wanted.filter, column)
        if value:
            clause = f'c."{column}" = %s'
            if column == "session" or (column == "user" and _is_rare(clause, [value], wanted)):
                found.add(inside.format(clause), since, value)
            else:
                found.add(exists.format(clause), value)
    _of_status(wanted, found, exists, page=page)
    key, equals, value = wanted.filter.attribute.partition("=")
    if equals:
        clause = "(c.attributes ->> %s = %s OR c.resource ->> %s = %s)"
        found.add(exists.format(clause), key.strip(), value.strip(), key.strip(), value.strip())
    elif key:
        found.add(exists.format("(c.attributes ? %s OR c.resource ? %s)"), key.strip(), key.strip())


def _of_status(wanted: Wanted, found: _Clauses, exists: str, *, page: bool) -> None:
    if wanted.filter.status == "error":
        failed, values = "c.status = 2", list[Any]()
        if wanted.slugs is not None:
            failed, values = f"{failed} AND c.tenant = ANY(%s)", [list(wanted.slugs)]
        if page and not _is_rare("c.status = 2", [], wanted):
            found.add(exists.format(failed), *values)
        else:
            found.add(_INSIDE.format(failed), wanted.since - timedelta(hours=1), *values)
    elif wanted.filter.status == "ok":
        found.add("NOT " + exists.format("c.status = 2"))


def _is_rare(clause: str, of_clause: Sequence[Any], wanted: Wanted) -> bool:
    """Return whether so few spans fit that it is better to begin with them than with traces, of which many have one."""
    scope, values = ("", []) if wanted.slugs is None else ("AND c.tenant = ANY(%s)", [list(wanted.slugs)])
    sql = f"""SELECT count(*) FROM (
                  SELECT 1 FROM telemetry_span AS c WHERE {clause} AND c.starts_at >= %s {scope} LIMIT {MANY}) AS found"""  # noqa: S608
    ((count,),) = patient_rows(sql, [*of_clause, wanted.since - timedelta(hours=1), *values])
    return int(count) < MANY


def _of_sums(wanted: TraceFilter, found: _Clauses) -> None:
    for value, column, factor in ((wanted.min_tokens, _TOKENS, 1), (wanted.min_usd, "c.cost_nusd", 10**9)):
        if (least := number(value)) is not None:
            subject = f"(SELECT {_summed(column)} FROM telemetry_span AS c WHERE c.trace_id = r.trace_id)"  # noqa: S608
            found.add(f"{subject} >= %s", least * factor)


def first_spans(wanted: Wanted, *, few: bool = False) -> tuple[str, list[Any]]:
    """Return SQL for the first spans of the traces that fit, and its parameters. ``few``: there are so few that each is looked at."""
    clauses = _clauses(wanted, page=few)
    return FIRST_SPANS.format(clause=clauses.text, order=""), [wanted.since, *clauses.values] * 2


def first_slots(wanted: Wanted, *, few: bool = False) -> tuple[str, list[Any]]:
    """Return the same with a row of ``starts_at``, traces and errors for each."""
    first, values = first_spans(wanted, few=few)
    return f"SELECT starts_at, 1 AS traces, (status = 2)::int AS errors FROM ({first}) AS first", values  # noqa: S608 - as above


def _counted(wanted: Wanted, step_s: int) -> tuple[str, list[Any]]:
    if is_counted(wanted):
        return counted_traces(wanted, step_s)
    if shapes.counts(wanted.filter) and not wanted.cursor:
        return shaped_traces(wanted, step_s, lambda newest: first_slots(newest, few=True))
    return first_slots(wanted)


def _newest(wanted: Wanted, limit: int) -> tuple[str, list[Any]]:
    """Return SQL for the newest first spans of traces that fit."""
    clauses = _clauses(wanted, page=True)
    sql = FIRST_SPANS.format(clause=clauses.text, order="ORDER BY r.starts_at DESC, r.trace_id DESC LIMIT %s")
    return sql, [wanted.since, *clauses.values, limit] * 2


def _newest_shaped(wanted: Wanted, limit: int) -> tuple[str, list[Any]]:
    """Return the same from what is kept of their shapes, and from the spans that are not folded yet."""
    (kept, named), mark = newest_shaped(wanted, limit)
    fresh, values = _newest(replace(wanted, since=mark), limit)
    return f"({kept}) UNION ALL ({fresh})", [*named, *values]


class PostgresSpans:
    """Implements ``SpanStore``."""

    def traces(self, wanted: Wanted, limit: int) -> list[Trace]:
        if wanted.cursor:
            datetime.fromisoformat(wanted.cursor.partition("~")[0])
        shaped = is_shaped(wanted) or (wanted.slugs is not None and shapes.answers(wanted.filter))
        first, values = _newest_shaped(wanted, limit) if shaped else _newest(wanted, limit)
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
        return [Trace(*row) for row in patient_rows(sql, [*values, limit])]

    def slots(self, wanted: Wanted, step_s: int) -> list[Slot]:
        sql, values = _counted(wanted, step_s)
        sql = f"""SELECT date_bin(%s, starts_at, %s) AS slot, tg_whole(sum(traces)), tg_whole(sum(errors))
                  FROM ({sql}) AS counted GROUP BY 1 ORDER BY 1"""  # noqa: S608 - as above
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
        sql, values = counted_calls(slugs, since, until)
        sql = f"""SELECT from_kind, from_name, to_kind, to_name, tg_whole(sum(calls)), tg_whole(sum(errors)), tg_whole(sum(tokens)),
                         tg_whole(sum(cost_nusd)), tg_whole(sum(duration_us))
                  FROM ({sql}) AS counted GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC, 1, 2, 3, 4 LIMIT %s"""  # noqa: S608 - as above
        return [Edge(*row) for row in patient_rows(sql, [*values, MOST_EDGES])]

    def sessions(self, wanted: Wanted, limit: int) -> list[Session]:
        return newest_sessions(wanted, limit)

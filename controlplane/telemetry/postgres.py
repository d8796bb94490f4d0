"""The store of spans on PostgreSQL: partitions by day, found by trace, by root, by error and by session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Max, Min, Sum

from controlplane.telemetry import sampled, shapes
from controlplane.telemetry.counted import (
    Statement,
    counted_calls,
    counted_traces,
    enough_since,
    is_counted,
    newest_sessions,
    number,
    of_first_span,
    together,
)
from controlplane.telemetry.models import Span
from controlplane.telemetry.patience import patient_rows
from controlplane.telemetry.said import Narrowed, narrowed
from controlplane.telemetry.shaped import is_shaped, newest_shaped, shaped_traces
from controlplane.telemetry.spansums import FIRST_SPANS
from controlplane.telemetry.store import Edge, Session, Slot, Slots, Trace, TraceFilter, TraceMark, Wanted
from controlplane.telemetry.terms import sought_by

MOST_EDGES = 400
MANY = 1000
FEW_TRACES = 1000  # of a tenant, that are looked at sooner than 50,000 spans of all
_ANY_SPAN = ("route", "model", "release", "session", "user")
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


def _clauses(wanted: Wanted, *, page: bool = False, near: str = "", traces: Sequence[str] | None = None) -> _Clauses:
    """``page``: traces are looked at one by one, as when only the newest are wanted; ``near``: at their spans of a time only.

    ``traces``: only at these.
    """
    found = _Clauses()
    if traces is not None:
        found.add("r.trace_id = ANY(%s)", list(traces))
    if wanted.slugs is not None:
        found.add("r.tenant = ANY(%s)", list(wanted.slugs))
    if wanted.until is not None:
        found.add("r.starts_at < %s", wanted.until)
    _of_root(wanted.filter, found)
    _of_any_span(wanted, found, page=page, near=near)
    _of_sums(wanted.filter, found, near)
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


def _of_any_span(wanted: Wanted, found: _Clauses, *, page: bool, near: str) -> None:
    # With an OFFSET it is not joined.
    inside, exists = _INSIDE, _EXISTS.replace("{}", f"{{}}{near} OFFSET 0") if page else _EXISTS
    since = wanted.since - timedelta(hours=1)  # a span may begin a little before what is called the first
    for column in _ANY_SPAN:
        value = getattr(wanted.filter, column)
        if value:
            clause = f'c."{column}" = %s'
            if column == "session" or (column == "user" and _is_rare(clause, [value], wanted)):
                # With the tenant, which the index of users begins with, and no asker learns of spans that others have.
                scope, slugs = ("", []) if wanted.slugs is None else (" AND c.tenant = ANY(%s)", [list(wanted.slugs)])
                found.add(inside.format(clause + scope), since, value, *slugs)
            else:
                found.add(exists.format(clause), value)
    _of_status(wanted, found, exists, page=page)
    for each in sought_by(wanted.filter):
        found.add(exists.format(each.clause), *each.values)


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


def _of_sums(wanted: TraceFilter, found: _Clauses, near: str) -> None:
    for value, column, factor in ((wanted.min_tokens, _TOKENS, 1), (wanted.min_usd, "c.cost_nusd", 10**9)):
        if (least := number(value)) is not None:
            subject = f"(SELECT {_summed(column)} FROM telemetry_span AS c WHERE c.trace_id = r.trace_id{near})"  # noqa: S608
            found.add(f"{subject} >= %s", least * factor)


def first_spans(wanted: Wanted, *, few: bool = False, traces: Sequence[str] | None = None) -> Statement:
    """Return SQL for the first spans of the traces that fit, and its parameters. ``few``: there are so few that each is looked at."""
    clauses = _clauses(wanted, page=few, traces=traces)
    return FIRST_SPANS.format(clause=clauses.text, order=""), [wanted.since, *clauses.values] * 2


def first_slots(wanted: Wanted, *, few: bool = False, traces: Sequence[str] | None = None) -> Statement:
    """Return the same with a row of ``starts_at``, traces and errors for each."""
    first, values = first_spans(wanted, few=few, traces=traces)
    return f"SELECT starts_at, 1 AS traces, (status = 2)::int AS errors FROM ({first}) AS first", values  # noqa: S608 - as above


def _counted(wanted: Wanted, step_s: int) -> tuple[Statement, int]:
    """Return SQL for rows of ``starts_at``, traces and errors, and one in how many traces they are counted from."""
    if is_counted(wanted):
        return counted_traces(wanted, step_s), 1
    of_heads = shapes.counts(wanted.filter)
    if not of_heads and _is_narrow(wanted):
        return first_slots(wanted), 1
    where = None if of_heads else narrowed(wanted)
    if where is not None and where.is_few:
        return first_slots(where.rest, few=True, traces=where.traces()), 1
    one_in = 1 if shapes.answers(wanted.filter) else sampled.share_of(wanted, step_s)
    if one_in > 1:
        return _sampled(wanted, one_in), one_in
    if of_heads:
        return shaped_traces(wanted, step_s, lambda newest: first_slots(newest, few=True)), 1
    return first_slots(wanted, few=sampled.folded_until(wanted) > wanted.since), 1


def _is_narrow(wanted: Wanted) -> bool:
    """Return whether a filter names what an index finds few traces by."""
    named = wanted.filter
    if named.session or named.trace_id:
        return True
    return bool(named.user) and _is_rare('c."user" = %s', [named.user], wanted)


def _sampled(wanted: Wanted, one_in: int) -> Statement:
    mark = sampled.folded_until(wanted)
    asked = replace(wanted, filter=sampled.without_words(wanted.filter), until=None)
    of_heads = _clauses(asked, page=True, near=sampled.NEAR)
    words = shapes.fitting(wanted, wanted.since, mark) if shapes.has_words(wanted.filter) else ("", [])
    heads = sampled.heads(one_in, words=words[0], clauses=of_heads.text)
    fresh = _clauses(replace(wanted, since=mark), page=True, near=sampled.NEAR)
    first = FIRST_SPANS.format(clause=f"{sampled.drawn(one_in)}{fresh.text}", order="")
    newest = f"SELECT starts_at, {one_in}, {one_in} * (status = 2)::int FROM ({first}) AS first"  # noqa: S608 - as above
    return together([(heads, [wanted.since, mark, *words[1], *of_heads.values]), (newest, [mark, *fresh.values] * 2)])


def _newest(wanted: Wanted, limit: int, traces: Sequence[str] | None = None) -> Statement:
    """Return SQL for the newest first spans of traces that fit."""
    clauses = _clauses(wanted, page=True, traces=traces)
    sql = FIRST_SPANS.format(clause=clauses.text, order="ORDER BY r.starts_at DESC, r.trace_id DESC LIMIT %s")
    return sql, [wanted.since, *clauses.values, limit] * 2


def _newest_shaped(wanted: Wanted, limit: int) -> tuple[str, list[Any]]:
    """Return the same from what is kept of their shapes, and from the spans that are not folded yet."""
    (kept, named), mark = newest_shaped(wanted, limit)
    fresh, values = _newest(replace(wanted, since=mark), limit)
    return f"({kept}) UNION ALL ({fresh})", [*named, *values]


def _walked(wanted: Wanted, limit: int, times: Sequence[datetime]) -> list[Trace]:
    """Return the newest traces that fit, looking at all from one after the other of ``times`` on until there are enough."""
    page = list[Trace]()
    for since in times:
        page = _listed(_newest(replace(wanted, since=since), limit), limit)
        if len(page) == limit:
            break
    return page


def _among(where: Narrowed, limit: int) -> list[Trace]:
    """Return the newest traces that fit, looking where something that is wanted may be said."""
    page = list[Trace]()
    for traces, told_since in where.portions():
        page = _listed(_newest(where.rest, limit, traces), limit) if traces else []
        if len(page) == limit and page[-1].starts_at >= told_since:
            break
    return page


def _listed(statement: Statement, limit: int) -> list[Trace]:
    """Return the newest of the traces whose first spans a statement has."""
    first, values = statement
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


class PostgresSpans:
    """Implements ``SpanStore``."""

    def traces(self, wanted: Wanted, limit: int) -> list[Trace]:
        if wanted.cursor:
            datetime.fromisoformat(wanted.cursor.partition("~")[0])
        if is_shaped(wanted) or (wanted.slugs is not None and shapes.answers(wanted.filter)):
            return _listed(_newest_shaped(wanted, limit), limit)
        where = narrowed(wanted)
        if where is not None and where.is_few:
            return _among(where, limit)
        times, known = ([wanted.since], None) if wanted.slugs is None else enough_since(wanted, (2 * limit, 16 * limit))
        if where is None or (known is not None and known <= FEW_TRACES):
            return _walked(wanted, limit, times)
        return _among(where, limit)

    def slots(self, wanted: Wanted, step_s: int) -> Slots:
        (sql, values), one_in = _counted(wanted, step_s)
        sql = f"""SELECT date_bin(%s, starts_at, %s) AS slot, tg_whole(sum(traces)), tg_whole(sum(errors))
                  FROM ({sql}) AS counted GROUP BY 1 ORDER BY 1"""  # noqa: S608 - as above
        found = patient_rows(sql, [timedelta(seconds=step_s), wanted.since, *values])
        return Slots([Slot(*row) for row in found], one_in)

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

    def mark(self, trace_id: str, slugs: Sequence[str] | None) -> TraceMark:
        found = Span.objects.filter(trace_id=trace_id)
        if slugs is not None:
            found = found.filter(tenant__in=slugs)
        return TraceMark(
            **found.aggregate(
                spans=Count("*"),
                begins=Min("starts_at"),
                last=Max("starts_at"),
                duration_us=Sum("duration_us", default=0),
                cost_nusd=Sum("cost_nusd", default=0),
            )
        )

    def edges(self, slugs: Sequence[str] | None, since: datetime, until: datetime) -> list[Edge]:
        sql, values = counted_calls(slugs, since, until)
        sql = f"""SELECT from_kind, from_name, to_kind, to_name, tg_whole(sum(calls)), tg_whole(sum(errors)), tg_whole(sum(tokens)),
                         tg_whole(sum(cost_nusd)), tg_whole(sum(duration_us))
                  FROM ({sql}) AS counted GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC, 1, 2, 3, 4 LIMIT %s"""  # noqa: S608 - as above
        return [Edge(*row) for row in patient_rows(sql, [*values, MOST_EDGES])]

    def sessions(self, wanted: Wanted, limit: int) -> list[Session]:
        return newest_sessions(wanted, limit)

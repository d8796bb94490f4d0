"""Folding spans into what pages ask of all of them: traces and edges of the mesh per window of time, sessions per day.

A span of time is computed anew from its spans, so that doing it twice changes nothing. What came late is found again: who stores spans of
a time that may be folded notes it in ``telemetry_late_spans`` in the same transaction. Notes are only added, so that storing never waits.
What has not been folded yet is read from the spans themselves (``telemetry.postgres``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection, transaction

from controlplane.telemetry import shapes, terms
from controlplane.telemetry.actions.span_terms import fold_terms
from controlplane.telemetry.actions.trace_shapes import fold_shapes
from controlplane.telemetry.actions.user_names import add_names
from controlplane.telemetry.resolutions import EVERYBODY, Interval, floor, whole_windows
from controlplane.telemetry.spansums import (
    FINE_S,
    FIRST_SPANS,
    MARK,
    NAMES,
    OF_MESH,
    OF_TRACES,
    STEPS,
    Kept,
    calls_between,
    sessions_between,
)

SETTLED = timedelta(seconds=15)  # after its end a window is taken to be complete
AGAIN = timedelta(seconds=20)  # what was folded last is folded once more, for transactions that took long
CHUNK = timedelta(minutes=10)  # in one statement
MOST_CHUNKS = 3  # in one go; a worker that was away goes on the next time
EVEN_OLDER = timedelta(days=2)  # of which some spans are gone: of those that are left is known what they say
MOST_LATE = timedelta(minutes=20)  # of what came late, in one go
FINE_KEPT = timedelta(hours=46)  # windows of ten seconds are older than that only by chance
FINE_DAYS = 2
_FINE = timedelta(seconds=FINE_S)
_EPOCH = "'1970-01-01Z'"
_SET_MARK = (
    "INSERT INTO telemetry_fold (kind, until) VALUES (%s, %s) ON CONFLICT (kind) DO UPDATE SET until = excluded.until"
)
_NEVER = datetime(9000, 1, 1, tzinfo=UTC)


def fold_spans(*, now: datetime, kept_since: datetime) -> int:
    """Fold the spans that began since the last time, and times that got late ones; return how many seconds that were.

    Nothing that began before ``kept_since`` is folded: of its spans, part may be gone.
    """
    folded = timedelta(0)
    for _ in range(MOST_CHUNKS):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('telemetry.spans'))")
            start = _start(MARK, kept_since)
            if start is None:
                return 0
            ends = max(start, min(floor(now - SETTLED, FINE_S), start + CHUNK))
            late, notes, rest = _late(kept_since - EVEN_OLDER)
            again = [(max(begins, kept_since), over) for begins, over in late if over > kept_since]
            intervals = whole_windows(FINE_S, [(max(kept_since, start - AGAIN), ends), *_widened(again, now)], ends)
            _fold(intervals, ends)
            _fold_shapes(intervals, ends, kept_since)
            _fold_terms(late, ends, kept_since - EVEN_OLDER)
            _add_names(late, ends, kept_since - EVEN_OLDER)
            _run("DELETE FROM telemetry_late_spans WHERE id = ANY(%s)", notes)
            if rest is not None:  # behind the others that wait: they are not to wait for all of it
                _run("INSERT INTO telemetry_late_spans (since, until) VALUES (%s, %s)", *rest)
            _run(_SET_MARK, MARK, ends)
        folded += sum((over - begins for begins, over in intervals), timedelta(0))
        if ends - start < CHUNK:
            break
    return int(folded.total_seconds())


def _start(mark: str, kept_since: datetime) -> datetime | None:
    """Return until when all is folded under a mark, or where the first span begins; ``None`` when there is none."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce((SELECT until FROM telemetry_fold WHERE kind = %s), (SELECT min(starts_at) FROM telemetry_span "
            "WHERE starts_at >= %s))",
            [mark, kept_since],
        )
        first = cursor.fetchone()[0]
    return None if first is None else floor(max(first, kept_since), FINE_S)


def _late(kept_since: datetime) -> tuple[list[Interval], list[int], Interval | None]:
    """Return the times that got late spans, those that were noted first, as many as are folded in one go; and the notes of them.

    Of a time that is longer than that the beginning is folded: the rest of it comes last.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, since, until FROM telemetry_late_spans ORDER BY id LIMIT 1000")
        noted = cursor.fetchall()
    times, notes = list[Interval](), list[int]()
    for number, since, until in noted:
        wanted = whole_windows(FINE_S, [*times, (max(since, kept_since), until)], _NEVER)
        if sum((ends - begins for begins, ends in wanted), timedelta(0)) > MOST_LATE:
            if times:
                break
            cut = wanted[0][0] + MOST_LATE
            return [(wanted[0][0], cut)], [number], (cut, until)
        times, notes = wanted, [*notes, number]
    return times, notes, None


def _widened(late: Iterable[Interval], now: datetime) -> Iterator[Interval]:
    """Widen times whose neighbours' short windows are no longer kept: longer ones are made of all of them."""
    for begins, ends in late:
        step_s = STEPS[1][0] if begins < now - FINE_KEPT else FINE_S
        yield from whole_windows(step_s, [(begins, ends)], _NEVER)


def _fold(intervals: Iterable[Interval], ends: datetime) -> None:
    """Compute ``intervals`` anew from the spans, and longer windows that are over out of shorter ones."""
    changed = list(intervals)
    for begins, over in changed:
        for part in _chunks(begins, over):
            _sum_traces(*part)
            _sum_mesh(*part)
            _sum_sessions(*part, ends)
    for (_, source), (step_s, name) in itertools.pairwise(STEPS):
        for begins, over in whole_windows(step_s, changed, floor(ends, step_s)):
            for kept in (OF_TRACES, OF_MESH):
                _sum_windows(kept, source, name, begins, over)


def _fold_shapes(intervals: Iterable[Interval], ends: datetime, kept_since: datetime) -> None:
    """Fold what traces are like of ``intervals``, and go on from where that is folded until: that may be far behind, after an update."""
    start = min(ends, _start(shapes.MARK, kept_since) or ends)
    over = min(ends, start + CHUNK)
    for begins, until in whole_windows(FINE_S, [*intervals, (start, over)], over):
        for part in _chunks(begins, until):
            fold_shapes(*part)
    _run(_SET_MARK, shapes.MARK, over)


def _add_names(late: Iterable[Interval], ends: datetime, kept_since: datetime) -> None:
    """Add the users of the spans since the last time to those that are known, and of times that got late ones."""
    over = floor(ends - AGAIN, terms.STEP_S)
    start = floor(min(over, _start(NAMES, kept_since) or over), terms.STEP_S)
    over = min(over, start + CHUNK)
    for begins, until in whole_windows(FINE_S, [*late, (start, over)], over):
        for part in _chunks(begins, until):
            add_names(*part)
    _run(_SET_MARK, NAMES, over)


def _fold_terms(late: Iterable[Interval], ends: datetime, kept_since: datetime) -> None:
    """Fold what spans say of the minutes that are over, and again of those that got late ones."""
    over = floor(ends - AGAIN, terms.STEP_S)
    start = floor(min(over, _start(terms.MARK, kept_since) or over), terms.STEP_S)
    over = min(over, start + CHUNK)
    fold_terms([*late, (start, over)], over)
    _run(_SET_MARK, terms.MARK, over)


def _chunks(begins: datetime, ends: datetime) -> Iterator[Interval]:
    while begins < ends:
        yield begins, min(ends, begins + CHUNK)
        begins += CHUNK


def _run(sql: str, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)


def _clear(table: str, begins: datetime, ends: datetime) -> None:
    _run(f"DELETE FROM {table} WHERE starts_at >= %s AND starts_at < %s", begins, ends)  # noqa: S608 - a table of ours


def _sum_traces(begins: datetime, ends: datetime) -> None:
    table = f"{OF_TRACES.prefix}_{STEPS[0][1]}"
    _clear(table, begins, ends)
    first = FIRST_SPANS.format(clause="AND r.starts_at < %s", order="")
    sql = f"""INSERT INTO {table} (starts_at, tenant, traces, errors)
              SELECT date_bin(%s, starts_at, {_EPOCH}), CASE WHEN grouping(tenant) = 0 THEN tenant ELSE '{EVERYBODY}' END, count(*),
                     count(*) FILTER (WHERE status = 2)
              FROM ({first}) AS first GROUP BY GROUPING SETS ((1, tenant), (1))"""  # noqa: S608 - names of ours
    _run(sql, _FINE, begins, ends, begins, ends)


def _sum_mesh(begins: datetime, ends: datetime) -> None:
    table = f"{OF_MESH.prefix}_{STEPS[0][1]}"
    _clear(table, begins, ends)
    sql = f"""INSERT INTO {table} (starts_at, {", ".join((*OF_MESH.names, *OF_MESH.sums))})
              SELECT date_bin(%s, starts_at, {_EPOCH}), CASE WHEN grouping(tenant) = 0 THEN tenant ELSE '{EVERYBODY}' END,
                     CASE WHEN grouping(tenant) = 0 THEN from_tenant ELSE '{EVERYBODY}' END, from_kind, from_name, to_kind, to_name,
                     count(*), count(*) FILTER (WHERE status = 2), tg_whole(sum(tokens)), tg_whole(sum(cost_nusd)),
                     tg_whole(sum(duration_us))
              FROM ({calls_between()}) AS call
              GROUP BY GROUPING SETS ((1, tenant, from_tenant, 4, 5, 6, 7), (1, 4, 5, 6, 7))"""  # noqa: S608 - names of ours
    _run(sql, _FINE, begins, ends, begins, ends)


def _sum_windows(kept: Kept, source: str, name: str, begins: datetime, ends: datetime) -> None:
    target = f"{kept.prefix}_{name}"
    step = timedelta(seconds={each: step_s for step_s, each in STEPS}[name])
    sums = ", ".join(f"tg_whole(sum({each}))" for each in kept.sums)
    names = ", ".join(kept.names)
    _clear(target, begins, ends)
    sql = f"""INSERT INTO {target} (starts_at, {names}, {", ".join(kept.sums)})
              SELECT date_bin(%s, starts_at, {_EPOCH}), {names}, {sums} FROM {kept.prefix}_{source}
              WHERE starts_at >= %s AND starts_at < %s GROUP BY 1, {names}"""  # noqa: S608 - names of ours
    _run(sql, step, begins, ends)


# Those with spans in the time, and those in whose turns a span failed then that may not name them.
_TOUCHED = """(SELECT tenant, session FROM telemetry_span WHERE session <> '' AND starts_at >= %s AND starts_at < %s
               UNION
               SELECT named.tenant, named.session FROM (
                   SELECT DISTINCT trace_id, tenant FROM telemetry_span
                   WHERE status = 2 AND session = '' AND starts_at >= %s AND starts_at < %s) AS failed
               JOIN telemetry_span AS named USING (trace_id, tenant)
               WHERE named.session <> '' AND named.starts_at >= %s AND named.starts_at < %s
               ) AS touched JOIN telemetry_span AS c USING (tenant, session)"""
_SESSION = (
    "users", "service", "first_at", "last_at", "turns", "spans", "errors", "tokens_told", "tokens_seen", "cost_told_nusd",
    "cost_seen_nusd",
)  # fmt: skip
_SESSIONS = f"""
    INSERT INTO telemetry_session_day (starts_at, tenant, session, {", ".join(_SESSION)})
    SELECT %s, * FROM ({sessions_between(source=_TOUCHED)}) AS counted ON CONFLICT (tenant, session, starts_at) DO UPDATE
    SET {", ".join(f"{name} = excluded.{name}" for name in _SESSION)}"""  # noqa: S608 - names of ours


def _sum_sessions(begins: datetime, ends: datetime, known_until: datetime) -> None:
    """Compute the sessions that have spans in a span of time anew for its days, as far as spans are folded."""
    day = floor(begins, 86400)
    while day < ends:
        over = day + timedelta(days=1)
        part, whole = (max(day, begins), min(over, ends)), (day, min(over, known_until))
        _run(_SESSIONS, day, day, day, *whole, *part, *part, day, over, *whole)
        day = over

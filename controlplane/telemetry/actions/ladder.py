"""The ladder of windows: longer ones out of shorter ones, and what all tenants come to together, so that pages read few rows.

A window is computed anew from what it is made of, so that doing it twice changes nothing. What came late is found again: who writes into a
minute that may be over names it in ``telemetry_late_hour`` under ``ladder``, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import connection, transaction

from controlplane.telemetry.actions.merging import merge_statement, steps_statement
from controlplane.telemetry.packed import RULE_QUANTILES
from controlplane.telemetry.resolutions import EVERYBODY, TENANT_STEPS, Interval, ceiling, floor, whole_windows
from controlplane.telemetry.schemas import DISTRIBUTIONS, SUMS

LATE = "ladder"
SETTLED = timedelta(seconds=15)  # after its end a window of ten seconds is taken to be complete
LATE_AFTER = timedelta(seconds=5)  # what comes later is named as late: its transaction has the rest of the time
AGAIN = timedelta(seconds=20)  # what was folded last is folded once more, for transactions that took longer still
FINE_KEPT = timedelta(hours=23)  # windows of ten seconds are older than that only by chance
MOST_WINDOWS = {
    10: 120,
    60: 120,
    300: 12,
    900: 24,
    3600: 24,
    10800: 2,
    21600: 4,
    86400: 1,
}  # of one length in one go; what is left is done the next time
_ALONE, _TOGETHER = ("tenant", "route", "model", "category"), ("route", "model")


class _Level(NamedTuple):
    """Windows of ``step_s`` in ``table``, computed from ``source``, whose marks they can't be ahead of."""

    mark: str
    step_s: int
    table: str
    source: str
    source_mark: str
    keys: Sequence[str] = _TOGETHER
    other_mark: str = ""

    @property
    def marks(self) -> list[str]:
        """Those of the source; none when it is complete up to now."""
        return [mark for mark in (self.source_mark, self.other_mark) if mark]


def _of_whole_tenants(step: str) -> str:
    """Return SQL for windows of tenants beside those of all together."""
    columns = ", ".join((*SUMS, "kinds", *DISTRIBUTIONS, "sessions"))
    return (
        f"(SELECT starts_at, tenant, {columns} FROM telemetry_window_{step} UNION ALL "  # noqa: S608 - names of ours
        f"SELECT starts_at, '{EVERYBODY}', {columns} FROM telemetry_total_{step}) AS windows"
    )


def _of_all(step: str) -> str:
    """Return SQL for windows of all tenants together, as if they were of one."""
    columns = ", ".join((*SUMS, "kinds", *DISTRIBUTIONS, "sessions"))
    return f"(SELECT starts_at, '{EVERYBODY}' AS tenant, {columns} FROM telemetry_total_{step}) AS windows"  # noqa: S608 - as above


def _of_all_by(dimension: str) -> tuple[_Level, ...]:
    """Return the levels of what all tenants come to by one dimension."""
    table, keys = f"telemetry_{dimension}", (dimension,)
    return (
        _Level(f"{dimension}_15m", 900, f"{table}_15m", "telemetry_total_15m", "total_15m", keys),
        _Level(f"{dimension}_3h", 10800, f"{table}_3h", "telemetry_total_1h", "total_1h", keys),
        _Level(f"{dimension}_6h", 21600, f"{table}_6h", f"{table}_3h", f"{dimension}_3h", keys),
        _Level(f"{dimension}_1d", 86400, f"{table}_1d", f"{table}_6h", f"{dimension}_6h", keys),
    )


LEVELS = (
    _Level("total_10s", 10, "telemetry_total_10s", "telemetry_window_10s", ""),
    _Level("total_1m", 60, "telemetry_total_1m", "telemetry_total_10s", "total_10s"),
    _Level("total_15m", 900, "telemetry_total_15m", "telemetry_total_1m", "total_1m"),
    _Level("total_1h", 3600, "telemetry_total_1h", "telemetry_window_1h", "windows"),
    _Level("total_6h", 21600, "telemetry_total_6h", "telemetry_total_1h", "total_1h"),
    _Level("window_15m", 900, "telemetry_window_15m", "telemetry_window_1m", "total_1m", _ALONE),
    _Level("window_6h", 21600, "telemetry_window_6h", "telemetry_window_1h", "windows", _ALONE),
    _Level("all_5m", 300, "telemetry_all_5m", _of_all("1m"), "total_1m", ("tenant",)),
    _Level("all_1h", 3600, "telemetry_all_1h", _of_all("1h"), "total_1h", ("tenant",)),
    _Level("tenant_15m", 900, "telemetry_tenant_15m", _of_whole_tenants("15m"), "window_15m", ("tenant",), "total_15m"),
    _Level("tenant_3h", 10800, "telemetry_tenant_3h", _of_whole_tenants("1h"), "windows", ("tenant",), "total_1h"),
    _Level("tenant_6h", 21600, "telemetry_tenant_6h", "telemetry_tenant_3h", "tenant_3h", ("tenant",)),
    _Level("tenant_1d", 86400, "telemetry_tenant_1d", "telemetry_tenant_6h", "tenant_6h", ("tenant",)),
    _Level(
        TENANT_STEPS.mark, TENANT_STEPS.step_s, TENANT_STEPS.table, _of_whole_tenants("1m"), "total_1m", ("tenant",)
    ),
    *_of_all_by("route"),
    *_of_all_by("model"),
)


def climb(*, now: datetime, kept_since: datetime) -> int:
    """Fold what is over, on every level, and what got late data; return how many windows of all lengths there were.

    Nothing that began before ``kept_since`` is folded again: of what it was made of, part may be gone.
    """
    count = 0
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('telemetry.ladder'))")
        marks = _marks()
        late = [(minute, minute + timedelta(minutes=1)) for minute in _take_late() if minute >= kept_since]
        touched: dict[str, list[Interval]] = {}
        for level in LEVELS:
            complete = [marks.get(mark, kept_since) for mark in level.marks]
            closed = floor(min(complete, default=now - SETTLED), level.step_s)
            start = marks.get(level.mark) or _first(level, kept_since)
            if start is None:
                continue
            ends = max(start, min(closed, start + timedelta(seconds=level.step_s * MOST_WINDOWS[level.step_s])))
            again = [*late, *(each for mark in level.marks for each in touched.get(mark, []))]
            if not level.marks:
                again.append((start - AGAIN, start))
            intervals = whole_windows(level.step_s, [(start, ends), *again], ends)
            for begins, over in intervals:
                fold_level(level, begins, over, now)
                count += int((over - begins).total_seconds() // level.step_s)
            touched[level.mark] = [each for each in intervals if each[0] < start]
            marks[level.mark] = ends
            _set_mark(level.mark, ends)
    return count


def _marks() -> dict[str, datetime]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT kind, until FROM telemetry_fold")
        return dict(cursor.fetchall())


def _set_mark(kind: str, until: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO telemetry_fold (kind, until) VALUES (%s, %s) ON CONFLICT (kind) DO UPDATE SET until = excluded.until",
            [kind, until],
        )


def _take_late() -> list[datetime]:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM telemetry_late_hour WHERE kind = %s RETURNING hour", [LATE])
        return sorted(row[0] for row in cursor.fetchall())


def _first(level: _Level, kept_since: datetime) -> datetime | None:
    """Return where the first window of a level begins; ``None`` when there is nothing to make it of."""
    source = _old_source(level)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT min(starts_at) FROM {source}")  # noqa: S608 - a table of ours
        first = cursor.fetchone()[0]
    if first is None:
        return None
    long = level.step_s >= 3600  # made of hours, which are kept for long
    return floor(first, level.step_s) if long or first >= kept_since else ceiling(kept_since, level.step_s)


def _old_source(level: _Level) -> str:
    """Return what windows of a level are made of from before windows of ten seconds are kept."""
    return "telemetry_window_1m" if level.mark == "total_1m" else level.source


def fold_level(level: _Level, begins: datetime, ends: datetime, now: datetime) -> None:
    """Make the windows of a level between two of their starts anew."""
    source = level.source if begins >= now - FINE_KEPT else _old_source(level)
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {level.table} WHERE starts_at >= %s AND starts_at < %s", [begins, ends])  # noqa: S608
        if level.table == TENANT_STEPS.table:
            statement = steps_statement(source, level.table, RULE_QUANTILES)
        else:
            statement = merge_statement(source, level.table, level.keys)
        cursor.execute(statement, {"step": level.step_s, "since": begins, "until": ends})

"""What is kept, and for how long: partitions made ahead and dropped whole; old windows deleted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

from django.db import connection, transaction

from controlplane.telemetry.resolutions import TENANT_STEPS, WHOLE

DAYS_AHEAD = 2


class Partitioned(NamedTuple):
    """A table in partitions of a day or a month of ``column``."""

    table: str
    column: str
    monthly: bool = False


SPANS = Partitioned("telemetry_span", "starts_at")
MESSAGES = Partitioned("telemetry_message", "starts_at")
LOGS = Partitioned("telemetry_log", "at")
POINTS = Partitioned("telemetry_point", "at")
POINT_QUARTERS = Partitioned("telemetry_point_15m", "at")
POINT_HOURS = Partitioned("telemetry_point_1h", "at", monthly=True)
FINE_SUMS = tuple(Partitioned(f"telemetry_{kind}_10s", "starts_at") for kind in ("traces", "mesh"))
SPAN_SUMS = (
    *(Partitioned(f"telemetry_{kind}_{step}", "starts_at") for kind in ("traces", "mesh") for step in ("15m", "6h")),
    *(
        Partitioned(f"telemetry_{name}", "starts_at")
        for name in ("session_day", "trace_head", "trace_shape", "shape_15m", "shape_6h", "span_terms", "user_names")
    ),
)
ALL = (SPANS, MESSAGES, LOGS, POINTS, POINT_QUARTERS, POINT_HOURS, *FINE_SUMS, *SPAN_SUMS)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _ahead(kept: Partitioned, today: date) -> Iterator[tuple[str, datetime, datetime]]:
    """Yield name, start and end of the partitions from today on."""
    for ahead in range(DAYS_AHEAD + 1):
        day = today + timedelta(days=ahead)
        if not kept.monthly:
            yield f"{kept.table}_{day:%Y%m%d}", _midnight(day), _midnight(day + timedelta(days=1))
            continue
        first = day.replace(day=1)
        yield f"{kept.table}_{first:%Y%m}", _midnight(first), _midnight((first + timedelta(days=32)).replace(day=1))


def make_partitions(*, today: date) -> list[str]:
    """Make the partitions from today on that are missing, of all tables; return their names. Rows that came too early move in."""
    made = []
    for kept in ALL:
        for name, starts, ends in _ahead(kept, today):
            if _make(kept, name, starts, ends):
                made.append(name)
    return made


@transaction.atomic
def _make(kept: Partitioned, name: str, starts: datetime, ends: datetime) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)", [name])
        if cursor.fetchone()[0] is not None:
            return False
        cursor.execute(f"LOCK TABLE {kept.table} IN SHARE ROW EXCLUSIVE MODE")
        cursor.execute("SELECT to_regclass(%s)", [name])
        if cursor.fetchone()[0] is not None:
            return False
        cursor.execute(f"CREATE TABLE {name} (LIKE {kept.table} INCLUDING DEFAULTS)")
        cursor.execute(
            f"WITH moved AS (DELETE FROM {kept.table}_strays WHERE {kept.column} >= %s AND {kept.column} < %s RETURNING *) "  # noqa: S608
            f"INSERT INTO {name} SELECT * FROM moved",
            [starts, ends],
        )
        cursor.execute(f"ALTER TABLE {kept.table} ATTACH PARTITION {name} FOR VALUES FROM ('{starts}') TO ('{ends}')")
    return True


def drop_partitions(kept: Partitioned, *, today: date, keep_days: int) -> list[str]:
    """Drop the partitions that ended before the last ``keep_days``; return their names."""
    last = today - timedelta(days=keep_days)
    with connection.cursor() as cursor:
        cursor.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass", [kept.table])
        old = [name for (name,) in cursor.fetchall() if (ends := _end(kept, name)) is not None and ends <= last]
        for name in old:
            cursor.execute(f"DROP TABLE {name}")
        cursor.execute(f"DELETE FROM {kept.table}_strays WHERE {kept.column} < %s", [_midnight(last)])  # noqa: S608
    return old


def _end(kept: Partitioned, name: str) -> date | None:
    """Return the day after the last one of a partition; ``None`` for a table that is none."""
    match = re.fullmatch(rf"{kept.table}_(\d{{4}})(\d{{2}})(\d{{2}})?", name)
    if match is None:
        return None
    day = date(int(match[1]), int(match[2]), int(match[3] or 1))
    return (day + timedelta(days=32)).replace(day=1) if kept.monthly else day + timedelta(days=1)


class Keep(NamedTuple):
    """How long windows of calls are kept, by resolution."""

    fine: timedelta
    minutes: timedelta
    hours: timedelta


def delete_windows(*, now: datetime, keep: Keep) -> int:
    """Delete the windows that are older; return how many there were."""
    deleted = 0
    kept = {"10s": keep.fine, "1m": keep.minutes, "15m": keep.minutes, "1h": keep.hours, "6h": keep.hours}
    ages = {f"telemetry_{kind}_{name}": age for name, age in kept.items() for kind in ("window", "total")}
    ages |= {
        rung.table: keep.minutes if rung.step_s == 900 else keep.hours for rungs in WHOLE.values() for rung in rungs
    }
    ages |= {TENANT_STEPS.table: keep.minutes, "telemetry_all_5m": keep.minutes, "telemetry_all_1h": keep.hours}
    with connection.cursor() as cursor:
        for table, age in ages.items():
            cursor.execute(f"DELETE FROM {table} WHERE starts_at < %s", [now - age])  # noqa: S608
            deleted += cursor.rowcount
    return deleted


def delete_series(*, now: datetime, keep_days: int) -> int:
    """Delete the series that nothing is kept of any more; return how many there were."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM telemetry_series WHERE seen_at < %s", [now - timedelta(days=keep_days)])
        return int(cursor.rowcount)

"""Naming hours that got data when they were over, so that they are folded again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg import AsyncConnection

from controlplane.columns import moments
from controlplane.telemetry.actions.folding import closed_until, hour_of
from controlplane.telemetry.actions.ladder import LATE, LATE_AFTER
from controlplane.telemetry.schemas import SpanRow

_SLOT_US = 10_000_000
_MOST_SLOTS = 6 * 360  # a caller is sought for that long
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # of PostgreSQL's times
Slots = frozenset[tuple[int, int]]  # in which ten seconds spans began and ended, counted from the year 2000


def slots_of(rows: Iterable[SpanRow]) -> Slots:
    """Return when spans began and ended."""
    return frozenset((row[0] // _SLOT_US, (row[0] + row[1]) // _SLOT_US) for row in rows)


async def note_late_spans(connection: AsyncConnection[Any], slots: Iterable[tuple[int, int]], *, now: datetime) -> None:
    """Note when those spans were under way that began in a time that may have been folded, in the caller's transaction.

    Not only its start counts: of what a span called the caller is known now.
    """
    closed = int((now - LATE_AFTER - _EPOCH).total_seconds()) // 10
    late = list[tuple[int, int]]()
    for begins, ends in sorted(each for each in slots if each[0] < closed):
        last = min(ends, closed, begins + _MOST_SLOTS)
        if late and begins <= late[-1][1] + 1:
            late[-1] = (late[-1][0], max(last, late[-1][1]))
        else:
            late.append((begins, last))
    if late:
        await connection.execute(
            "INSERT INTO telemetry_late_spans (since, until) SELECT * FROM unnest(%s::timestamptz[], %s::timestamptz[])",
            [moments([_moment(begins) for begins, _ in late]), moments([_moment(last + 1) for _, last in late])],
        )


def _moment(slot: int) -> datetime:
    return _EPOCH + timedelta(seconds=10 * slot)


async def note_late_minutes(connection: AsyncConnection[Any], starts: Iterable[datetime], *, now: datetime) -> None:
    """Name the minutes of those windows of ten seconds, by their starts, that may have been folded, in the caller's transaction."""
    late = {start.replace(second=0) for start in starts if start + timedelta(seconds=10) <= now - LATE_AFTER}
    if late:
        await connection.execute(
            "INSERT INTO telemetry_late_hour (kind, hour) SELECT %s, * FROM unnest(%s::timestamptz[]) ON CONFLICT DO NOTHING",
            [LATE, moments(sorted(late))],
        )


async def note_late(connection: AsyncConnection[Any], kind: str, times: Iterable[datetime], *, now: datetime) -> None:
    """Name the hours of ``times`` that may have been folded, in the caller's transaction."""
    closed = closed_until(now)
    late = {hour_of(moment) for moment in times if moment < closed}
    if late:
        await connection.execute(
            "INSERT INTO telemetry_late_hour (kind, hour) SELECT %s, * FROM unnest(%s::timestamptz[]) ON CONFLICT DO NOTHING",
            [kind, moments(sorted(late))],
        )

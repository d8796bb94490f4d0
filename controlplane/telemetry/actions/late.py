"""Naming hours that got data when they were over, so that they are folded again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from psycopg import AsyncConnection

from controlplane.columns import moments
from controlplane.telemetry.actions.folding import closed_until, hour_of
from controlplane.telemetry.actions.ladder import LATE, LATE_AFTER


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

"""Naming hours that got data when they were over, so that they are folded again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

from controlplane.columns import moments
from controlplane.telemetry.actions.folding import closed_until, hour_of


async def note_late(connection: AsyncConnection[Any], kind: str, times: Iterable[datetime], *, now: datetime) -> None:
    """Name the hours of ``times`` that may have been folded, in the caller's transaction."""
    closed = closed_until(now)
    late = {hour_of(moment) for moment in times if moment < closed}
    if late:
        await connection.execute(
            "INSERT INTO telemetry_late_hour (kind, hour) SELECT %s, * FROM unnest(%s::timestamptz[]) ON CONFLICT DO NOTHING",
            [kind, moments(sorted(late))],
        )

"""How present an SDK instance is, by when it was last heard of."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

Presence = Literal["healthy", "stale", "lost", "closed"]
STALE_AFTER_S = 30
LOST_AFTER_S = 60


def presence_of(*, seen_at: datetime, closed_at: datetime | None, now: datetime) -> Presence:
    """Return ``closed`` after a goodbye; else ``healthy``, ``stale`` after 30 s without a sync, ``lost`` after 60 s."""
    if closed_at is not None:
        return "closed"
    silent_s = (now - seen_at).total_seconds()
    if silent_s < STALE_AFTER_S:
        return "healthy"
    return "stale" if silent_s < LOST_AFTER_S else "lost"

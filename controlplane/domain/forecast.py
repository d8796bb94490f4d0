"""Where a budget is heading: how much of its period is over, and when it runs out at the present burn."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple


class Forecast(NamedTuple):
    """``pace`` is the share of the period that is over, 0 to 1, ``None`` without an end.

    ``ahead`` is spending relative to an even spread: 1.7 is 1.7 times the pace; ``None`` when nothing can be said.
    ``exhausted_at`` is ``None`` when the amount lasts to the end of the period, or nothing is being spent.
    """

    pace: float | None
    ahead: float | None
    exhausted_at: datetime | None


def forecast(
    *,
    amount_nusd: int,
    settled_nusd: int,
    burn_nusd_per_h: float,
    starts_at: datetime | None,
    ends_at: datetime | None,
    now: datetime,
) -> Forecast:
    """Return where spending goes when it goes on as now. An amount that is used up already is exhausted now."""
    pace = _pace(starts_at, ends_at, now)
    even = amount_nusd * pace if pace is not None else 0.0
    ahead = settled_nusd / even if even > 0 else None
    left = amount_nusd - settled_nusd
    if left <= 0:
        return Forecast(pace, ahead, now)
    if burn_nusd_per_h <= 0:
        return Forecast(pace, ahead, None)
    hours = left / burn_nusd_per_h
    if hours > 24 * 366 * 10:
        return Forecast(pace, ahead, None)
    at = now + timedelta(hours=hours)
    return Forecast(pace, ahead, None if ends_at is not None and at >= ends_at else at)


def rolling_forecast(
    *, amount_nusd: int, settled_nusd: int, burn_nusd_per_h: float, days: int, now: datetime
) -> Forecast:
    """Return the same for a rolling window: it only runs out when a whole window at this burn costs more than the amount.

    What leaves the window meanwhile is not counted, so the true time is never earlier.
    """
    whole = burn_nusd_per_h * 24 * days
    ahead = whole / amount_nusd if amount_nusd > 0 else None
    if whole <= amount_nusd and settled_nusd < amount_nusd:
        return Forecast(None, ahead, None)
    known = forecast(
        amount_nusd=amount_nusd,
        settled_nusd=settled_nusd,
        burn_nusd_per_h=burn_nusd_per_h,
        starts_at=None,
        ends_at=None,
        now=now,
    )
    return known._replace(ahead=ahead)


def _pace(starts_at: datetime | None, ends_at: datetime | None, now: datetime) -> float | None:
    if starts_at is None or ends_at is None or ends_at <= starts_at:
        return None
    return min(1.0, max(0.0, (now - starts_at) / (ends_at - starts_at)))

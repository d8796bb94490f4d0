"""Service levels: how much of an error budget is gone, and how fast it burns (Google SRE Workbook, "Alerting on SLOs")."""

from __future__ import annotations

from typing import NamedTuple


class Count(NamedTuple):
    """How many calls there were, and how many of them were bad."""

    total: int
    bad: int


class Burn(NamedTuple):
    """A pair of windows: both must burn ``factor`` times as fast as would use up the budget by the end of the period."""

    factor: float
    long_s: int
    short_s: int
    severity: str


BURNS = (
    Burn(14.4, 3_600, 300, "page"),
    Burn(6.0, 21_600, 1_800, "page"),
    Burn(3.0, 86_400, 7_200, "ticket"),
    Burn(1.0, 259_200, 21_600, "ticket"),
)


def burn_rate(count: Count, objective: float) -> float | None:
    """Return how many times faster than sustainable the budget burns, ``None`` without calls. ``objective`` is below 1."""
    return count.bad / count.total / (1 - objective) if count.total else None


def budget_left(count: Count, objective: float) -> float | None:
    """Return the share of the error budget of a period that is left: 1 is all, below 0 is overspent."""
    return 1 - count.bad / (count.total * (1 - objective)) if count.total else None


def can_fire(burn: Burn, objective: float) -> bool:
    """Return whether calls that all fail would reach the factor at all: with a low objective the steepest can't."""
    return 1 / (1 - objective) > burn.factor


def burns(rates: dict[int, float | None], objective: float, burns_: tuple[Burn, ...] = BURNS) -> Burn | None:
    """Return the steepest pair of windows that burns in both, by rates per window length; ``None`` when none does."""
    for burn in burns_:
        long, short = rates.get(burn.long_s), rates.get(burn.short_s)
        if long is not None and short is not None and min(long, short) > burn.factor and can_fire(burn, objective):
            return burn
    return None


def closeness(rates: dict[int, float | None], objective: float, burns_: tuple[Burn, ...] = BURNS) -> float | None:
    """Return how near the nearest pair of windows is to its factor: above 1 it burns. ``None`` when nothing is known."""
    near = [
        min(long, short) / burn.factor
        for burn in burns_
        if (long := rates.get(burn.long_s)) is not None
        and (short := rates.get(burn.short_s)) is not None
        and can_fire(burn, objective)
    ]
    return max(near, default=None)


def exhausted_in_s(left: float | None, rate: float | None, period_s: float) -> float | None:
    """Return in how many seconds the budget is gone at this rate, 0 when it is; ``None`` when it lasts.

    At a rate of 1 or less it lasts whatever is left: as much as is spent leaves the window behind.
    """
    if left is None or rate is None or rate <= 0 or (left > 0 and rate <= 1):
        return None
    return max(0.0, left) * period_s / rate

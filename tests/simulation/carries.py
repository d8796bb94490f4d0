"""What is carried from period to period in the simulated world, period by period, as the rule says it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import cache

from controlplane.domain.carry import CarryRule
from controlplane.domain.periods import PeriodRule, period_of
from tests.simulation.store import AccountRow


def last_before(rows: Iterable[AccountRow], starts_at: datetime | None) -> AccountRow | None:
    """Return the last of a budget's accounts that ended by then."""
    last: AccountRow | None = None
    for row in rows:
        if row.ends_at and starts_at and row.ends_at <= starts_at and (last is None or row.ends_at > last.ends_at):  # type: ignore[operator]  # it has ended
            last = row
    return last


def kept(carry: CarryRule, left: int) -> int:
    """Return what the next period has of what is ``left`` of one."""
    if left >= 0:
        return min(left, carry.up_to)
    return left if carry.debt else 0


@cache
def idle(rule: PeriodRule, since: datetime | None, until: datetime) -> int:
    """Return how many periods begin at ``since`` or later and before ``until``."""
    count = 0
    while since is not None and since < until:
        count, since = count + 1, period_of(rule, since).ends_at
    return count

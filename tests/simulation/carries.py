"""What is carried from period to period in the simulated world, period by period, as the rule says it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache

from controlplane.domain.carry import CarryRule
from controlplane.domain.periods import PeriodRule, period_of
from tests.simulation.store import AccountRow, BudgetRow


def last_before(rows: Sequence[AccountRow], starts_at: datetime | None) -> AccountRow | None:
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


def carried_to(row: AccountRow, rows: Sequence[AccountRow], budget: BudgetRow, exposed: Callable[[int], int]) -> int:
    """Return what an account has of the periods before; ``rows`` are all of its budget.

    A period that nobody used has no account; how much there was before the first one that has is the server's word.
    """
    if row.starts_at is None or not budget.carry.carries:
        return 0
    past = last_before(rows, row.starts_at)
    if past is None:
        return row.carried
    left = past.amount + carried_to(past, rows, budget, exposed) - exposed(past.id)
    for _ in range(idle(budget.rule, past.ends_at, row.starts_at)):
        left = past.amount + kept(budget.carry, left)
    return kept(budget.carry, left)

"""What a calendar budget takes along from the period before: what was not used, up to a cap, and what was overspent."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from controlplane.domain.periods import PeriodRule, period_of, periods_between

# No debt is carried beyond this, a billion dollars: it stays inside a bigint, however often it is added to.
MOST_DEBT_NUSD = 10**18


class CarryRule(NamedTuple):
    """``up_to``: the most of an unused amount that is added to the next period, 0: nothing; ``debt``: overspend is taken off."""

    up_to: int = 0
    debt: bool = False

    @property
    def carries(self) -> bool:
        return self.up_to > 0 or self.debt


class Before(NamedTuple):
    """The period before: the amount that was in force at its end, with what it had been carried itself, and its exposure."""

    amount: int
    exposure: int


def carried(rule: CarryRule, before: Before | None) -> int:
    """Return what to add to the amount of a period, in nano-USD; below zero for a debt; 0 when there was none before.

    What is still leased counts as spent, so the unused grows while leases of the period before come back. A debt that is
    greater than the next amount is carried on.
    """
    if before is None:
        return 0
    unused = before.amount - before.exposure
    if unused >= 0:
        return min(unused, rule.up_to)
    return max(unused, -MOST_DEBT_NUSD) if rule.debt else 0


class Past(NamedTuple):
    """The last period before that has an account: when it ended, its amount at its end without what it was carried, and that."""

    ends_at: datetime
    amount: int
    carried: int
    exposure: int


def brought(
    carry: CarryRule,
    rule: PeriodRule,
    starts_at: datetime | None,
    past: Past | None,
    *,
    amount: int,
    created_at: datetime | None,
) -> int:
    """Return what the period that begins at ``starts_at`` has from all before it, of which ``past`` is the last with an account.

    In the periods since nobody spent anything: they have no accounts, and the amount did not change. Without a ``past`` nobody
    did since the budget was created; ``amount`` is what it was then.
    """
    if not carry.carries or starts_at is None:
        return 0
    if past is not None:
        left = carried(carry, Before(past.amount + past.carried, past.exposure))
        return _idle(carry, left, past.amount, periods_between(rule, past.ends_at, starts_at))
    first = period_of(rule, created_at).starts_at if created_at is not None else None
    return 0 if first is None else _idle(carry, 0, amount, periods_between(rule, first, starts_at))


class Later(NamedTuple):
    """An account of a period after: when it began, and how it stands, ``stands.carried`` being what its row says."""

    id: int
    starts_at: datetime | None
    stands: Past


def carried_on(carry: CarryRule, rule: PeriodRule, first: Past, later: Iterable[Later]) -> dict[int, int]:
    """Return what accounts after ``first``, in order of their periods, are carried, where that is not what their rows say.

    What comes back from a period changes all that follow, not only the next: each has its share from the one before it.
    """
    changed = {}
    past = first
    for account in later:
        extra = brought(carry, rule, account.starts_at, past, amount=account.stands.amount, created_at=None)
        if extra != account.stands.carried:
            changed[account.id] = extra
        past = account.stands._replace(carried=extra)
    return changed


def _idle(rule: CarryRule, left: int, amount: int, periods: int) -> int:
    """Return what becomes of ``left`` in so many periods of ``amount`` in which nobody spends anything."""
    if not periods:
        return left
    left += amount * periods
    return min(left, rule.up_to) if left >= 0 else left

"""What a calendar budget takes along from the period before: what was not used, up to a cap, and what was overspent."""

from __future__ import annotations

from typing import NamedTuple

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

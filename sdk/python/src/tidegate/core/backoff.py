"""How long to wait before a retry, and whether one may be made at all."""

from __future__ import annotations

from typing import NamedTuple

from tidegate.core.policy import RetryRule

BUDGET_CAP = 10.0


def delay_s(rule: RetryRule, *, retry: int, uniform: float, retry_after_s: float | None = None) -> float:
    """Return the seconds before the ``retry``-th retry (1 is the first). ``uniform`` is drawn from [0, 1).

    Exponential from ``base_ms`` up to ``max_ms``; jitter ``full`` draws from all of it, ``equal`` from its upper half, ``none``
    waits it out (AWS Architecture Blog, "Exponential Backoff and Jitter"). Never sooner than the provider asked for.
    ``ValueError`` for a retry before the first.
    """
    if retry < 1:
        raise ValueError(f"The first retry is number 1, got {retry}.")
    whole = min(float(rule.max_ms), float(rule.base_ms) * 2.0 ** min(retry - 1, 40)) / 1000
    if rule.jitter == "full":
        whole *= uniform
    elif rule.jitter == "equal":
        whole = whole / 2 + whole / 2 * uniform
    return max(whole, retry_after_s or 0.0)


class RetryBudget(NamedTuple):
    """What keeps retries a fraction of calls, with a reserve for quiet hours (Finagle's RetryBudget)."""

    balance: float = BUDGET_CAP


def earned(budget: RetryBudget, ratio: float) -> RetryBudget:
    """Every call earns ``ratio`` of a retry."""
    return RetryBudget(min(BUDGET_CAP, budget.balance + ratio))


def spent(budget: RetryBudget, ratio: float) -> RetryBudget | None:
    """Return the budget after one retry, or ``None`` when there is none to be had."""
    if ratio <= 0 or budget.balance < 1:
        return None
    return RetryBudget(budget.balance - 1)

"""How long to wait before a retry, and whether one may be made at all."""

from __future__ import annotations

import math
from typing import NamedTuple

from tidegate.core.policy import RetryRule

BUDGET_CAP = 10.0
SPREAD = {"quarter": 0.25, "half": 0.5}
MANY_OCTAVES = 1000  # more than any delay has, and a float still holds it
PATIENCE_S = 120.0  # the longest that a provider may ask to be left alone by a call without a deadline


def delay_s(
    rule: RetryRule, *, retry: int, uniform: float, retry_after_s: float | None = None, previous_s: float = 0.0
) -> float:
    """Return the seconds before the ``retry``-th retry (1 is the first). ``uniform`` is drawn from [0, 1).

    From ``base_ms`` up to ``max_ms``, by ``factor`` each time, or ``linear``, by ``base_ms``. Jitter ``full`` draws from all of it,
    ``equal`` from its upper half, ``quarter`` and ``half`` from so much below to so much above it, ``none`` waits it out;
    ``decorrelated`` draws from ``base_ms`` to three times the delay before, ``previous_s`` (AWS Architecture Blog, "Exponential
    Backoff and Jitter"). Never sooner than the provider asked for, and then not all at the same moment: up to ``base_ms`` later.
    ``ValueError`` for a retry before the first.
    """
    if retry < 1:
        raise ValueError(f"The first retry is number 1, got {retry}.")
    base, most = rule.base_ms / 1000, rule.max_ms / 1000
    whole = min(most, _grown(rule, base, retry))
    if rule.jitter == "full":
        whole *= uniform
    elif rule.jitter == "equal":
        whole = whole / 2 + whole / 2 * uniform
    elif rule.jitter in SPREAD:
        whole *= 1 + SPREAD[rule.jitter] * (2 * uniform - 1)
    elif rule.jitter == "decorrelated":
        whole = min(most, base + (max(base, 3 * previous_s) - base) * uniform)
    if retry_after_s is None or whole >= retry_after_s:
        return whole
    return retry_after_s + (0.0 if rule.jitter == "none" else base * uniform)


def _grown(rule: RetryRule, base: float, retry: int) -> float:
    if rule.growth == "linear":
        return base * retry
    octaves = (retry - 1) * math.log2(rule.factor)
    return base * rule.factor ** (retry - 1) if octaves < MANY_OCTAVES else base * 2.0**MANY_OCTAVES


def fits(delay: float, *, left_s: float | None) -> bool:
    """Whether to wait for ``delay`` when ``left_s`` is left until the deadline: an attempt must begin before that."""
    return delay < left_s if left_s is not None else delay <= PATIENCE_S


class RetryBudget(NamedTuple):
    """What keeps retries and hedges a fraction of calls, with a reserve for quiet hours (Finagle's RetryBudget)."""

    balance: float = BUDGET_CAP


def earned(budget: RetryBudget, ratio: float) -> RetryBudget:
    """Every call earns ``ratio`` of a retry, or hedge."""
    return RetryBudget(min(BUDGET_CAP, budget.balance + ratio))


def spent(budget: RetryBudget, ratio: float) -> RetryBudget | None:
    """Return the budget after one retry or hedge, or ``None`` when there is none to be had."""
    if ratio <= 0 or budget.balance < 1:
        return None
    return RetryBudget(budget.balance - 1)

"""Bands around a rate that hold at all times at once: a chart may be watched for as long as one likes."""

from __future__ import annotations

import math
from collections.abc import Callable

_STEPS = 40


def band(bad: float, n: float, *, alpha: float) -> tuple[float, float]:
    """Return the rates that the counts do not speak against: a confidence sequence at level 1 - ``alpha``.

    The beta-binomial mixture with a Beta(½, ½) prior against each rate p is a likelihood ratio of expectation 1 under p; what
    stays below 1/α is kept (Robbins 1970; Howard et al. 2021). ``(0, 1)`` for no counts.
    """
    if n <= 0:
        return 0.0, 1.0
    good = max(0.0, n - bad)
    mixed = math.lgamma(bad + 0.5) + math.lgamma(good + 0.5) - math.lgamma(n + 1) - math.log(math.pi)
    limit = mixed - math.log(1 / alpha)

    def kept(p: float) -> bool:
        return _log_likelihood(bad, good, p) > limit

    best = bad / n
    low = 0.0 if kept(0.0) else _edge(0.0, best, kept)
    high = 1.0 if kept(1.0) else _edge(1.0, best, kept)
    return low, high


def _log_likelihood(bad: float, good: float, p: float) -> float:
    if (p <= 0 and bad) or (p >= 1 and good):
        return -math.inf
    return (bad * math.log(p) if bad else 0.0) + (good * math.log1p(-p) if good else 0.0)


def _edge(outside: float, inside: float, kept: Callable[[float], bool]) -> float:
    for _ in range(_STEPS):
        middle = (outside + inside) / 2
        outside, inside = (outside, middle) if kept(middle) else (middle, inside)
    return inside

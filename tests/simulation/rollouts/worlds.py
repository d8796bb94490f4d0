"""Traffic of two arms, tick by tick, with the truth known: whether the canary is worse."""

from __future__ import annotations

import bisect
import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple


class Tick(NamedTuple):
    """Units and bad units of both arms."""

    n: int
    bad: int
    n_stable: int
    bad_stable: int


class World(NamedTuple):
    """A way in which traffic comes. ``harmful``: the canary is worse."""

    name: str
    harmful: bool
    ticks: Callable[[random.Random], Iterator[Tick]]


@cache
def _chances(n: int, p: float) -> tuple[float, ...]:
    """Return the cumulative binomial distribution, as far as it matters."""
    chance = (1 - p) ** n
    total, kept = 0.0, []
    for k in range(n + 1):
        total += chance
        kept.append(total)
        if total > 1 - 1e-13:
            break
        chance *= (n - k) / (k + 1) * p / (1 - p)
    return tuple(kept)


def binomial(dice: random.Random, n: int, p: float) -> int:
    """Draw how many of ``n`` are bad."""
    if n == 0 or p <= 0:
        return 0
    return bisect.bisect_left(_chances(n, round(p, 6)), dice.random())


def steady(n: int, n_stable: int, p: float, p_stable: float, ticks: int) -> Callable[[random.Random], Iterator[Tick]]:
    """The same traffic in every tick."""

    def run(dice: random.Random) -> Iterator[Tick]:
        for _ in range(ticks):
            yield Tick(n, binomial(dice, n, p), n_stable, binomial(dice, n_stable, p_stable))

    return run


RAMP = (0.01, 0.05, 0.25, 0.5)


def ramp(
    rates: Callable[[float], float], *, per_tick: int = 1000, each: int = 30
) -> Callable[[random.Random], Iterator[Tick]]:
    """1, 5, 25, 50 % of the traffic; ``rates`` gives both arms' rate at a moment from 0 to 1."""

    def run(dice: random.Random) -> Iterator[Tick]:
        total = each * len(RAMP)
        for number in range(total):
            n = round(RAMP[number // each] * per_tick)
            p = rates(number / total)
            yield Tick(n, binomial(dice, n, p), per_tick - n, binomial(dice, per_tick - n, p))

    return run


def clustered(*, as_requests: bool) -> Callable[[random.Random], Iterator[Tick]]:
    """Sessions of ten requests that fail together, 5 to 95: counted once each, or as ten requests."""

    def run(dice: random.Random) -> Iterator[Tick]:
        size = 10 if as_requests else 1
        for _ in range(120):
            yield Tick(5 * size, binomial(dice, 5, 0.005) * size, 95 * size, binomial(dice, 95, 0.005) * size)

    return run


HARMLESS: Sequence[World] = (
    World("5 : 95, errors 0.1 %", False, steady(50, 950, 0.001, 0.001, 120)),
    World("5 : 95, errors 0.5 %", False, steady(50, 950, 0.005, 0.005, 120)),
    World("5 : 95, errors 2 %", False, steady(50, 950, 0.02, 0.02, 120)),
    World("equal arms, errors 1 %", False, steady(200, 200, 0.01, 0.01, 120)),
    World("low traffic, 5 : 95 per tick", False, steady(5, 95, 0.005, 0.005, 240)),
    World("ramp, shared incident at 50 %", False, ramp(lambda t: 0.05 if t >= 0.75 else 0.005)),
    World("ramp, drift 0.2 to 2 %", False, ramp(lambda t: 0.002 + 0.018 * t)),
    World("errors cluster, a session counts once", False, clustered(as_requests=False)),
    World("90 : 10, errors 1 %", False, steady(360, 40, 0.01, 0.01, 120)),
)
HARMFUL: Sequence[World] = (
    World("0.5 % to 1 %", True, steady(50, 950, 0.01, 0.005, 120)),
    World("0.5 % to 2.5 %", True, steady(50, 950, 0.025, 0.005, 120)),
    World("0.5 % to 2.5 %, low traffic", True, steady(5, 95, 0.025, 0.005, 400)),
    World("0.5 % to 2.5 %, 25 : 75", True, steady(50, 150, 0.025, 0.005, 120)),
    World("0.5 % to 2.5 %, equal arms", True, steady(50, 50, 0.025, 0.005, 120)),
)
WRONG_UNIT = World("errors cluster, every request counts", False, clustered(as_requests=True))

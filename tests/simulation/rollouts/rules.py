"""Rules that decide after every tick whether to roll back: ours, and those that others ship or document.

The others are written down from their sources, not run from their binaries: Argo Rollouts (docs/features/analysis.md,
analysis/analysis.go), Flagger (README, threshold), Kayenta (MannWhitneyClassifier.scala, NetflixACAJudge), GrowthBook
(gbstats/frequentist/tests.py, sequential one-sided). All see canary and stable arm of each tick.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import NamedTuple, Protocol

from controlplane.domain.arms import FRESH, Shares, Side, Total, ticked
from controlplane.domain.verdict import EMPTY, MIN_TICKS, Pair, absorbed, log_harm
from tests.simulation.rollouts.worlds import Tick


class Rule(Protocol):
    """Told of every tick, it says whether to roll back now."""

    def tick(self, seen: Tick) -> bool: ...


class Looking(Protocol):
    """Told of every tick, it says how far the evidence of harm is: its logarithm, 0 while it may not act yet."""

    def look(self, seen: Tick) -> float: ...


class Reaching:
    """Rolls back when the evidence of harm reaches 1/α."""

    def __init__(self, looking: Looking, alpha: float) -> None:
        self._looking, self._limit = looking, math.log(1 / alpha)

    def tick(self, seen: Tick) -> bool:
        return self._looking.look(seen) >= self._limit


class Ours:
    """The evidence of the product, all metrics in the average, errors the only one with counts."""

    def __init__(self) -> None:
        self._evidence = EMPTY

    def look(self, seen: Tick) -> float:
        self._evidence = absorbed(self._evidence, [{"errors": Pair(seen.n, seen.bad, seen.n_stable, seen.bad_stable)}])
        return log_harm(self._evidence) if self._evidence.ticks >= MIN_TICKS else 0.0


class Canary:
    """The same in a canary as it is served: totals of three arms, the third a baseline of the candidate's size, ring after ring."""

    def __init__(self) -> None:
        self._dice = random.Random(0)
        self._memory = FRESH
        self._shares: list[Shares] = []
        self._totals: dict[Side, list[int]] = {}

    def look(self, seen: Tick) -> float:
        beside = seen.n if seen.n <= seen.n_stable else 0
        share = seen.n / (seen.n + seen.n_stable)
        shares = Shares(share, share if beside else 0.0)
        if self._shares[-1:] != [shares]:
            self._shares.append(shares)
            self._totals = {side: [0, 0] for side in Side}
        bad = sum(at < beside for at in self._dice.sample(range(seen.n_stable), seen.bad_stable))
        rest = seen.n_stable - beside, seen.bad_stable - bad
        for side, (n, of_them) in zip(Side, (rest, (seen.n, seen.bad), (beside, bad)), strict=True):
            self._totals[side][0] += n
            self._totals[side][1] += of_them
        step = len(self._shares)
        totals = [
            Total(step, step - 1, side, {"units": n, "bad": bad, "exposed": n})
            for side, (n, bad) in self._totals.items()
        ]
        self._memory = ticked(self._memory, totals, step=step, shares=self._shares, copies=1, at_s=0)
        return log_harm(self._memory.evidence) if self._memory.evidence.ticks >= MIN_TICKS else 0.0


class Argo:
    """``successCondition: result >= least``, ``failureLimit``: more failed measurements than that abort."""

    def __init__(self, least: float, failure_limit: int) -> None:
        self._least, self._left = least, failure_limit

    def tick(self, seen: Tick) -> bool:
        if seen.n and 1 - seen.bad / seen.n < self._least:
            self._left -= 1
        return self._left < 0


class Flagger:
    """``thresholdRange: min``, ``threshold``: that many failed checks in all roll back."""

    def __init__(self, least: float, threshold: int) -> None:
        self._least, self._left = least, threshold

    def tick(self, seen: Tick) -> bool:
        if seen.n and 1 - seen.bad / seen.n < self._least:
            self._left -= 1
        return self._left <= 0


class Pooled(NamedTuple):
    """Everything so far, added up."""

    n: int = 0
    bad: int = 0
    n_stable: int = 0
    bad_stable: int = 0

    def plus(self, seen: Tick) -> Pooled:
        return Pooled(*(a + b for a, b in zip(self, seen, strict=True)))


class RepeatedZ:
    """A one-sided z-test at 5 % on everything so far, looked at after every tick."""

    def __init__(self) -> None:
        self._so_far = Pooled()
        self._critical = NormalDist().inv_cdf(0.95)

    def tick(self, seen: Tick) -> bool:
        self._so_far = so_far = self._so_far.plus(seen)
        if so_far.n < 30 or not so_far.n_stable:
            return False
        p = (so_far.bad + so_far.bad_stable) / (so_far.n + so_far.n_stable)
        spread = math.sqrt(p * (1 - p) * (1 / so_far.n + 1 / so_far.n_stable))
        return bool(spread) and so_far.bad / so_far.n - so_far.bad_stable / so_far.n_stable > self._critical * spread


class GrowthBook:
    """The asymptotic confidence sequence of Waudby-Smith et al. 2021, one-sided, tuned for N* = 5000."""

    def __init__(self, alpha: float = 0.05, *, least_bad: int = 0, tuning: float = 5000) -> None:
        self._alpha, self._least_bad = alpha, least_bad
        self._rho2 = (-2 * math.log(2 * alpha) + math.log(-2 * math.log(2 * alpha) + 1)) / tuning
        self._so_far = Pooled()

    def tick(self, seen: Tick) -> bool:
        self._so_far = so_far = self._so_far.plus(seen)
        if not so_far.n or not so_far.n_stable or so_far.bad + so_far.bad_stable < self._least_bad:
            return False
        p, q = so_far.bad / so_far.n, so_far.bad_stable / so_far.n_stable
        variance = p * (1 - p) / so_far.n + q * (1 - q) / so_far.n_stable
        n = so_far.n + so_far.n_stable
        grown = n * self._rho2 + 1
        width = math.sqrt(
            variance * n * 2 * grown * math.log(1 + math.sqrt(grown) / (2 * self._alpha)) / (n * n * self._rho2)
        )
        return variance > 0 and p - q > width


class Kayenta:
    """Mann-Whitney on the error rates per tick, 98 % interval, tolerance ¼ of the Hodges-Lehmann shift; judged every ten ticks."""

    def __init__(self, every: int = 10) -> None:
        self._every = every
        self._rates: list[float] = []
        self._rates_stable: list[float] = []

    def tick(self, seen: Tick) -> bool:
        self._rates.append(seen.bad / seen.n if seen.n else 0.0)
        self._rates_stable.append(seen.bad_stable / seen.n_stable if seen.n_stable else 0.0)
        if len(self._rates) % self._every:
            return False
        return mann_whitney(self._rates_stable, self._rates, confidence=0.98, tolerance=0.25) == "High"


def mann_whitney(control: Sequence[float], experiment: Sequence[float], *, confidence: float, tolerance: float) -> str:
    """Return Kayenta's classification of the shift: ``High``, ``Low`` or ``Pass``. The interval is by order statistics."""
    m, n = len(control), len(experiment)
    if not m or not n:
        return "Nodata"
    shifts = sorted(e - c for e in experiment for c in control)
    half = m * n / 2 - NormalDist().inv_cdf(0.5 + confidence / 2) * math.sqrt(m * n * (m + n + 1) / 12)
    outer = max(0, math.floor(half))
    low, high = shifts[outer], shifts[m * n - 1 - outer]
    middle = (shifts[(m * n - 1) // 2] + shifts[m * n // 2]) / 2
    critical = tolerance * abs(middle)
    if low > critical:
        return "High"
    return "Low" if high < -critical else "Pass"


RULES: Sequence[tuple[str, Callable[[], Rule]]] = (
    ("Argo, the documents' example (95 %, failureLimit 3)", lambda: Argo(0.95, 3)),
    ("Argo, default failureLimit 0, 99 %", lambda: Argo(0.99, 0)),
    ("Flagger, README (99 %, threshold 10)", lambda: Flagger(0.99, 10)),
    ("z-test at 5 %, looked at every tick", RepeatedZ),
    ("Kayenta, judged every 10 ticks", Kayenta),
    ("GrowthBook, sequential 5 %", GrowthBook),
    ("GrowthBook, and 150 errors at least", lambda: GrowthBook(least_bad=150)),
    ("Tidegate, α = 5 %", lambda: Reaching(Ours(), 0.05)),
    ("Tidegate, α = 1 %", lambda: Reaching(Ours(), 0.01)),
)

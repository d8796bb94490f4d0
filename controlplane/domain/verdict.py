"""Whether a release does harm, or may go on: evidence that stays valid however often one looks.

Per tick and ring the canary had n units, e of them bad (failed, refused, slower than most of the stable arm were before…), the
stable arm N and E. With π = n / (n + N) and m = 1 + (r - 1)π, the **harm** process multiplies, for each r of a fixed list,
r^e · m^-(e+E), and averages over r. If in every tick the canary's chance of a bad unit is not above the stable arm's, its
expectation never rises: with a = r/m and b = 1/m,

    E[a^e b^E] ≤ (1 + p(a-1))^n (1 + q(b-1))^N ≤ exp((r-1)·Nπ/m·(p-q)) ≤ 1   because n(1-π) = Nπ.

So by Ville's inequality the chance that it *ever* reaches 1/α is at most α, at any look times, batch sizes, ramps and drifts
that both arms share. Averages of such processes are such processes: rings multiply, metrics are averaged, one α holds for the
whole rollout. Losses may be fractions from 0 to 1 (scores): a^x ≤ 1 + (a-1)x there, so the same line of proof holds. Units need
not be alike: p and q may be the averages of each arm, as 1 + x ≤ e^x is all that is asked of them. So everything that has the
release before at the same time, and by chance, is one arm to compare with, however its units are called.

The **promotion** process is against p ≥ r₀q + δ: Π a^e · (1 + (n/N)·r₀·(1-a))^E · exp((1-a)·n·δ), averaged over a < 1; each
metric must reach 1/β on its own, so a release that is worse in any one passes with a chance of at most β per ring.

Units must be independent of each other: that is the deployment's choice of unit. Ramdas, Grünwald, Vovk & Shafer, "Game-theoretic
statistics and safe anytime-valid inference" (2023), is the theory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

# Fixed before any count is seen: how many times worse the canary might be, and how much each guess is trusted at first.
HARM_RATIOS = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
HARM_WEIGHTS = (0.06, 0.1, 0.2, 0.22, 0.22, 0.12, 0.05, 0.03)
_LOG_RATIOS = tuple(math.log(ratio) for ratio in HARM_RATIOS)
PROMOTION_BASES = (0.2, 0.4, 0.6, 0.8, 0.9)
# By what an arm's odds might be off.
MISMATCH_FACTORS = (0.5, 0.8, 0.9, 1.1, 1.25, 2.0)
MISMATCH_ALPHA = 0.001
SIZED = ("canary", "baseline")  # the arms whose sizes are known beforehand
MIN_TICKS = 2
MOST_LOOKED_FOR = 10_000_000


class Metric(NamedTuple):
    """A kind of bad unit. ``weight`` is its part of the harm average; ``ratio`` and ``slack`` are r₀ and δ of promotion."""

    name: str
    label: str
    weight: float
    ratio: float
    slack: float


METRICS = (
    Metric("errors", "errors", 0.6, 1.25, 0.005),
    Metric("refused", "refusals", 0.06, 1.25, 0.01),
    Metric("latency", "slow calls", 0.07, 1.25, 0.03),
    Metric("ttft", "slow first tokens", 0.05, 1.25, 0.03),
    Metric("cost", "costly calls", 0.09, 1.25, 0.03),
    Metric("tokens", "long calls", 0.05, 1.5, 0.05),
    Metric("score", "low scores", 0.08, 1.1, 0.02),
)
METRIC = {metric.name: metric for metric in METRICS}


class Rules(NamedTuple):
    """``alpha``: the chance that a harmless release is ever rolled back. ``beta``: that a worse one passes a ring.

    ``max_error_rate`` is an absolute guardrail apart from the evidence: it answers "is it broken?", not "is it worse?", and has
    no guarantee; ``None`` for none.
    """

    alpha: float = 0.01
    beta: float = 0.05
    max_error_rate: float | None = None
    guard_calls: int = 50


class Pair(NamedTuple):
    """Units and bad units (or sums of losses) of both arms, in one tick and ring."""

    n: float
    bad: float
    n_stable: float
    bad_stable: float


class Evidence(NamedTuple):
    """Logarithms of the processes: ``harm`` by metric and ratio, ``promotion`` by metric and base, ``sizes`` by arm and factor."""

    harm: Mapping[str, tuple[float, ...]]
    promotion: Mapping[str, tuple[float, ...]]
    sizes: Mapping[str, tuple[float, ...]]
    ticks: int  # that had canary units
    canary: int  # units compared
    stable: int


class Size(NamedTuple):
    """How many units one tick sent to an arm, and to all others that it is measured against; ``share`` is what it should get.

    ``at_most``: fewer are no fault (copies may be left out), more are.
    """

    share: float
    units: int
    others: int
    at_most: bool = False


EMPTY = Evidence({}, {}, {}, 0, 0, 0)


def absorbed(evidence: Evidence, strata: Iterable[Mapping[str, Pair]], *, current: bool = True) -> Evidence:
    """Return ``evidence`` with one tick more: per ring, the pairs by metric. ``errors`` counts the units.

    Counts that come late from a step before (not ``current``) are no evidence for leaving this one.
    """
    harm, promotion = dict(evidence.harm), dict(evidence.promotion)
    canary = stable = 0
    for pairs in strata:
        for name, pair in pairs.items():
            if name in METRIC and pair.n + pair.n_stable > 0:
                harm[name] = _plus(harm.get(name), harm_steps(pair))
                if current:
                    promotion[name] = _plus(promotion.get(name), promotion_steps(pair, METRIC[name]))
        if "errors" in pairs:
            canary += int(pairs["errors"].n)
            stable += int(pairs["errors"].n_stable)
    return evidence._replace(
        harm=harm,
        promotion=promotion,
        ticks=evidence.ticks + (canary > 0),
        canary=evidence.canary + canary,
        stable=evidence.stable + stable,
    )


def with_sizes(evidence: Evidence, sizes: Mapping[str, Size], *, copies: int) -> Evidence:
    """Return ``evidence`` with how many units one tick sent to the arms (of ``SIZED``) of a ring.

    Each factor is a likelihood ratio: the shares as they should be against odds that are off by it. Where fewer are no fault only
    factors above one are asked, which expect less than one of any smaller share, too. A unit may be seen by up to ``copies``
    processes: the ratio's root keeps its expectation below one.
    """
    known = dict(evidence.sizes)
    for arm, size in sizes.items():
        if 0 < size.share < 1:
            known[arm] = _plus(known.get(arm), [step / max(1, copies) for step in size_steps(size)])
    return evidence._replace(sizes=known)


def size_steps(size: Size) -> list[float]:
    """Return the logarithm of each factor's likelihood ratio."""
    steps = []
    for factor in MISMATCH_FACTORS:
        scale = 1 + (factor - 1) * size.share  # the odds times the factor are a share of factor · share / scale
        ratio = size.units * math.log(factor) - (size.units + size.others) * math.log(scale)
        steps.append(0.0 if size.at_most and factor < 1 else ratio)
    return steps


def for_next_ring(evidence: Evidence) -> Evidence:
    """Return what goes along into the next ring: harm is remembered, the right to go on is earned anew.

    So is the check of the arms' sizes: the same units come again, and would count twice.
    """
    return evidence._replace(promotion={}, sizes={})


def harm_steps(pair: Pair) -> list[float]:
    """Return the logarithm of each ratio's factor."""
    bad = pair.bad + pair.bad_stable
    if not bad:
        return [0.0] * len(HARM_RATIOS)
    part = pair.n / (pair.n + pair.n_stable)
    return [
        pair.bad * log - bad * math.log1p((ratio - 1) * part)
        for ratio, log in zip(HARM_RATIOS, _LOG_RATIOS, strict=True)
    ]


def promotion_steps(pair: Pair, metric: Metric) -> list[float]:
    """Return the logarithm of each base's factor; without units on both sides there is nothing to be said."""
    if not pair.n or not pair.n_stable:
        return [0.0] * len(PROMOTION_BASES)
    odds = pair.n / pair.n_stable
    return [
        pair.bad * math.log(base)
        + pair.bad_stable * math.log1p(odds * metric.ratio * (1 - base))
        + (1 - base) * pair.n * metric.slack
        for base in PROMOTION_BASES
    ]


def _plus(logs: Sequence[float] | None, steps: Sequence[float]) -> tuple[float, ...]:
    return tuple(steps) if logs is None else tuple(a + b for a, b in zip(logs, steps, strict=True))


def log_mean(logs: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """Return the logarithm of the weighted average of exponentials."""
    if not logs:
        return 0.0
    top = max(logs)
    if weights is None:
        return top + math.log(sum(math.exp(each - top) for each in logs) / len(logs))
    total = sum(weights)
    return top + math.log(sum(w * math.exp(each - top) for each, w in zip(logs, weights, strict=True)) / total)


def harm_by_metric(evidence: Evidence) -> dict[str, float]:
    """Return log E of harm for each metric that has counts."""
    return {name: log_mean(logs, HARM_WEIGHTS) for name, logs in evidence.harm.items()}


def log_harm(evidence: Evidence) -> float:
    """Return log E of the rollout: the average over all metrics, those without counts at E = 1."""
    by_metric = harm_by_metric(evidence)
    return log_mean([by_metric.get(metric.name, 0.0) for metric in METRICS], [metric.weight for metric in METRICS])


def log_promotion(evidence: Evidence) -> float:
    """Return log E of promotion: that of the metric with the least. 0 while errors have no counts."""
    if "errors" not in evidence.promotion:
        return 0.0
    return min(log_mean(logs) for logs in evidence.promotion.values())


def log_mismatch(evidence: Evidence) -> float:
    """Return log E of arms of the wrong sizes: the average over all arms, those without counts at E = 1."""
    return log_mean([log_mean(evidence.sizes.get(arm, (0.0,))) for arm in SIZED])


def _most_off(evidence: Evidence) -> str:
    return max(SIZED, key=lambda arm: log_mean(evidence.sizes.get(arm, (0.0,))))


class Verdict(NamedTuple):
    """What the evidence says, with the two meters from 0 to 1 and what is missing. ``reason`` explains the first that is true."""

    harmful: bool
    mismatched: bool
    breached: bool
    promising: bool
    reason: str
    harm: float
    promotion: float
    worst: str  # the metric that harms most, in words
    slowest: str  # the metric that promotion waits for, in words


def judge(evidence: Evidence, rules: Rules, *, canary_calls: int = 0, canary_failed: int = 0) -> Verdict:
    """Return the verdict. Calls and failures are those of the canary's ring, for the guardrail."""
    harm, promotion = log_harm(evidence), log_promotion(evidence)
    harm_at, promotion_at = math.log(1 / rules.alpha), math.log(1 / rules.beta)
    by_metric = harm_by_metric(evidence)
    worst = max(by_metric, key=lambda name: by_metric[name] + math.log(METRIC[name].weight), default="errors")
    slowest = min(evidence.promotion, key=lambda name: log_mean(evidence.promotion[name]), default="errors")
    harmful = harm >= harm_at and evidence.ticks >= MIN_TICKS
    breached = (
        rules.max_error_rate is not None
        and canary_calls >= rules.guard_calls
        and canary_failed > rules.max_error_rate * canary_calls
    )
    mismatched = log_mismatch(evidence) >= math.log(1 / MISMATCH_ALPHA)
    promising = promotion >= promotion_at and evidence.ticks >= MIN_TICKS
    reason = ""
    if harmful:
        reason = f"More {METRIC[worst].label} than in the stable arm: the evidence passed 1 in {1 / rules.alpha:,.0f}."
    elif breached:
        reason = f"Guardrail (absolute, without a guarantee): {canary_failed / canary_calls:.1%} of {canary_calls:,} calls failed."
    elif mismatched:
        reason = f"The arms do not have the sizes they should, the {_most_off(evidence)} least: chance makes such in 1 of 1,000."
    elif promising:
        reason = f"No worse than the stable arm in any metric, with a chance of error below {rules.beta:.0%}."
    return Verdict(
        harmful=harmful,
        mismatched=mismatched,
        breached=breached,
        promising=promising,
        reason=reason,
        harm=min(1.0, max(0.0, harm / harm_at)),
        promotion=min(1.0, max(0.0, promotion / promotion_at)),
        worst=METRIC[worst].label,
        slowest=METRIC[slowest].label,
    )


def errors_to_rollback(evidence: Evidence, rules: Rules, *, part: float) -> int | None:
    """Return how many more failed canary units alone would roll back; ``None`` without a canary. ``part`` is its part of traffic."""
    if not 0 < part < 1:
        return None

    def reached(more: int) -> bool:
        return log_harm(absorbed(evidence, [{"errors": Pair(part, more, 1 - part, 0)}])) >= math.log(1 / rules.alpha)

    return _least(reached)


def requests_to_promote(evidence: Evidence, rules: Rules, *, so_far: Mapping[str, Pair]) -> int | None:
    """Return how many more canary units promote if all arms go on as they did ``so_far`` in this ring, metric by metric.

    ``None`` when they never would.
    """
    units = so_far["errors"].n if "errors" in so_far else 0
    if not units or not so_far["errors"].n_stable:
        return None

    def reached(more: int) -> bool:
        pairs = {name: Pair(*(count * more / units for count in pair)) for name, pair in so_far.items()}
        return log_promotion(absorbed(evidence, [pairs])) >= math.log(1 / rules.beta)

    return _least(reached)


def _least(reached: Callable[[int], bool]) -> int | None:
    """Return the least number that reaches it, by doubling and halving."""
    if reached(0):
        return 0
    high = 1
    while not reached(high):
        high *= 2
        if high > MOST_LOOKED_FOR:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high

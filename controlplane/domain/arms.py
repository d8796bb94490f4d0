"""From the totals of arms to evidence: what came since the last tick, per step and ring, and what counts as a bad unit.

A unit is slow, costly or long when it exceeds what 95 % of the comparison's units stayed under **before** this tick, with some
tolerance: a limit that was set before the counts were seen keeps the proof of ``controlplane.domain.verdict``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from controlplane.domain.verdict import (
    EMPTY,
    Evidence,
    Pair,
    absorbed,
    for_next_ring,
    log_harm,
    log_promotion,
    with_exposures,
)
from tidegate.core.release import NOT_COMPARED
from tidegate.core.window import BUCKETS_PER_OCTAVE, index_of, quantile

SUMS = ("asked", "units", "bad", "refusing", "scored", "loss_ppm", "exposed", "calls", "failed")
# Metric, distribution, and by how much a unit must exceed the limit before it counts as bad.
EXCEEDANCES = (
    ("latency", "unit_latency_us", 1.1),
    ("ttft", "unit_ttft_us", 1.1),
    ("cost", "unit_cost_nusd", 1.1),
    ("tokens", "unit_tokens", 1.2),
)
SPREADS = tuple(spread for _, spread, _ in EXCEEDANCES)
QUANTILE = 0.95
ENOUGH = 50
CURVE = 240
_SHIFT, _COUNT, _HEAD = 40, (1 << 40) - 1, 4
_MILLION = 1_000_000

Counts = dict[str, Any]  # sums by name, distributions packed


class Total(NamedTuple):
    """What one arm of a ring came to so far in one step. ``canary``: it had the candidate."""

    step: int
    ring: int
    canary: bool
    counts: Counts


class Memory(NamedTuple):
    """What a rollout remembers from tick to tick. ``rates`` has units and bad units of both sides, by metric, in this step."""

    evidence: Evidence
    seen: Mapping[str, Counts]
    limits: Mapping[str, int]
    rates: Mapping[str, tuple[float, float, float, float]]
    step: int
    curve: Sequence[tuple[int, float, float]]  # unix seconds, log E of harm, of promotion


FRESH = Memory(EMPTY, {}, {}, {}, -1, ())


def ticked(
    memory: Memory, totals: Iterable[Total], *, step: int, shares: Sequence[float], copies: int, at_s: int
) -> Memory:
    """Return what is known after a tick.

    ``totals`` are those of ``step`` and the one before; ``shares`` has the chance of the candidate per ring; ``copies`` is how
    many processes may have seen the same unit.
    """
    if step != memory.step:
        memory = memory._replace(evidence=for_next_ring(memory.evidence), rates={}, step=step)
    seen = dict(memory.seen)
    strata: dict[tuple[int, int], dict[bool, Counts]] = {}
    for total in totals:
        if total.ring == NOT_COMPARED:
            continue
        key = f"{total.step}:{total.ring}:{int(total.canary)}"
        strata.setdefault((total.step, total.ring), {})[total.canary] = since(seen.get(key, {}), total.counts)
        seen[key] = total.counts
    evidence, rates = memory.evidence, dict(memory.rates)
    for (of_step, ring), sides in sorted(strata.items()):
        pairs = pairs_of(sides.get(True, {}), sides.get(False, {}), memory.limits)
        evidence = absorbed(evidence, [pairs], current=of_step == step)
        if of_step == step:
            evidence = _exposed(evidence, sides, shares[ring] if ring < len(shares) else 0.0, copies)
            for name, pair in pairs.items():
                rates[name] = _sum(rates.get(name), pair)
    curve = [*memory.curve, (at_s, round(log_harm(evidence), 4), round(log_promotion(evidence), 4))][-CURVE:]
    limits = {**memory.limits, **limits_of(seen, step)}
    return Memory(evidence, _recent(seen, step), limits, rates, step, curve)


def _exposed(evidence: Evidence, sides: Mapping[bool, Counts], share: float, copies: int) -> Evidence:
    canary, rest = (sides.get(side, {}).get("exposed", 0) for side in (True, False))
    return with_exposures(evidence, share=share, canary=canary, stable=rest, copies=copies)


def _sum(before: tuple[float, float, float, float] | None, pair: Pair) -> tuple[float, float, float, float]:
    a, b, c, d = before or (0.0, 0.0, 0.0, 0.0)
    return a + pair.n, b + pair.bad, c + pair.n_stable, d + pair.bad_stable


def _recent(seen: Mapping[str, Counts], step: int) -> dict[str, Counts]:
    """Keep the totals of this step and the one before: what is older has come in by now."""
    return {key: counts for key, counts in seen.items() if int(key.partition(":")[0]) >= step - 1}


def since(before: Counts, now: Counts) -> Counts:
    """Return what was added: sums, and for distributions how many per bucket. Totals only grow."""
    added: Counts = {name: max(0, now.get(name, 0) - before.get(name, 0)) for name in SUMS}
    for name in SPREADS:
        old = {entry >> _SHIFT: entry & _COUNT for entry in before.get(name, ())[_HEAD:]}
        added[name] = {
            entry >> _SHIFT: more
            for entry in now.get(name, ())[_HEAD:]
            if (more := (entry & _COUNT) - old.get(entry >> _SHIFT, 0)) > 0
        }
    return added


def pairs_of(canary: Counts, rest: Counts, limits: Mapping[str, int]) -> dict[str, Pair]:
    """Return units and bad units by metric, of what two arms added."""

    def pair(of: str, bad: str, scale: float = 1.0) -> Pair:
        return Pair(canary.get(of, 0), canary.get(bad, 0) / scale, rest.get(of, 0), rest.get(bad, 0) / scale)

    pairs = {
        "errors": pair("units", "bad"),
        "refused": pair("asked", "refusing"),
        "score": pair("scored", "loss_ppm", _MILLION),
    }
    for metric, spread, _ in EXCEEDANCES:
        if metric in limits:
            ours, theirs = canary.get(spread, {}), rest.get(spread, {})
            pairs[metric] = Pair(
                sum(ours.values()), _above(ours, limits[metric]), sum(theirs.values()), _above(theirs, limits[metric])
            )
    return {name: each for name, each in pairs.items() if each.n or each.n_stable}


def _above(buckets: Mapping[int, int], limit: int) -> int:
    return sum(count for index, count in buckets.items() if index > limit)


def limits_of(seen: Mapping[str, Counts], step: int) -> dict[str, int]:
    """Return the bucket that a unit must exceed to be bad in the next tick, by metric, from the comparison's units of ``step``."""
    limits: dict[str, int] = {}
    for metric, spread, tolerance in EXCEEDANCES:
        packed = [
            counts[spread]
            for key, counts in seen.items()
            if key.startswith(f"{step}:") and key.endswith(":0") and counts.get(spread)
        ]
        if sum(each[0] for each in packed) >= ENOUGH:
            most = max(packed, key=lambda each: each[0])
            limits[metric] = index_of(quantile(most, QUANTILE)) + math.ceil(BUCKETS_PER_OCTAVE * math.log2(tolerance))
    return limits


def part_of(memory: Memory) -> float:
    """Return the canary's part of the units compared in this step, from 0 to 1; 0 when there are none."""
    n, _, n_stable, _ = memory.rates.get("errors", (0.0, 0.0, 0.0, 0.0))
    return n / (n + n_stable) if n + n_stable else 0.0


def rates_of(memory: Memory) -> dict[str, tuple[float, float]]:
    """Return the part of bad units of canary and comparison by metric, as seen in this step."""
    return {
        name: (bad / n, bad_stable / n_stable)
        for name, (n, bad, n_stable, bad_stable) in memory.rates.items()
        if n and n_stable
    }


# To and from JSON, as the database keeps it.


def remembered(document: Mapping[str, Any]) -> Memory:
    """Return the memory that was kept; a fresh one of an empty document."""
    if not document:
        return FRESH
    said = document["evidence"]
    evidence = Evidence(
        {name: tuple(logs) for name, logs in said["harm"].items()},
        {name: tuple(logs) for name, logs in said["promotion"].items()},
        tuple(said["mismatch"]),
        said["ticks"],
        said["canary"],
        said["stable"],
    )
    rates = {name: (each[0], each[1], each[2], each[3]) for name, each in document["rates"].items()}
    curve = [(each[0], each[1], each[2]) for each in document["curve"]]
    return Memory(evidence, document["seen"], document["limits"], rates, document["step"], curve)


def kept(memory: Memory) -> dict[str, Any]:
    """Return the memory as a JSON document."""
    return {**memory._asdict(), "evidence": memory.evidence._asdict()}

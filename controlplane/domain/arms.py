"""From the totals of arms to evidence: what came since the last tick, per step and ring, and what counts as a bad unit.

Who failed, was refused or scored low is compared with everybody who has the release before by chance. What depends on how warm
caches are (time, cost, tokens) is compared with the baseline only, an arm of the candidate's size, where there is one.

A unit is slow, costly or long when it exceeds what 95 % of the comparison's units stayed under **before** this tick, with some
tolerance: a limit that was set before the counts were seen keeps the proof of ``controlplane.domain.verdict``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

from controlplane.domain.verdict import (
    EMPTY,
    Evidence,
    Pair,
    Size,
    absorbed,
    for_next_ring,
    log_harm,
    log_promotion,
    with_sizes,
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
_NOTHING = Pair(0, 0, 0, 0)

Counts = dict[str, Any]  # sums by name, distributions packed


class Side(IntEnum):
    """Who is counted: those with the release before, those with the candidate, and of the first an arm as large as the second."""

    STABLE = 0
    CANARY = 1
    BASELINE = 2


class Total(NamedTuple):
    """What one arm of a ring came to so far in one step."""

    step: int
    ring: int
    side: Side
    counts: Counts


class Shares(NamedTuple):
    """What chance gives the candidate and the baseline of the units that are compared in a ring, each from 0 to 1.

    0: there is no such arm, or it is not to be checked. ``at_most``: the candidate may get fewer (copies may be left out).
    """

    canary: float = 0.0
    baseline: float = 0.0
    at_most: bool = False


Sides = dict[Side, Counts]


class Memory(NamedTuple):
    """What a rollout remembers from tick to tick. ``so_far`` has units and bad units of both sides, by metric, in this step."""

    evidence: Evidence
    seen: Mapping[str, Counts]
    limits: Mapping[str, int]
    so_far: Mapping[str, Pair]
    step: int
    curve: Sequence[tuple[int, float, float]]  # unix seconds, log E of harm, of promotion


FRESH = Memory(EMPTY, {}, {}, {}, -1, ())


def ticked(
    memory: Memory, totals: Iterable[Total], *, step: int, shares: Sequence[Shares], copies: int, at_s: int
) -> Memory:
    """Return what is known after a tick.

    ``totals`` are those of ``step`` and the one before; ``shares`` has what chance gives each arm, per ring; ``copies`` is how
    many processes may have seen the same unit.
    """
    if step != memory.step:
        memory = memory._replace(evidence=for_next_ring(memory.evidence), so_far={}, step=step)
    seen = dict(memory.seen)
    strata: dict[tuple[int, int], Sides] = {}
    for total in totals:
        if total.ring == NOT_COMPARED:
            continue
        key = f"{total.step}:{total.ring}:{int(total.side)}"
        strata.setdefault((total.step, total.ring), {})[total.side] = since(seen.get(key, {}), total.counts)
        seen[key] = total.counts
    evidence, so_far = memory.evidence, dict(memory.so_far)
    for (of_step, ring), sides in sorted(strata.items()):
        share = shares[ring] if ring < len(shares) else Shares()
        pairs = pairs_of(sides, memory.limits, beside=share.baseline > 0)
        evidence = absorbed(evidence, [pairs], current=of_step == step)
        if of_step == step:
            evidence = with_sizes(evidence, sizes_of(sides, share), copies=copies)
            for name, pair in pairs.items():
                so_far[name] = _sum(so_far.get(name), pair)
    curve = [*memory.curve, (at_s, round(log_harm(evidence), 4), round(log_promotion(evidence), 4))][-CURVE:]
    limits = {**memory.limits, **limits_of(seen, step)}
    return Memory(evidence, _recent(seen, step), limits, so_far, step, curve)


def sizes_of(sides: Sides, shares: Shares) -> dict[str, Size]:
    """Return how many units the candidate and the baseline got, each beside all the others."""
    units = {side: sides.get(side, {}).get("exposed", 0) for side in Side}
    everybody = sum(units.values())
    canary, baseline = units[Side.CANARY], units[Side.BASELINE]
    return {
        "canary": Size(shares.canary, canary, everybody - canary, shares.at_most),
        "baseline": Size(shares.baseline, baseline, everybody - baseline),
    }


def _sum(before: Pair | None, pair: Pair) -> Pair:
    return Pair(*(a + b for a, b in zip(before, pair, strict=True))) if before else pair


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


def pairs_of(sides: Sides, limits: Mapping[str, int], *, beside: bool = False) -> dict[str, Pair]:
    """Return units and bad units by metric, of what the arms of a ring added. ``beside``: it has a baseline."""
    canary = sides.get(Side.CANARY, {})
    others = [counts for side, counts in sides.items() if side != Side.CANARY]
    alike = sides.get(Side.BASELINE if beside else Side.STABLE, {})

    def pair(of: str, bad: str, scale: float = 1.0) -> Pair:
        n_stable, bad_stable = (sum(counts.get(name, 0) for counts in others) for name in (of, bad))
        return Pair(canary.get(of, 0), canary.get(bad, 0) / scale, n_stable, bad_stable / scale)

    pairs = {
        "errors": pair("units", "bad"),
        "refused": pair("asked", "refusing"),
        "score": pair("scored", "loss_ppm", _MILLION),
    }
    for metric, spread, _ in EXCEEDANCES:
        if metric in limits:
            ours, theirs = canary.get(spread, {}), alike.get(spread, {})
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
        packed = _packed(seen, step, Side.BASELINE, spread) or _packed(seen, step, Side.STABLE, spread)
        if sum(each[0] for each in packed) >= ENOUGH:
            most = max(packed, key=lambda each: each[0])
            limits[metric] = index_of(quantile(most, QUANTILE)) + math.ceil(BUCKETS_PER_OCTAVE * math.log2(tolerance))
    return limits


def _packed(seen: Mapping[str, Counts], step: int, side: Side, spread: str) -> list[Sequence[int]]:
    mine = [counts for key, counts in seen.items() if key.startswith(f"{step}:") and key.endswith(f":{int(side)}")]
    return [counts[spread] for counts in mine if counts.get(spread)]


def part_of(memory: Memory) -> float:
    """Return the canary's part of the units compared in this step, from 0 to 1; 0 when there are none."""
    units = memory.so_far.get("errors", _NOTHING)
    return units.n / (units.n + units.n_stable) if units.n + units.n_stable else 0.0


# To and from JSON, as the database keeps it.


def remembered(document: Mapping[str, Any]) -> Memory:
    """Return the memory that was kept; a fresh one of an empty document."""
    if not document:
        return FRESH
    said = document["evidence"]
    evidence = Evidence(
        {name: tuple(logs) for name, logs in said["harm"].items()},
        {name: tuple(logs) for name, logs in said["promotion"].items()},
        {arm: tuple(logs) for arm, logs in said.get("sizes", {}).items()},
        said["ticks"],
        said["canary"],
        said["stable"],
    )
    so_far = {name: Pair(*each) for name, each in document.get("so_far", {}).items()}
    curve = [(each[0], each[1], each[2]) for each in document["curve"]]
    return Memory(evidence, document["seen"], document["limits"], so_far, document["step"], curve)


def kept(memory: Memory) -> dict[str, Any]:
    """Return the memory as a JSON document."""
    so_far = {name: list(pair) for name, pair in memory.so_far.items()}
    return {**memory._asdict(), "evidence": memory.evidence._asdict(), "so_far": so_far}

"""The whole way from units to a verdict, all metrics at once: SDK's arms, totals, limits from earlier ticks, evidence."""

from __future__ import annotations

import math
import random

import pytest

from controlplane.domain.arms import FRESH, SPREADS, SUMS, Shares, Side, Total, ticked
from controlplane.domain.verdict import log_harm
from tests.simulation.rollouts.counting import most_by_chance
from tidegate.arms import ArmKey, ArmRow, Arms, CallOutcome
from tidegate.core.release import Deployment

RUNS, TICKS, UNITS, CALLS = 250, 25, 40, 3


SIDES = {"canary": Side.CANARY, "baseline": Side.BASELINE, "stable": Side.STABLE}


def deployment(*, baseline: bool) -> Deployment:
    ring = {"share": 250_000, "tenants": [], "users": [], "regions": []}
    return Deployment(
        "assistant",
        {
            "id": 1, "unit": "session", "salt": "s", "routes": ["*"], "step": 1, "stable": "a", "candidate": "b", "rings": [ring], "baseline": baseline,
            "releases": {"a": {"version": "1", "config": {}}, "b": {"version": "2", "config": {}}},
        },
    )  # fmt: skip


def call(dice: random.Random, *, failing: float, slower: float, trouble: float) -> CallOutcome:
    """One call: sessions in trouble fail and are slow all along; the provider drifts with ``slower``."""
    return CallOutcome(
        failed=dice.random() < failing + trouble,
        latency_us=round(300_000 * slower * dice.lognormvariate(0, 0.5) * (1 + 3 * trouble)),
        cost_nusd=round(1_000_000 * dice.lognormvariate(0, 0.3)),
        tokens=dice.randrange(100, 900),
        score=dice.random(),
    )


def most_evidence(seed: int, *, harm: float = 0.0, baseline: bool = False) -> float:
    """Return the most that the evidence ever was in one rollout whose candidate fails ``harm`` more often."""
    dice = random.Random(seed)
    one, arms, memory, most = deployment(baseline=baseline), Arms(), FRESH, 0.0
    rows: dict[ArmKey, ArmRow] = {}

    def row(key: ArmKey) -> ArmRow:
        return rows.setdefault(key, ArmRow())

    for tick in range(TICKS):
        for number in range(UNITS):
            unit = f"{seed}/{tick}/{number}"
            assignment = one.assign(unit)
            trouble = 0.5 if dice.random() < 0.02 else 0.0
            more = harm if assignment.arm == "canary" else 0.0
            for _ in range(CALLS):
                outcome = call(dice, failing=0.01 + more, slower=1 + tick / TICKS, trouble=trouble)
                arms.count(assignment, unit, 30.0, outcome, row, now=tick * 5.0)
        arms.close(row, tick * 5.0)
        totals = [
            Total(
                key.step,
                key.ring,
                SIDES[key.arm],
                {name: getattr(counts, name) for name in SUMS} | spreads(counts),
            )
            for key, counts in rows.items()
        ]
        memory = ticked(memory, totals, step=1, shares=[Shares(0.25, 0.25 if baseline else 0.0)], copies=1, at_s=tick)
        most = max(most, log_harm(memory.evidence))
    return most


def spreads(counts: ArmRow) -> dict[str, list[int]]:
    return {name: getattr(counts, name).packed() for name in SPREADS}


@pytest.mark.slow
@pytest.mark.parametrize("baseline", [False, True])
def test_pipeline__harmless_release_with_drift_and_sessions_in_trouble__is_rolled_back_at_most_alpha(
    baseline: bool,
) -> None:
    reached = [most_evidence(seed, baseline=baseline) for seed in range(RUNS)]

    for alpha in (0.01, 0.05):
        rolled_back = sum(peak >= math.log(1 / alpha) for peak in reached)
        assert rolled_back / RUNS <= most_by_chance(alpha, RUNS), (alpha, rolled_back)


@pytest.mark.parametrize("baseline", [False, True])
def test_pipeline__release_that_fails_more_often__is_caught(baseline: bool) -> None:
    reached = [most_evidence(seed, harm=0.2, baseline=baseline) for seed in range(10)]

    assert sum(peak >= math.log(100) for peak in reached) >= 9

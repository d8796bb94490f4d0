"""What is said of a rollout: which way the evidence may go, and what came of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controlplane.domain.rollout import RingPlan
from controlplane.domain.verdict import EMPTY, Rules, judge
from controlplane.rollouts.findings import ArmFigures, Figures, Findings
from controlplane.rollouts.models import Deployment, Release, Rollout
from dashboard.rollout_words import changes_of, meter_of, outcome_of

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
NOTHING = judge(EMPTY, Rules())


def rollout(*, gate: str = "verdict", unit: str = "session", **more: Any) -> Rollout:
    deployment = Deployment(slug="assistant", unit=unit)
    return Rollout(
        deployment=deployment,
        release=Release(version="2"),
        previous=Release(version="1"),
        strategy="rings",
        rings=[RingPlan("Canary", 50_000, gate=gate)._asdict()],
        **{"phase": "running", "ring": 0, "entered_at": NOW - timedelta(seconds=100), **more},
    )


def found(*, errors: int | None = 11, units: int | None = 840, compared: int = 84, **verdict: Any) -> Findings:
    return Findings(NOTHING._replace(**verdict), compared, errors, units)


@pytest.mark.parametrize(
    ("one", "findings", "says"),
    [
        (rollout(), found(), "11 more errors roll it back, 840 more sessions promote it, about 17 min."),
        (rollout(unit="request"), found(errors=1), "1 more error rolls it back, 840 more requests promote it, about 17 min."),
        (rollout(), found(errors=None, units=1), "1 more session promotes it, about 1 s."),
        (rollout(), found(units=0), "11 more errors roll it back, enough is seen to promote it once it has baked."),
        (rollout(), found(units=None, slowest="costly calls"),
         "11 more errors roll it back, at these rates it is never promoted: costly calls are in the way."),
        (rollout(gate="time"), found(), "11 more errors roll it back, else it goes on by time."),
        (rollout(), found(compared=0), "Nothing was compared in this ring yet."),
    ],
)  # fmt: skip
def test_meter__any_evidence__says_both_ways_that_it_may_go(one: Rollout, findings: Findings, says: str) -> None:
    meter = meter_of(one, findings, NOW)

    assert meter is not None
    assert (meter.name, meter.says) == ("Evidence of no harm", says)


def test_meter__nearer_to_harm__says_in_what() -> None:
    meter = meter_of(rollout(), found(harm=0.7, promotion=0.2, worst="refusals"), NOW)

    assert meter is not None
    assert (meter.name, meter.value, meter.tone) == ("Evidence of harm", 70, "trouble")
    assert meter.says.endswith("Most harm in refusals.")


def test_meter__on_its_way_to_everybody__is_none() -> None:
    assert meter_of(rollout(phase="promoting"), found(), NOW) is None


ARMS = Figures(ArmFigures(calls=1000, failed=8, cost_nusd=1_000_000), ArmFigures(calls=100, failed=4, cost_nusd=89_000))


@pytest.mark.parametrize(
    ("arms", "says"),
    [
        (ARMS, "After 2 min and 100 requests: errors 0.8 % → 4.0 %, cost −11 %. More errors."),
        (Figures(ArmFigures(), ARMS.candidate), "After 2 min and 100 requests. More errors."),
    ],
)
def test_outcome__ended__says_what_it_came_to_and_why(arms: Figures, says: str) -> None:
    one = rollout(phase="rolled_back", started_at=NOW - timedelta(minutes=2), ended_at=NOW, reason="More errors.")

    assert outcome_of(one, arms) == says


def test_outcome__clients_said_how_fast__is_told() -> None:
    times: dict[str, Any] = {"started_at": NOW - timedelta(minutes=2), "ended_at": NOW}
    one = rollout(phase="complete", step=4, applied={"step": 4, "clients": 1, "p99_ms": 180}, **times)

    assert outcome_of(one, Figures(ArmFigures(), ArmFigures())).endswith("1 client took the last change within 180 ms.")


def test_changes__many__are_cut_to_three() -> None:
    before, after = {"a": 1, "b": 2, "c": 3, "d": 4}, {"a": 2, "b": 3, "c": 4, "e": "x" * 40}

    assert changes_of(before, after) == "a 1 → 2, b 2 → 3, c 3 → 4 and 2 more"

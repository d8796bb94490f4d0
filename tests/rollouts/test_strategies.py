"""How strategies differ: whom a canary is compared with, what a shadow shows, what is never returned to."""

from __future__ import annotations

import pytest

from controlplane.domain.arms import remembered
from controlplane.domain.rollout import RingPlan
from controlplane.problems import Conflict, Invalid
from controlplane.rollouts.actions.rollouts import act
from controlplane.rollouts.actions.ticking import tick
from controlplane.rollouts.models import Deployment
from controlplane.tenancy.models import Tenant
from tests.rollouts.world import ANN, NOW, count, do, later, rollout_of, snapshot_of
from tidegate.core.bucketing import PARTS

pytestmark = pytest.mark.django_db


def test_rollout__canary__is_compared_with_an_arm_of_its_size_unless_told_otherwise(deployment: Deployment) -> None:
    rollout = rollout_of(deployment, strategy="canary")

    assert rollout.baseline
    assert [ring.share for ring in rollout.plan.rings] == [50_000, PARTS]
    act(by=ANN, rollout=rollout, verb="abort", expected_version=None, now=NOW)
    assert not rollout_of(deployment, strategy="canary", baseline=False).baseline


def test_retry__release_was_marked_bad_by_another_rollout__is_refused(deployment: Deployment) -> None:
    first = rollout_of(deployment)
    act(by=ANN, rollout=first, verb="abort", expected_version=None, now=NOW)
    second = rollout_of(deployment)
    act(by=ANN, rollout=second, verb="rollback", expected_version=None, now=NOW)

    with pytest.raises(Conflict, match="marked bad"):
        act(by=ANN, rollout=first, verb="retry", expected_version=None, now=NOW)


def test_shadow__started__nobody_gets_it_and_copies_do(deployment: Deployment, acme: Tenant) -> None:
    rollout_of(deployment, strategy="shadow")

    found = snapshot_of(acme).deployment_of("acme", "chat")
    assert found is not None
    assert found.candidate is None
    copied, other = found.at(0), found.at(PARTS - 1)
    assert (copied.version, copied.shadow and copied.shadow.version) == ("1", "2")
    assert (other.version, other.shadow) == ("1", None)


def test_shadow__promoted__serves_its_next_ring_and_the_shadow_is_gone(deployment: Deployment, acme: Tenant) -> None:
    rollout = do(rollout_of(deployment, strategy="shadow"), "promote")

    found = snapshot_of(acme).deployment_of("acme", "chat")
    assert found is not None
    assert rollout.plan.rings[rollout.ring].share == 50_000
    assert (found.at(49_999).arm, found.at(49_999).ring) == ("canary", 1)
    assert (found.at(50_000).arm, found.at(50_000).shadow) == ("stable", None)


def test_shadow__copies_that_fail__roll_back_what_nobody_was_served(deployment: Deployment) -> None:
    rollout = rollout_of(deployment, strategy="shadow")
    count(rollout, "shadow", 200)
    count(rollout, "stable", 600)
    tick(now=later(5))
    count(rollout, "shadow", 400, bad=40)
    count(rollout, "stable", 1200, bad=6)

    (decision,) = tick(now=later(10))

    rollout.refresh_from_db()
    assert (decision.verb, rollout.phase, rollout.release.bad_at) == ("rollback", "rolled_back", later(10))


@pytest.mark.parametrize(
    ("shadows", "field"),
    [((True, True), "rings"), ((False, True, False), "rings[1].shadow"), ((False, False), "rings")],
)
def test_shadow__rings_in_the_wrong_order__are_refused(
    deployment: Deployment, shadows: tuple[bool, ...], field: str
) -> None:
    rings = tuple(RingPlan(f"R{number}", 50_000, shadow=shadow) for number, shadow in enumerate(shadows))

    with pytest.raises(Invalid) as refused:
        rollout_of(deployment, strategy="shadow", rings=rings)

    assert field in refused.value.errors


@pytest.mark.parametrize(("copies", "phase"), [(200, "running"), (10, "running"), (600, "held")])
def test_shadow__copies__may_be_left_out_and_not_be_too_many(deployment: Deployment, copies: int, phase: str) -> None:
    rollout = rollout_of(deployment, strategy="shadow")
    count(rollout, "shadow", copies)
    count(rollout, "stable", 600)

    tick(now=later(5))

    rollout.refresh_from_db()
    assert rollout.phase == phase
    assert ("canary" in rollout.reason) == (phase == "held")


@pytest.mark.parametrize(("units", "phase"), [(50, "running"), (10, "held")])
def test_canary__baseline_of_the_wrong_size__is_held(deployment: Deployment, units: int, phase: str) -> None:
    rollout = rollout_of(deployment, strategy="canary")
    for arm, of_it in (("canary", 50), ("baseline", units), ("stable", 900)):
        count(rollout, arm, of_it)

    tick(now=later(5))

    rollout.refresh_from_db()
    assert rollout.phase == phase
    assert ("baseline" in rollout.reason) == (phase == "held")


def test_canary__errors__are_judged_beside_the_baseline_and_all_the_rest(deployment: Deployment) -> None:
    rollout = rollout_of(deployment, strategy="canary")
    count(rollout, "canary", 100, bad=2)
    count(rollout, "baseline", 100, bad=1)
    count(rollout, "stable", 1800, bad=9)

    tick(now=later(5))

    rollout.refresh_from_db()
    assert remembered(rollout.evidence).so_far["errors"] == (100, 2, 1900, 10)

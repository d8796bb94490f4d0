"""How strategies differ: whom a canary is compared with, what a shadow shows, what is never returned to."""

from __future__ import annotations

import pytest

from controlplane.problems import Conflict
from controlplane.rollouts.actions.rollouts import act
from controlplane.rollouts.models import Deployment
from tests.rollouts.world import ANN, NOW, rollout_of
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

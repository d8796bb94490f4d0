"""The demo's rollouts: made when it is time, one after the other, and given up when nobody decides."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from controlplane.rollouts.actions.rollouts import act
from controlplane.rollouts.models import Deployment, Rollout
from controlplane.runtime.demo import releases, seed, world

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def newest() -> Rollout:
    return Rollout.objects.select_related("release", "deployment").latest("id")


def test_steer__again_and_again__rolls_out_one_release_after_the_other() -> None:
    seed.seed(now=NOW, restore=False)
    prompts = []
    now = NOW
    for _ in range(4):
        releases.steer(now)
        releases.steer(now)
        prompts.append(newest().release.config["prompt"])
        act(by=seed.DEMO, rollout=newest(), verb="abort", expected_version=None, now=now)
        releases.steer(now + releases.REST / 2)
        now += releases.REST + timedelta(seconds=1)

    assert prompts == [world.STRICT, world.TERSE, world.VERBOSE, world.STRICT]
    assert Rollout.objects.count() == 4
    assert Deployment.objects.get().tenant is not None


def test_steer__held_and_nobody_decides__is_aborted() -> None:
    seed.seed(now=NOW, restore=False)
    releases.steer(NOW)
    Rollout.objects.update(phase="held")

    releases.steer(NOW + releases.GIVEN_UP_AFTER / 2)
    assert newest().phase == "held"
    releases.steer(NOW + releases.GIVEN_UP_AFTER + timedelta(seconds=1))

    assert newest().phase == "aborted"


def test_steer__demo_world_removed__does_nothing() -> None:
    releases.steer(NOW)

    assert not Deployment.objects.exists()

"""Rollouts that have not begun: edited, submitted, approved as they are then, and begun at their time, never in a freeze."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.domain.rollout import RingPlan
from controlplane.policy.models import Snapshot
from controlplane.problems import Conflict, Forbidden, Invalid
from controlplane.rollouts import queries
from controlplane.rollouts.actions.deployments import create_release, release_faults
from controlplane.rollouts.actions.freezes import add_freeze
from controlplane.rollouts.actions.rollouts import Wish, edit_rollout
from controlplane.rollouts.actions.ticking import tick
from controlplane.rollouts.models import Deployment, Rollout
from controlplane.tenancy.models import AuditEntry
from controlplane.tenancy.queries import Asker
from tests.rollouts.world import ANN, BOB, NOW, do, later, rollout_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def careful(deployment: Deployment) -> Deployment:
    deployment.needs_approval = True
    deployment.save()
    create_release(by=ANN, deployment=deployment, config={"model": "c"})
    return deployment


def edit(rollout: Rollout, *, version: str = "2", by: Asker = ANN, at: int | None = None, **wish: Any) -> Rollout:
    release = queries.release_of(rollout.deployment, version)
    return edit_rollout(by=by, rollout=rollout, release=release, wish=Wish(**wish), expected_version=at, now=NOW)


def test_edit__draft__is_what_it_says_now_and_nobody_gets_it(careful: Deployment) -> None:
    before = Snapshot.objects.count()
    rollout = rollout_of(careful, start=False)

    edited = edit(rollout, version="3", rings=(RingPlan("Few", 1000),), strategy="canary", alpha=0.05)

    edited.refresh_from_db()
    assert (edited.phase, edited.release.version, edited.alpha, edited.baseline) == ("draft", "3", 0.05, True)
    assert [ring.name for ring in edited.plan.rings] == ["Few"]
    assert Snapshot.objects.count() == before
    assert AuditEntry.objects.filter(action="rollout.edit", actor="ann").exists()


def test_edit__submitted__has_to_be_submitted_again(careful: Deployment) -> None:
    rollout = rollout_of(careful)
    assert rollout.phase == "approval"

    edited = edit(rollout, version="3")

    assert edited.phase == "draft"
    with pytest.raises(Conflict, match="waits for an approval"):
        do(edited, "approve", by=BOB)


def test_edit__by_another__neither_of_them_approves(careful: Deployment) -> None:
    rollout = do(edit(rollout_of(careful, start=False), by=BOB, alpha=0.02), "start", by=BOB)

    for author in (ANN, BOB):
        with pytest.raises(Forbidden, match="another person"):
            do(rollout, "approve", by=author)
    assert do(rollout, "approve", by=Asker("cid", BOB.role)).phase == "running"


def test_edit__begun__is_refused(deployment: Deployment) -> None:
    with pytest.raises(Conflict, match="running"):
        edit(rollout_of(deployment))


def test_edit__somebody_was_faster__is_refused(deployment: Deployment) -> None:
    rollout = rollout_of(deployment, start=False)
    edit(rollout, at=rollout.version, alpha=0.02)

    with pytest.raises(Conflict, match="look again"):
        edit(rollout, at=rollout.version, alpha=0.03)


def test_edit__wish_that_is_wrong__changes_nothing(deployment: Deployment) -> None:
    rollout = rollout_of(deployment, start=False)

    with pytest.raises(Invalid) as refused:
        edit(rollout, alpha=0.9)

    assert list(refused.value.errors) == ["alpha"]
    assert Rollout.objects.get(pk=rollout.pk).version == rollout.version


def test_authors_of__rollouts_of_a_page__are_known_without_asking_again(
    careful: Deployment, django_assert_num_queries: Any
) -> None:
    edit(rollout_of(careful), by=BOB)
    with django_assert_num_queries(1):
        rollouts = list(queries.rollouts_seen_by(Asker("cid", BOB.role)))
        authors = [queries.authors_of(rollout) for rollout in rollouts]

    assert authors == [{"ann", "bob"}] == [queries.authors_of(rollout) for rollout in Rollout.objects.all()]


def test_approve__start_is_later__is_scheduled_and_begins_then(careful: Deployment) -> None:
    rollout = do(rollout_of(careful, starts_at=later(60)), "approve", by=BOB)
    assert rollout.phase == "scheduled"

    assert tick(now=later(59)) == []
    (decision,) = tick(now=later(60))

    rollout.refresh_from_db()
    assert (decision.verb, rollout.phase) == ("begin", "running")


def test_freeze__on__drafts_are_submitted_and_scheduled_but_nothing_begins(careful: Deployment) -> None:
    add_freeze(by=ANN, tenant=None, starts_at=NOW, ends_at=later(120), reason="Holidays")
    rollout = rollout_of(careful, starts_at=later(60))
    assert rollout.phase == "approval"
    assert do(rollout, "approve", by=BOB).phase == "scheduled"

    assert tick(now=later(60)) == []
    tick(now=later(120))

    rollout.refresh_from_db()
    assert rollout.phase == "running"


def test_freeze__on__what_would_begin_at_once_is_refused(deployment: Deployment) -> None:
    rollout = rollout_of(deployment, start=False)
    add_freeze(by=ANN, tenant=None, starts_at=NOW, ends_at=later(120), reason="Holidays")

    with pytest.raises(Conflict, match="Holidays"):
        do(rollout, "start")


def test_release_faults__config_and_version__are_named_without_making_any(deployment: Deployment) -> None:
    deployment.schema = {"properties": {"model": {"type": "string"}}}
    count = deployment.releases.count()

    assert release_faults(deployment, {"model": 7}, "a b") == {
        "config.model": "must be of type string",
        "version": "has at most 40 letters, digits, and - _ . +",
    }
    assert release_faults(deployment, {"model": "x"}) == {}
    assert deployment.releases.count() == count

"""Deployments, releases and rollouts in the database: who may, what is refused, what the snapshots say, what ticks do."""

from __future__ import annotations

import pytest
from django.db import ProgrammingError, transaction

from controlplane.domain.rollout import RingPlan
from controlplane.policy.models import Snapshot
from controlplane.problems import Conflict, Forbidden, Invalid, NotFound
from controlplane.rollouts import queries
from controlplane.rollouts.actions.deployments import Description, archive_deployment, create_deployment, create_release
from controlplane.rollouts.actions.freezes import add_freeze, end_freeze
from controlplane.rollouts.actions.ticking import retain, tick
from controlplane.rollouts.convergence import convergence_of
from controlplane.rollouts.findings import figures_of, findings_of
from controlplane.rollouts.models import ArmTotal, Deployment, Release, Rollout
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import AuditEntry, Role, Tenant
from controlplane.tenancy.queries import SYSTEM, Asker
from tests.rollouts.world import ANN, BOB, NOW, count, do, got_by, instance, later, rollout_of, snapshot_of
from tidegate.core.bucketing import PARTS

pytestmark = pytest.mark.django_db


# Releases


def test_release__the_first__is_everybodys_at_once(deployment: Deployment, acme: Tenant) -> None:
    assert got_by(acme, 0) == ("1", "stable")
    assert snapshot_of(None).deployments["assistant"].stable.config == {"model": "a"}


def test_release__same_content_again__is_the_same_release(deployment: Deployment) -> None:
    again = create_release(by=ANN, deployment=deployment, config={"model": "a"})

    assert again.version == "1"
    with pytest.raises(Conflict, match="very config"):
        create_release(by=ANN, deployment=deployment, config={"model": "a"}, version="9")
    with pytest.raises(Conflict, match="never change"):
        create_release(by=ANN, deployment=deployment, config={"model": "c"}, version="1")


def test_release__config_changed_in_the_database__is_refused(deployment: Deployment) -> None:
    with pytest.raises(ProgrammingError, match="never changes"), transaction.atomic():
        Release.objects.filter(deployment=deployment, version="1").update(config={"model": "z"})


def test_release__config_that_does_not_fit_the_schema__is_refused(acme: Tenant) -> None:
    schema = {"type": "object", "required": ["model"], "properties": {"model": {"type": "string"}}}
    made = create_deployment(by=ANN, slug="strict", tenant=acme, description=Description(schema=schema))

    with pytest.raises(Invalid) as refused:
        create_release(by=ANN, deployment=made, config={"model": 7})

    assert refused.value.errors == {"config.model": "must be of type string"}


@pytest.mark.parametrize(
    ("description", "field"),
    [
        (Description(routes=("a b",)), "routes[0]"),
        (Description(unit="planet"), "unit"),
        (Description(method="md5"), "method"),
        (Description(window_s=0), "window_s"),
        (Description(schema={"pattern": "a"}), "schema.pattern"),
    ],
)
def test_deployment__described_wrongly__names_the_field(acme: Tenant, description: Description, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        create_deployment(by=ANN, slug="x", tenant=acme, description=description)

    assert list(refused.value.errors) == [field]


# Rollouts and snapshots


def test_rollout__started__a_ring_of_five_percent_gets_it(deployment: Deployment, acme: Tenant) -> None:
    rollout_of(deployment)

    assert got_by(acme, 49_999) == ("2", "canary")
    assert got_by(acme, 50_000) == ("1", "stable")


def test_rollout__draft__changes_nothing_for_anybody(deployment: Deployment, acme: Tenant) -> None:
    before = Snapshot.objects.count()

    rollout_of(deployment, start=False)

    assert Snapshot.objects.count() == before
    assert got_by(acme, 0) == ("1", "stable")


def test_rollout__rolled_back__everybody_is_back_and_the_release_is_bad(deployment: Deployment, acme: Tenant) -> None:
    rollout = do(rollout_of(deployment), "rollback", reason="It swears.")

    assert (rollout.phase, rollout.release.bad_reason) == ("rolled_back", "It swears.")
    assert got_by(acme, 0) == ("1", "stable")
    with pytest.raises(Conflict, match="bad"):
        rollout_of(deployment)


def test_rollout__to_everybody__is_stable_when_the_clients_run_it(deployment: Deployment, acme: Tenant) -> None:
    behind = instance(acme, etag="0" * 64)
    rollout = do(rollout_of(deployment), "promote_fully")
    assert got_by(acme, PARTS - 1) == ("2", "stable")

    assert tick(now=later(1)) == []
    behind.config_etag = Snapshot.objects.filter(scope=acme).latest("id").etag
    behind.save()
    (decision,) = tick(now=later(2))

    assert decision.verb == "complete"
    deployment.refresh_from_db()
    rollout.refresh_from_db()
    assert (deployment.stable, rollout.phase) == (rollout.release, "complete")
    assert got_by(acme, 0) == ("2", "stable")


def test_rollout__complete__can_still_be_rolled_back(deployment: Deployment, acme: Tenant) -> None:
    rollout = do(rollout_of(deployment), "promote_fully")
    tick(now=later(1))

    do(rollout, "rollback", after_s=2)

    assert got_by(acme, 0) == ("1", "stable")


def test_rollout__release_before_is_bad__is_never_returned_to(deployment: Deployment) -> None:
    first = do(rollout_of(deployment), "promote_fully")
    tick(now=later(1))
    create_release(by=ANN, deployment=deployment, config={"model": "c"})
    second = rollout_of(deployment, version="3")
    Release.objects.filter(pk=first.release_id).update(bad_at=NOW)

    with pytest.raises(Conflict, match="never returned to"):
        do(second, "rollback")


def test_rollout__another_is_open__there_is_one_at_a_time(deployment: Deployment) -> None:
    rollout_of(deployment)
    create_release(by=ANN, deployment=deployment, config={"model": "c"})

    with pytest.raises(Conflict, match="one at a time"):
        rollout_of(deployment, version="3")
    with pytest.raises(Conflict, match="abort it first"):
        archive_deployment(by=ANN, deployment=deployment)


def test_rollout__blue_green__switches_both_ways_by_a_pointer(deployment: Deployment, acme: Tenant) -> None:
    rollout = rollout_of(deployment, strategy="blue_green")
    prefetched = snapshot_of(acme).deployments["assistant"]
    assert prefetched.candidate is not None

    there = do(rollout, "switch")
    assert got_by(acme, 0) == ("2", "stable")
    do(there, "switch")
    assert got_by(acme, 0) == ("1", "stable")


def test_rollout__rings_given_wrongly__names_the_field(deployment: Deployment) -> None:
    with pytest.raises(Invalid) as refused:
        rollout_of(deployment, rings=(RingPlan("A", PARTS), RingPlan("", 0, bake_s=-1)), alpha=0.0)

    assert set(refused.value.errors) == {"rings[0].gate", "rings[1].name", "rings[1].share", "rings[1].bake_s", "alpha"}


# Verbs


def test_act__same_version_again__is_done_once(deployment: Deployment) -> None:
    rollout = rollout_of(deployment)
    version = rollout.version

    once = do(rollout, "pause", expected_version=version)
    twice = do(rollout, "pause", expected_version=version)

    assert once.version == twice.version == version + 1
    assert rollout.events.filter(verb="pause").count() == 1
    with pytest.raises(Conflict, match="look again"):
        do(rollout, "resume", expected_version=version)
    with pytest.raises(Conflict, match="look again"):
        do(rollout, "pause", by=BOB, expected_version=version)


def test_act__viewer_or_another_tenant__may_not(deployment: Deployment) -> None:
    rollout = rollout_of(deployment)
    other = create_tenant(by=SYSTEM, slug="globex", name="Globex")
    outsider = Asker("eve", Role.ADMIN, other)

    with pytest.raises(Forbidden):
        do(rollout, "pause", by=Asker("vic", Role.VIEWER))
    with pytest.raises(NotFound):
        queries.rollout_seen_by(outsider, "assistant")
    with pytest.raises(NotFound):
        queries.deployment_seen_by(outsider, "assistant")


def test_act__approval__is_another_persons(acme: Tenant) -> None:
    made = create_deployment(by=ANN, slug="careful", tenant=acme, description=Description(needs_approval=True))
    create_release(by=ANN, deployment=made, config={"model": "a"})
    create_release(by=ANN, deployment=made, config={"model": "b"})
    rollout = rollout_of(made)
    assert rollout.phase == "approval"

    with pytest.raises(Forbidden, match="another person"):
        do(rollout, "approve")

    assert do(rollout, "approve", by=BOB).phase == "running"


def test_act__frozen__goes_back_but_not_on(deployment: Deployment) -> None:
    rollout = rollout_of(deployment)
    freeze = add_freeze(by=ANN, tenant=None, starts_at=NOW, ends_at=later(60), reason="Holidays")

    with pytest.raises(Conflict, match="Holidays"):
        do(rollout, "promote")
    end_freeze(by=ANN, freeze=freeze, now=later(1))
    assert do(rollout, "promote", after_s=2).ring == 1

    add_freeze(by=ANN, tenant=deployment.tenant, starts_at=NOW, ends_at=later(60))
    assert do(rollout, "rollback", after_s=3).phase == "rolled_back"


def test_act__what_was_done__is_in_the_audit_and_in_the_history(deployment: Deployment) -> None:
    rollout = do(rollout_of(deployment), "pause", reason="Lunch")

    assert AuditEntry.objects.filter(
        action="rollout.pause", actor="ann", reason="Lunch", target=f"assistant/{rollout.pk}"
    ).exists()
    assert [event.verb for event in queries.history_of(rollout)] == ["pause", "start", "create"]


# Ticks


def test_tick__five_times_the_errors__rolls_back_by_itself(deployment: Deployment, acme: Tenant) -> None:
    rollout = rollout_of(deployment)
    for number in range(1, 11):
        count(rollout, "canary", 50 * number, bad=3 * number)
        count(rollout, "stable", 950 * number, bad=5 * number)
        tick(now=later(5 * number))

    rollout.refresh_from_db()
    assert (rollout.phase, rollout.bad) == ("rolled_back", True)
    assert "errors" in rollout.reason
    assert got_by(acme, 0) == ("1", "stable")
    assert rollout.events.filter(actor="system", verb="rollback").count() == 1


def test_tick__no_worse__advances_after_its_bake(deployment: Deployment) -> None:
    rollout = rollout_of(deployment)
    for number in range(1, 31):
        count(rollout, "canary", 50 * number)
        count(rollout, "stable", 950 * number, bad=number)
        tick(now=later(5 * number))

    rollout.refresh_from_db()
    assert (rollout.phase, rollout.ring) == ("running", 1)


def test_tick__looked_at_again_and_again__counts_are_taken_once(deployment: Deployment) -> None:
    rollout = rollout_of(deployment)
    count(rollout, "canary", 50, bad=3)
    count(rollout, "stable", 950, bad=5)
    tick(now=later(1))
    first = Rollout.objects.get(pk=rollout.pk).evidence["evidence"]

    for number in range(20):
        tick(now=later(2 + number))

    assert Rollout.objects.get(pk=rollout.pk).evidence["evidence"] == first


def test_tick__paused__still_rolls_back(deployment: Deployment) -> None:
    rollout = do(rollout_of(deployment), "pause")
    for number in range(1, 11):
        count(rollout, "canary", 50 * number, bad=5 * number)
        count(rollout, "stable", 950 * number, bad=5 * number)
        tick(now=later(5 * number))

    rollout.refresh_from_db()
    assert rollout.phase == "rolled_back"


def test_tick__client_refuses_the_config__holds(deployment: Deployment, acme: Tenant) -> None:
    rollout = rollout_of(deployment)
    instance(acme, refused=Snapshot.objects.filter(scope=acme).latest("id").etag)

    tick(now=later(1))

    rollout.refresh_from_db()
    assert rollout.phase == "held"
    assert "rings[0]: odd" in rollout.reason


def test_tick__client_refused_something_older__goes_on(deployment: Deployment, acme: Tenant) -> None:
    old = Snapshot.objects.filter(scope=acme).latest("id").etag
    rollout = rollout_of(deployment)
    instance(acme, refused=old)

    assert tick(now=later(1)) == []
    assert convergence_of(rollout, now=later(1)).clients == 1


def test_tick__no_traffic__is_held_at_the_end(deployment: Deployment) -> None:
    rollout = rollout_of(deployment)

    tick(now=later(3601))

    rollout.refresh_from_db()
    assert rollout.phase == "held"
    assert "nothing to judge by" in rollout.reason


def test_tick__guardrail__rolls_back_without_comparison(deployment: Deployment) -> None:
    rollout = rollout_of(deployment, max_error_rate=0.5)
    count(rollout, "canary", 60, bad=40, ring=-1)

    tick(now=later(1))

    rollout.refresh_from_db()
    assert rollout.phase == "rolled_back"
    assert "Guardrail" in rollout.reason


def test_tick__aborted_and_tried_again__begins_with_fresh_evidence(deployment: Deployment) -> None:
    rollout = rollout_of(deployment)
    count(rollout, "canary", 50, bad=2)
    count(rollout, "stable", 950, bad=5)
    tick(now=later(1))

    again = do(do(rollout, "abort"), "retry")

    assert again.attempt == 2
    assert again.evidence["evidence"]["harm"] == {}
    assert findings_of(again).compared == 0
    assert figures_of([again])[again.pk].candidate.calls == 0


def test_figures__since_the_rollout_began__per_release(deployment: Deployment) -> None:
    rollout = rollout_of(deployment)
    count(rollout, "canary", 50, bad=2)
    count(rollout, "stable", 950, bad=5)

    figures = figures_of([rollout])[rollout.pk]

    assert (figures.candidate.calls, figures.stable.calls) == (50, 950)
    assert figures.candidate.error_rate == pytest.approx(0.04)
    assert figures.candidate.p99_us == pytest.approx(100_000, rel=0.006)


def test_findings__after_a_tick__say_what_is_missing(deployment: Deployment) -> None:
    rollout = rollout_of(deployment)
    count(rollout, "canary", 50)
    count(rollout, "stable", 950, bad=5)
    tick(now=later(1))

    findings = findings_of(Rollout.objects.select_related("deployment", "release", "previous").get(pk=rollout.pk))

    assert findings.compared == 50
    assert findings.errors_left is not None
    assert findings.errors_left > 2
    assert findings.units_left is not None
    assert findings.units_left > 100


def test_retain__totals_of_open_rollouts__are_kept(deployment: Deployment) -> None:
    rollout = rollout_of(deployment)
    count(rollout, "canary", 50)
    ArmTotal.objects.create(deployment_id=deployment.pk, step=-100, release="", arm="stable", ring=0)

    retain(now=NOW)

    assert [row.step for row in ArmTotal.objects.all()] == [rollout.step]

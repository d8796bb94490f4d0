"""Rules over the fleet, and budgets of users and sessions, tried on the past."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest

from controlplane.alerting import past
from controlplane.alerting.courses import Tried
from controlplane.budgets.actions.budgets import create_budget
from controlplane.budgets.models import Account, Budget, LedgerEntry
from controlplane.domain.alerts import Timing
from controlplane.fleet.models import Instance
from controlplane.rollouts.actions.deployments import Description, create_deployment, create_release
from controlplane.rollouts.actions.rollouts import Wish, act, create_rollout
from controlplane.rollouts.models import RolloutEvent
from controlplane.telemetry.models import CallWindow1m, Point, Series
from controlplane.tenancy.actions.keys import create_key
from controlplane.tenancy.models import Role, Tenant
from controlplane.tenancy.queries import SYSTEM, Asker
from tests.alerting.conftest import NOW

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
THEN = NOW - timedelta(days=2)
USD = 10**9


def tried(what: str, who: Asker = SYSTEM, **more: Any) -> Tried:
    return past.try_on_past(who, "fleet", {"what": what, **more}, Timing(), NOW)


def spans(found: Tried) -> list[tuple[datetime, datetime | None]]:
    return [(each.begins, each.ends) for each in found.episodes]


def window(at: datetime, **more: Any) -> None:
    fields = {"tenant": "acme", "route": "chat", "model": "m", "category": "", "kinds": {}, "calls": 1, **more}
    CallWindow1m.objects.create(starts_at=at, **fields)


def test_breakers_open__refused_for_ten_minutes__fired_for_ten_minutes() -> None:
    for minute in range(10):
        window(THEN + minute * MINUTE, kinds={"refused.breaker_open": 3})
    window(THEN + HOUR, kinds={"refused.budget_exhausted": 3})

    found = tried("breakers_open")

    assert spans(found) == [(THEN + 5 * MINUTE, THEN + 15 * MINUTE)]
    assert spans(tried("breakers_open", route="embed")) == []
    assert "nobody called" in found.note


def test_breakers_open__anothers_tenant__is_not_seen(acme: Tenant) -> None:
    window(THEN, tenant="globex", kinds={"refused.breaker_open": 3})

    assert spans(tried("breakers_open", Asker("anna", Role.OPERATOR, acme))) == []


def test_clients_lost__silent_without_a_goodbye__fired_for_the_hour_that_it_is_counted(acme: Tenant) -> None:
    key, _ = create_key(by=SYSTEM, tenant=acme, name="k")
    for closed in (None, THEN):
        Instance.objects.create(
            incarnation=uuid.uuid4(), key=key, scope=acme, app="a", host="h", pid=1, sdk="s", started_at=THEN - HOUR,
            seen_at=THEN + 2 * MINUTE, closed_at=closed,
        )  # fmt: skip

    assert spans(tried("clients_lost")) == [(THEN + 5 * MINUTE, THEN + 65 * MINUTE)]


def test_rollouts__asked_then_rolled_back__waited_until_then_and_is_undone_for_an_hour(acme: Tenant) -> None:
    deployment = create_deployment(by=SYSTEM, slug="assistant", tenant=acme, description=Description())
    create_release(by=SYSTEM, deployment=deployment, config={"model": "a"}, version="1")
    deployment.refresh_from_db()
    release = create_release(by=SYSTEM, deployment=deployment, config={"model": "b"}, version="2")
    rollout = create_rollout(by=SYSTEM, deployment=deployment, release=release, wish=Wish(), now=THEN, start=True)
    RolloutEvent.objects.create(
        rollout=rollout, at=THEN + 10 * MINUTE, actor="x", verb="ask", phase="running", ring=0, version=2
    )
    act(by=SYSTEM, rollout=rollout, verb="rollback", expected_version=None, now=THEN + 30 * MINUTE, reason="It swears.")

    assert spans(tried("rollouts_waiting")) == [(THEN + 10 * MINUTE, THEN + 30 * MINUTE)]
    assert spans(tried("rollouts_undone")) == [(THEN + 30 * MINUTE, THEN + 90 * MINUTE)]


def test_ingest_lag__silent_for_twenty_minutes__is_measured_and_fired() -> None:
    for minute in (*range(10), *range(30, 40)):
        window(THEN + minute * MINUTE)

    found = tried("ingest_lag_s", op="above", value=600)

    first, _ = spans(found)
    assert first == (THEN + 25 * MINUTE, THEN + 35 * MINUTE)
    ((track),) = found.tracks
    assert max(each.value for each in track.samples if each.value is not None and each.at < THEN + 40 * MINUTE) == 1200
    assert track.samples[0].value is None


@pytest.mark.parametrize("what", ["refusing", "dropping"])
def test_clients__counted_every_minute__fired_while_there_were_some(what: str, acme: Tenant) -> None:
    for minute in range(60):
        for tenant, count in (("acme", 2 if 20 <= minute < 40 else 0), ("globex", 5)):
            key = {"name": f"tidegate.clients.{what}", "tenant": tenant, "kind": "gauge", "monotonic": False, "unit": "{client}",
                   "service": "tidegate", "instance": "", "route": "", "model": "", "release": ""}  # fmt: skip
            series, _ = Series.objects.get_or_create(digest=tenant.encode().ljust(16), defaults=key)
            Point.objects.create(series=series, at=THEN + minute * MINUTE, samples=1, sum=count)

    found = tried(f"clients_{what}", Asker("anna", Role.OPERATOR, acme))

    assert spans(found) == [(THEN + 25 * MINUTE, THEN + 45 * MINUTE)]
    assert found.measured == 12
    assert found.note == "As counted once a minute."


def test_budget__of_a_user__is_tried_by_the_ledger(acme: Tenant) -> None:
    create_budget(
        by=SYSTEM, tenant=acme, slug="ann", amount_nusd=10 * USD, now=NOW, thresholds=[50],
        period={"kind": "calendar", "unit": "day", "timezone": "UTC"}, match={"user": "ann"},
    )  # fmt: skip
    budget = Budget.objects.get()
    account = Account.objects.create(budget=budget, period_key="then", starts_at=THEN, ends_at=THEN + HOUR)
    for number, (at, settled, corrected) in enumerate([(THEN, 4, 0), (THEN + HOUR, 3, 0), (THEN + 2 * HOUR, 0, 3)], 1):
        LedgerEntry.objects.create(
            at=at, id=number, incarnation=uuid.UUID(int=1), number=1, path=[account.pk], kind="settle", opened_at=THEN,
            counts_at=at, settled_nusd=settled * USD, corrected_nusd=corrected * USD,
        )  # fmt: skip

    found = past.try_on_past(SYSTEM, "budget", {}, Timing(), NOW)

    assert spans(found) == [(THEN + HOUR + 5 * MINUTE, THEN + 2 * HOUR + 5 * MINUTE)]

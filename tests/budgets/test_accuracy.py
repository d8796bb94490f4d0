"""How accuracy is told: in flight, idle, unverified, stranded, overspend, overage, false refusals."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.utils import timezone

from controlplane.budgets.accuracy import Accuracy, accuracy, lost_after
from controlplane.budgets.actions.budgets import change_amount
from controlplane.budgets.actions.ledger import rebuild
from controlplane.budgets.models import Budget
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.actions.tokens import create_token
from controlplane.tenancy.models import Role, Tenant
from controlplane.tenancy.queries import SYSTEM, Asker
from tests.budgets.test_leases import NOW, budget, report, sync

pytestmark = pytest.mark.django_db(transaction=True)
TOTAL = {"kind": "total"}


@pytest.fixture
def acme() -> Tenant:
    return create_tenant(by=SYSTEM, slug="acme", name="Acme")


@pytest.fixture
def me() -> UUID:
    return uuid4()


def only(now: datetime = NOW) -> Accuracy:
    (found,) = accuracy(SYSTEM, now)
    return found


def test_accuracy__a_lease_in_use__is_in_flight_idle_and_free(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "all", 1000)]
    sync(report(me, path, want=200, min_useful=10))
    sync(report(me, path, seq=2, want=150, settled=50, held=30), now=NOW + timedelta(seconds=3))

    found = only(NOW + timedelta(seconds=5))

    assert (found.settled_nusd, found.held_nusd, found.idle_nusd, found.free_nusd) == (50, 30, 120, 800)
    assert (found.unverified_nusd, found.stranded_nusd, found.overspend_nusd) == (0, 0, 0)
    assert (found.holders, found.lost, found.reported_at) == (1, 0, NOW + timedelta(seconds=3))


def test_accuracy__a_holder_that_fell_silent__is_unverified_and_stranded(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "all", 1000)]
    sync(report(me, path, want=200, held=30))

    last = only(NOW + lost_after())
    found = only(NOW + lost_after() + timedelta(seconds=1))

    assert (last.unverified_nusd, last.held_nusd) == (0, 30)
    assert (found.unverified_nusd, found.stranded_nusd, found.held_nusd, found.idle_nusd) == (200, 200, 0, 0)
    assert (found.lost, found.holders, found.reported_at) == (1, 0, None)


def test_accuracy__a_lowered_budget__is_not_overspent(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "all", 1000, TOTAL)]
    sync(report(me, path, want=240, min_useful=10))
    change_amount(by=SYSTEM, budget=path[0], amount_nusd=100, now=NOW)

    assert only().overspend_nusd == 0
    assert only().free_nusd == 0


@pytest.mark.parametrize(("silent_h", "overspend"), [(1, 0), (25, 140)])
def test_accuracy__a_lowered_rolling_budget__may_be_over_for_one_window(
    acme: Tenant, me: UUID, silent_h: int, overspend: int
) -> None:
    path = [budget(acme, "all", 1000, {"kind": "rolling", "days": 1})]
    sync(report(me, path, want=240, min_useful=10))
    change_amount(by=SYSTEM, budget=path[0], amount_nusd=100, now=NOW)

    assert only(NOW + timedelta(hours=silent_h)).overspend_nusd == overspend


def test_accuracy__a_client_that_settles_more_than_it_was_granted__is_overage_and_overspend(
    acme: Tenant, me: UUID
) -> None:
    path = [budget(acme, "all", 1000)]
    sync(report(me, path, want=200, min_useful=10))
    sync(report(me, path, seq=2, settled=5000))
    sync(report(me, path, seq=3, settled=5000, final=True))

    found = only()

    assert (found.settled_nusd, found.overage_nusd, found.overspend_nusd) == (5000, 4800, 4000)
    assert rebuild().differences == []


def test_accuracy__a_call_that_cost_more_than_its_bound__is_overage_within_the_amount(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "all", 1000)]
    sync(report(me, path, want=100, min_useful=10))
    sync(report(me, path, seq=2, settled=130, want=100, min_useful=10))

    assert (only().overage_nusd, only().overspend_nusd) == (30, 0)


@pytest.mark.parametrize(
    ("free", "false"),
    [(5000, 3), (150, 1), (99, 0)],
)
def test_accuracy__calls_denied_while_there_was_room__count_as_far_as_they_fit(
    acme: Tenant, me: UUID, free: int, false: int
) -> None:
    path = [budget(acme, "all", 10_000, TOTAL), budget(acme, "every", 10**9, TOTAL)]
    sync(report(uuid4(), path, want=1000))
    change_amount(by=SYSTEM, budget=path[0], amount_nusd=1000 + free, now=NOW)

    sync(report(me, path, want=100, min_useful=100, denied=3))

    assert {each.denied_calls for each in accuracy(SYSTEM, NOW)} == {3}
    assert {each.false_refusals for each in accuracy(SYSTEM, NOW)} == {false}


def test_accuracy__idle_rights_while_others_are_denied__are_stranded(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "all", 100, TOTAL)]
    sync(report(uuid4(), path, want=100, min_useful=100))
    sync(report(me, path, want=50, min_useful=50))

    assert (only().idle_nusd, only().stranded_nusd) == (100, 100)
    assert only(NOW + timedelta(seconds=29)).stranded_nusd == 100


def test_accuracy__asked_by_another_tenant__shows_nothing(acme: Tenant) -> None:
    budget(acme, "all", 100)
    other = create_tenant(by=SYSTEM, slug="globex", name="Globex")

    assert accuracy(Asker(name="gus", role=Role.OPERATOR, tenant=other), NOW) == []


def test_api__accuracy__adds_up(acme: Tenant, me: UUID, client: Any) -> None:
    item: Budget = budget(acme, "all", 10**9, TOTAL)
    now = timezone.now()
    sync(report(me, [item], want=10**8, settled=10**7, held=10**6), now=now)
    _, text = create_token(by=SYSTEM, name="test", role="viewer")

    answer = client.get("/api/v1/usage/accuracy?tenant=acme", HTTP_AUTHORIZATION=f"Bearer {text}")

    assert answer.status_code == 200, answer.content
    (found,) = answer.json()["items"]
    assert (found["settled_usd"], found["in_flight_usd"], found["overspend_usd"]) == ("0.01", "0.001", "0.00")
    assert answer.json()["proof"] is None
    parts = ("settled_usd", "in_flight_usd", "idle_usd", "unverified_usd", "free_usd")
    assert sum(round(float(found[part]) * 10**9) for part in parts) == 10**9

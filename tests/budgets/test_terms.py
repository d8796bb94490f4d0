"""What budgets say beyond their amount: what is carried to the next period, disconnection, sessions, when there is room."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from controlplane.budgets import queries
from controlplane.budgets.accuracy import accuracy
from controlplane.budgets.actions.budgets import change_amount, create_budget
from controlplane.budgets.actions.lease_acts import resolve_lease
from controlplane.budgets.actions.ledger import rebuild
from controlplane.budgets.actions.section import money
from controlplane.budgets.models import Account, Budget
from controlplane.domain.carry import CarryRule
from controlplane.problems import Invalid
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import SYSTEM
from tests.budgets.test_leases import NOW, budget, conninfo, report, sync

pytestmark = pytest.mark.django_db(transaction=True)
DAY = {"kind": "calendar", "unit": "day", "timezone": "UTC"}
TOMORROW = datetime(2026, 11, 26, tzinfo=UTC)


@pytest.fixture
def acme() -> Tenant:
    return create_tenant(by=SYSTEM, slug="acme", name="Acme")


@pytest.fixture
def me() -> UUID:
    return uuid4()


def spend(item: Budget, nusd: int, *, now: datetime) -> None:
    """Open a lease and close it with ``nusd`` settled, granted or not."""
    who = uuid4()
    sync(report(who, [item], want=min(nusd, 10**6), min_useful=1), now=now)
    sync(report(who, [item], seq=2, settled=nusd, final=True), now=now)


def room(item: Budget, *, now: datetime) -> int:
    """Return how much an eager client gets, and give it back."""
    who, got = uuid4(), 0
    for seq in range(1, 60):
        (answer,) = sync(report(who, [item], seq=seq, want=10**9, min_useful=1), now=now)
        got = answer.granted
    sync(report(who, [item], seq=99, returned=got, final=True), now=now)
    return got


@pytest.mark.parametrize(("spent", "expected"), [(400, 1250), (900, 1100), (1000, 1000)])
def test_carry__unused__is_added_up_to_the_cap(acme: Tenant, spent: int, expected: int) -> None:
    item = budget(acme, "day", 1000, DAY, carry=CarryRule(up_to=250))
    spend(item, spent, now=NOW)

    assert room(item, now=TOMORROW) == expected
    assert queries.standing_of(item, TOMORROW).amount_nusd == expected
    assert rebuild().differences == []


def test_carry__overspend__is_a_debt_and_goes_on_until_it_is_paid(acme: Tenant) -> None:
    item = budget(acme, "day", 1000, DAY, carry=CarryRule(debt=True))
    spend(item, 2300, now=NOW)

    assert room(item, now=TOMORROW) == 0
    assert room(item, now=TOMORROW + timedelta(days=1)) == 700
    assert queries.standing_of(item, TOMORROW + timedelta(days=1)).carried_nusd == -300


def test_carry__the_amount_is_changed_in_a_period_that_nobody_uses__the_debt_goes_on(acme: Tenant) -> None:
    item = budget(acme, "day", 1000, DAY, carry=CarryRule(debt=True))
    spend(item, 3700, now=NOW)

    change_amount(by=SYSTEM, budget=item, amount_nusd=900, now=TOMORROW)

    assert room(item, now=TOMORROW + timedelta(days=1)) == 0
    assert queries.standing_of(item, TOMORROW + timedelta(days=1)).carried_nusd == -1800


def test_carry__days_that_nobody_uses__pay_off_the_debt_one_by_one(acme: Tenant) -> None:
    item = budget(acme, "day", 1000, DAY, carry=CarryRule(up_to=500, debt=True))
    spend(item, 5700, now=NOW)
    days = [TOMORROW + timedelta(days=ahead) for ahead in range(7)]

    told = [queries.standing_of(item, day).carried_nusd for day in days]

    assert told == [-4700, -3700, -2700, -1700, -700, 300, 500]
    assert room(item, now=days[3]) == 0
    assert room(item, now=days[5]) == 1300
    assert rebuild().differences == []


def test_carry__idle_days_before_the_amount_is_changed__count_at_the_amount_of_then(acme: Tenant) -> None:
    item = budget(acme, "day", 1000, DAY, carry=CarryRule(debt=True))
    spend(item, 5700, now=NOW)

    change_amount(by=SYSTEM, budget=item, amount_nusd=200, now=TOMORROW + timedelta(days=2))

    assert queries.standing_of(item, TOMORROW + timedelta(days=2)).carried_nusd == -2700
    assert queries.standing_of(item, TOMORROW + timedelta(days=5)).carried_nusd == -2700 + 3 * 200
    assert room(item, now=TOMORROW + timedelta(days=15)) == 100


def test_carry__unused_days_in_a_row__add_up_to_the_cap(acme: Tenant) -> None:
    item = budget(acme, "day", 1000, DAY, carry=CarryRule(up_to=2500))
    spend(item, 400, now=NOW)

    assert [room(item, now=TOMORROW + timedelta(days=ahead)) for ahead in (0, 1, 4)] == [1600, 2600, 3500]


def test_carry__overspend_without_debt__is_forgiven(acme: Tenant) -> None:
    item = budget(acme, "day", 1000, DAY, carry=CarryRule(up_to=100))
    spend(item, 2300, now=NOW)

    assert room(item, now=TOMORROW) == 1000


def test_carry__what_is_still_leased__counts_as_spent_until_it_comes_back(acme: Tenant, me: UUID) -> None:
    item = budget(acme, "day", 1000, DAY, carry=CarryRule(up_to=10_000))
    (answer,) = sync(report(me, [item], want=250, min_useful=250))

    early = room(item, now=TOMORROW)
    sync(report(me, [item], seq=2, settled=answer.granted - 100, final=True), now=TOMORROW)

    assert (answer.granted, early, room(item, now=TOMORROW)) == (250, 1750, 1850)


@pytest.mark.parametrize("by", ["its holder", "an operator"])
def test_carry__a_lease_comes_back_two_days_late__is_carried_through_the_day_between(
    acme: Tenant, me: UUID, by: str
) -> None:
    item = budget(acme, "day", 1000, DAY, carry=CarryRule(up_to=10_000))
    sync(report(me, [item], want=800, min_useful=800))
    days = [TOMORROW + timedelta(days=ahead) for ahead in range(3)]
    early = [room(item, now=day) for day in days]

    if by == "its holder":
        sync(report(me, [item], seq=2, settled=100, final=True), now=days[2])
    else:
        resolve_lease(by=SYSTEM, incarnation=me, number=1, spent_nusd=100, reason="burned", now=days[2])

    assert (early, room(item, now=days[2])) == ([1200, 2200, 3200], 3900)
    assert queries.standing_of(item, days[2]).carried_nusd == 2900
    assert rebuild().differences == []


def test_carry__a_lease_comes_back_while_somebody_holds_the_day_between__who_holds_it_is_not_waited_for(
    acme: Tenant, me: UUID
) -> None:
    item = budget(acme, "day", 1000, DAY, carry=CarryRule(up_to=10_000))
    sync(report(me, [item], want=800, min_useful=800))
    room(item, now=TOMORROW)
    between = Account.objects.get(budget=item, period_key="2026-11-26")

    with psycopg.connect(conninfo()) as other:
        other.execute("SELECT id FROM budgets_account WHERE id = %s FOR UPDATE", [between.pk])
        sync(report(me, [item], seq=2, settled=100, final=True), now=TOMORROW)
        other.rollback()

    assert room(item, now=TOMORROW) == 1900


def test_carry__a_period_that_nobody_used__is_unused_whole(acme: Tenant) -> None:
    item = budget(acme, "day", 1000, DAY, carry=CarryRule(up_to=300))

    assert room(item, now=TOMORROW + timedelta(days=4)) == 1300


def test_carry__the_first_period__has_nothing(acme: Tenant) -> None:
    item = budget(acme, "day", 1000, DAY, carry=CarryRule(up_to=300))

    assert room(item, now=NOW) == 1000


def test_carry__the_amount_was_changed_since__counts_as_it_was_then(acme: Tenant) -> None:
    item = budget(acme, "day", 1000, DAY, carry=CarryRule(up_to=300))
    spend(item, 900, now=NOW)
    change_amount(by=SYSTEM, budget=item, amount_nusd=5000, now=TOMORROW)

    assert room(item, now=TOMORROW) == 5100


def test_carry__a_carried_amount_that_is_used__is_no_overspend(acme: Tenant) -> None:
    item = budget(acme, "day", 1000, DAY, carry=CarryRule(up_to=300))
    sync(report(uuid4(), [item], want=1300, min_useful=1300), now=TOMORROW)

    (found,) = accuracy(SYSTEM, TOMORROW)

    assert (found.idle_nusd, found.free_nusd, found.overspend_nusd) == (1300, 0, 0)


@pytest.mark.parametrize("period", [{"kind": "total"}, {"kind": "rolling", "days": 3}])
def test_create_budget__that_carries_but_has_no_calendar__is_refused(acme: Tenant, period: Any) -> None:
    with pytest.raises(Invalid) as raised:
        budget(acme, "x", 1000, period, carry=CarryRule(debt=True))

    assert list(raised.value.errors) == ["carry"]


def test_create_budget__unknown_disconnection__is_refused(acme: Tenant) -> None:
    with pytest.raises(Invalid) as raised:
        budget(acme, "x", 1000, DAY, on_disconnect="panic")

    assert list(raised.value.errors) == ["on_disconnect"]


def test_money__a_budget_to_be_finished_and_of_one_session__is_served_as_such(acme: Tenant) -> None:
    budget(acme, "x", 1000, DAY, on_disconnect="finish_lease", match={"session": "s-1"})

    (line,) = money().budgets

    assert (line.on_disconnect, line.match) == ("finish_lease", {"session": "s-1"})


def test_merge__several_periods_at_once__the_tightest_denies(acme: Tenant, me: UUID) -> None:
    path = [
        budget(acme, "hour", 100, {"kind": "calendar", "unit": "hour"}),
        budget(acme, "day", 150, DAY),
        budget(acme, "week", 10_000, {"kind": "rolling", "days": 7}),
    ]
    sync(report(uuid4(), path, want=100, min_useful=100))

    (hour,) = sync(report(me, path, want=60, min_useful=60))
    (day,) = sync(report(uuid4(), path, want=60, min_useful=60), now=NOW + timedelta(hours=1))

    assert (hour.blocked_by, hour.retry_after_ms) == ("acme/hour", 3_600_000)
    assert (day.blocked_by, day.retry_after_ms) == ("acme/day", 11 * 3_600_000)


def test_merge__a_rolling_window_is_full__says_when_its_oldest_slot_leaves(acme: Tenant, me: UUID) -> None:
    item = create_budget(
        by=SYSTEM, tenant=acme, slug="day", amount_nusd=100, period={"kind": "rolling", "days": 1}, now=NOW
    )
    spend(item, 100, now=NOW)
    at = NOW + timedelta(hours=20)

    (denied,) = sync(report(me, [item], want=50, min_useful=50), now=at)
    left = at + timedelta(milliseconds=denied.retry_after_ms or 0)
    (still,) = sync(report(me, [item], seq=2, want=50, min_useful=50), now=left - timedelta(milliseconds=1))
    (granted,) = sync(report(me, [item], seq=3, want=50, min_useful=50), now=left)

    assert (denied.denied, still.granted, granted.granted) == ("exhausted", 0, 50)
    assert left == NOW + timedelta(days=1, minutes=4)


def test_account__its_amount__is_what_was_in_force_at_its_end(acme: Tenant) -> None:
    item = budget(acme, "day", 1000, DAY)
    spend(item, 1, now=NOW)
    change_amount(by=SYSTEM, budget=item, amount_nusd=1500, now=NOW)
    change_amount(by=SYSTEM, budget=item, amount_nusd=70, now=TOMORROW)

    assert Account.objects.get(period_key="2026-11-25").amount_nusd == 1500

"""Lease reports against the real database: what SDKs say, what they are answered, and how accounts stand after."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import connection

from controlplane.budgets.actions.budgets import archive_budget, change_amount, create_budget
from controlplane.budgets.actions.leases import merge
from controlplane.budgets.models import Account, Budget, Lease
from controlplane.budgets.schemas import LeaseAnswer, LeaseReport
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import SYSTEM

pytestmark = pytest.mark.django_db(transaction=True)
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
MONTH = {"kind": "calendar", "unit": "month", "timezone": "UTC"}


def budget(tenant: Tenant | None, slug: str, amount: int, period: Any = MONTH, **more: Any) -> Budget:
    return create_budget(by=SYSTEM, tenant=tenant, slug=slug, amount_nusd=amount, period=period, now=NOW, **more)


@pytest.fixture
def acme() -> Tenant:
    return create_tenant(by=SYSTEM, slug="acme", name="Acme")


@pytest.fixture
def me() -> UUID:
    return uuid4()


def conninfo() -> str:
    named = connection.settings_dict
    return psycopg.conninfo.make_conninfo(
        "", host=named["HOST"], port=named["PORT"], user=named["USER"], password=named["PASSWORD"], dbname=named["NAME"]
    )


def sync(*reports: LeaseReport, now: datetime = NOW) -> list[LeaseAnswer]:
    async def run() -> list[LeaseAnswer]:
        async with await psycopg.AsyncConnection.connect(conninfo()) as link:
            answers = await merge(link, reports, now=now, ttl_ms=15000)
            return [answers[report.incarnation, report.number] for report in reports]

    return asyncio.run(run())


def report(me: UUID, path: list[Budget], **more: Any) -> LeaseReport:
    named = {"number": 1, "seq": 1, **more}
    return LeaseReport(incarnation=me, budgets=tuple(item.pk for item in path), **named)


def account_of(item: Budget) -> Account:
    return Account.objects.get(budget=item)


def test_merge__a_first_report__is_granted_on_every_account_of_the_path(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "chat", 1000), budget(None, "all", 4000)]

    (answer,) = sync(report(me, path, want=100, min_useful=50))

    assert answer.granted == 100
    assert answer.period_ms == (datetime(2026, 12, 1, tzinfo=UTC) - NOW) // timedelta(milliseconds=1)
    assert [account_of(item).outstanding_nusd for item in path] == [100, 100]


def test_merge__the_same_report_again__changes_nothing(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "chat", 1000)]
    said = report(me, path, want=200, settled=30, seen=100)
    (first,) = sync(said)

    (second,) = sync(said)

    assert second == first
    assert (account_of(path[0]).outstanding_nusd, account_of(path[0]).settled_nusd) == (200, 30)


def test_merge__an_older_report_after_a_newer__takes_nothing_back(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "chat", 1000)]
    sync(report(me, path, want=100))
    sync(report(me, path, want=100, seq=3, settled=60))

    sync(report(me, path, want=100, seq=2, settled=20))

    assert account_of(path[0]).settled_nusd == 60
    assert Lease.objects.get().seq == 3


def test_merge__the_budget_of_an_ancestor_is_used_up__denies_by_its_name(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "chat", 1000), budget(None, "all", 100)]
    sync(report(uuid4(), path, want=100, min_useful=90))

    (answer,) = sync(report(me, path, want=50, min_useful=20))

    assert (answer.granted, answer.denied, answer.blocked_by) == (0, "exhausted", "/all")
    assert answer.retry_after_ms == answer.period_ms


def test_merge__denied_what_another_may_still_spend__is_told_that_it_is_called_back(acme: Tenant, me: UUID) -> None:
    path, other = [budget(acme, "chat", 1000)], uuid4()
    sync(report(other, path, want=1000, min_useful=1000, waiting=1000))

    later = [NOW + timedelta(seconds=ahead) for ahead in (1, 2, 3)]
    (first,) = sync(report(me, path, want=100, min_useful=100, waiting=100), now=later[0])
    sync(report(other, path, seq=2, settled=950, want=0), now=later[1])
    (second,) = sync(report(me, path, seq=2, want=100, min_useful=100, waiting=100), now=later[2])

    assert (first.denied, first.recalling) == ("exhausted", True)
    assert (second.denied, second.recalling) == ("exhausted", False)


def test_merge__denied_what_somebody_silent_may_still_spend__is_not_waited_for(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "chat", 1000)]
    sync(report(uuid4(), path, want=1000, min_useful=1000, waiting=1000))

    (answer,) = sync(report(me, path, want=100, min_useful=100, waiting=100), now=NOW + timedelta(seconds=10))

    assert (answer.denied, answer.recalling) == ("exhausted", False)


def test_merge__a_budget_that_warns__is_accounted_and_never_denies(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "chat", 10, on_exhausted="warn")]

    (answer,) = sync(report(me, path, want=500, min_useful=500))

    assert (answer.granted, answer.denied) == (500, None)
    assert account_of(path[0]).outstanding_nusd == 500


def test_merge__a_budget_that_warns_is_spent__says_so_until_there_is_more(acme: Tenant, me: UUID) -> None:
    item = budget(acme, "chat", 1000, on_exhausted="warn")
    path = [item, budget(acme, "all", 100_000)]
    (before,) = sync(report(me, path, want=500, min_useful=100))
    (near,) = sync(report(me, path, seq=2, want=500, min_useful=100, settled=850))
    (spent,) = sync(report(me, path, seq=3, want=500, min_useful=100, settled=950))
    change_amount(by=SYSTEM, budget=item, amount_nusd=5000, now=NOW)

    (raised,) = sync(report(me, path, seq=4, want=500, min_useful=100, settled=950))

    assert [each.warned_by for each in (before, near, spent, raised)] == [None, None, "acme/chat", None]
    assert (spent.denied, spent.granted) == (None, 1450)


def test_merge__denied_with_too_little_for_a_call__is_told_to_give_it_back(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "chat", 1000)]
    sync(report(me, path, want=300, min_useful=300, waiting=300))
    sync(report(uuid4(), path, want=700, min_useful=700, waiting=700))

    (answer,) = sync(report(me, path, seq=2, want=300, min_useful=300, waiting=300, settled=100))

    assert (answer.denied, answer.cap) == ("exhausted", 0)


def test_merge__a_final_report__frees_what_was_left_and_closes_for_good(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "chat", 1000)]
    sync(report(me, path, want=200))

    (closed,) = sync(report(me, path, seq=2, settled=50, final=True))
    (later,) = sync(report(me, path, seq=3, settled=50, want=100))

    assert closed.closed
    assert (later.denied, later.granted) == ("closed", 200)
    assert (account_of(path[0]).outstanding_nusd, account_of(path[0]).settled_nusd) == (0, 50)


def test_merge__final_before_any_grant__closes_too(acme: Tenant, me: UUID) -> None:
    (answer,) = sync(report(me, [budget(acme, "chat", 1000)], final=True))

    assert answer.closed


def test_merge__a_lowered_budget__grants_nothing_and_calls_idle_rights_back(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "chat", 1000)]
    sync(report(me, path, want=200))
    change_amount(by=SYSTEM, budget=path[0], amount_nusd=100, now=NOW)

    (lowered,) = sync(report(me, path, seq=2, want=400, min_useful=300))
    sync(report(me, path, seq=3, returned=200))
    change_amount(by=SYSTEM, budget=path[0], amount_nusd=5000, now=NOW)
    (raised,) = sync(report(me, path, seq=4, returned=200, want=400, min_useful=300))

    assert (lowered.granted, lowered.cap, lowered.denied) == (200, 0, "exhausted")
    assert (raised.granted, raised.denied) == (600, None)


def test_merge__calls_that_cost_more_than_their_bound__are_counted_in_full(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "chat", 1000)]
    sync(report(me, path, want=100))

    (answer,) = sync(report(me, path, seq=2, settled=300, want=50))

    assert answer.granted == 350
    assert (account_of(path[0]).outstanding_nusd, account_of(path[0]).settled_nusd) == (50, 300)


def test_merge__a_correction__gives_the_money_back(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "chat", 1000)]
    sync(report(me, path, want=100))

    sync(report(me, path, seq=2, settled=80, corrected=30))

    assert account_of(path[0]).settled_nusd == 50


def test_merge__a_period_that_is_over__grants_nothing_and_still_counts(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "chat", 1000)]
    sync(report(me, path, want=100))
    december = datetime(2026, 12, 1, tzinfo=UTC)

    (late,) = sync(report(me, path, seq=2, settled=70, want=500), now=december)
    sync(report(me, path, number=2, seq=3, want=100), now=december)

    november, fresh = Account.objects.order_by("pk")
    assert (late.granted, late.period_ms) == (100, 0)
    assert (november.period_key, november.settled_nusd) == ("2026-11", 70)
    assert (fresh.period_key, fresh.outstanding_nusd) == ("2026-12", 100)


def test_merge__a_rolling_window__forgets_what_has_left_it(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "chat", 100, period={"kind": "rolling", "days": 1})]
    sync(report(me, path, want=100, min_useful=100))
    sync(report(me, path, seq=2, settled=100))

    (full,) = sync(report(me, path, seq=3, settled=100, want=50, min_useful=50), now=NOW + timedelta(hours=23))
    (later,) = sync(report(me, path, seq=4, settled=100, want=50, min_useful=50), now=NOW + timedelta(hours=25))

    assert full.denied == "exhausted"
    assert (later.granted, later.denied) == (150, None)


@pytest.mark.parametrize("allowed", [frozenset[str](), frozenset({"globex"})])
def test_merge__a_budget_of_somebody_else__is_unknown(acme: Tenant, me: UUID, allowed: frozenset[str]) -> None:
    (answer,) = sync(report(me, [budget(acme, "chat", 1000)], want=10, allowed=allowed))

    assert (answer.denied, answer.granted) == ("unknown", 0)
    assert not Lease.objects.exists()


def test_merge__a_lease_of_somebody_else__is_not_spoken_for(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "chat", 1000), budget(None, "all", 5000)]
    sync(report(me, path, want=100))

    (answer,) = sync(report(me, path[1:], seq=9, settled=70, want=900, final=True, allowed=frozenset({"globex"})))

    assert (answer.denied, answer.granted, answer.closed) == ("unknown", 0, False)
    lease = Lease.objects.get()
    assert (lease.granted_nusd, lease.settled_nusd, lease.seq, lease.closed) == (100, 0, 1, False)
    assert account_of(path[1]).outstanding_nusd == 100


def test_merge__an_archived_budget__takes_everything_back_and_still_counts(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "chat", 1000)]
    sync(report(me, path, want=100))
    archive_budget(by=SYSTEM, budget=path[0], now=NOW)

    (answer,) = sync(report(me, path, seq=2, settled=10, want=100))

    assert (answer.denied, answer.cap) == ("unknown", 0)
    assert account_of(path[0]).settled_nusd == 10


def test_merge__many_clients_at_once__never_hand_out_more_than_there_is(acme: Tenant) -> None:
    path = [budget(acme, "chat", 1000), budget(None, "all", 1500)]
    clients = [uuid4() for _ in range(40)]

    async def one(client: UUID) -> int:
        async with await psycopg.AsyncConnection.connect(conninfo()) as link:
            said = report(client, path, want=100, min_useful=30)
            return (await merge(link, [said], now=NOW, ttl_ms=15000))[client, 1].granted

    async def all_at_once() -> list[int]:
        return await asyncio.gather(*(one(client) for client in clients))

    granted = asyncio.run(all_at_once())

    assert sum(granted) <= 1000
    assert account_of(path[0]).outstanding_nusd == account_of(path[1]).outstanding_nusd == sum(granted)
    assert sum(granted) > 900

"""Many connections on trees of budgets: no deadlock, nothing lost, nothing overspent, at any instant anybody looks."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from uuid import uuid4

import msgspec
import psycopg
import pytest
from django.db import connections
from django.utils import timezone

from controlplane.budgets.actions.budgets import change_amount
from controlplane.budgets.actions.leases import merge
from controlplane.budgets.actions.ledger import rebuild
from controlplane.budgets.models import Account, Budget, Lease
from controlplane.budgets.schemas import LeaseReport
from controlplane.edge.batch import Arrival, Outcome, write
from controlplane.edge.mirror import Key
from controlplane.edge.schemas import SyncRequest
from controlplane.fleet.models import Instance
from controlplane.tenancy.actions.keys import create_key
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import SdkKey, Tenant
from controlplane.tenancy.queries import SYSTEM
from tests.concurrency.crowd import Paths, Worker, crowd
from tests.concurrency.ground import connect, overspent, uneven, waiting
from tidegate.core.snapshot import BudgetRef

pytestmark = pytest.mark.django_db(transaction=True)
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
WORKERS = 6
ROUNDS = 40


def forest(chance: random.Random) -> tuple[Paths, dict[int, int]]:
    """Create a root, three branches and six leaves, with several budgets each; return all paths, and the amounts."""
    owners: list[Tenant | None] = [None]
    parents: dict[int, int] = {}
    for number in range(9):
        parents[number + 1] = 0 if number < 3 else 1 + number % 3
        owners.append(create_tenant(by=SYSTEM, slug=f"t{number}", name="T", parent=owners[parents[number + 1]]))
    budgets: dict[int, list[Budget]] = {}
    for number, owner in enumerate(owners):
        size = {0: 20_000}.get(number, 6000 if number < 4 else 1500)
        budgets[number] = [
            Budget.objects.create(
                tenant=owner,
                slug=f"b{extra}",
                amount_nusd=chance.randint(size // 2, size),
                period_kind=kind,
                period_unit=unit,
            )
            for extra, (kind, unit) in enumerate((("total", ""), ("calendar", "month"))[: chance.randint(1, 2)])
        ]
    paths = []
    for leaf in range(4, 10):
        ids = [budget for owner in (leaf, parents[leaf], 0) for budget in budgets[owner]]
        paths.append(tuple(BudgetRef(budget.pk, None, budget.slug, (), "block") for budget in ids))
        paths.append(paths[-1][-2:])
    amounts = {budget.pk: budget.amount_nusd for found in budgets.values() for budget in found}
    return paths, amounts


@pytest.fixture
def chance() -> random.Random:
    return random.Random("concurrency")


async def watch(stop: asyncio.Event, most: dict[int, int]) -> int:
    """Look at the accounts again and again, each time as one snapshot of the database, until told to stop."""
    looks = 0
    link = await connect()
    async with link:
        while not stop.is_set():
            assert not await uneven(link)
            assert not await overspent(link, most)
            looks += 1
    return looks


@pytest.mark.slow
def test_merge__many_connections_on_trees_of_budgets__nothing_is_lost_at_any_instant(chance: random.Random) -> None:
    paths, amounts = forest(chance)
    workers = [Worker(number, "crowd", NOW, paths, []) for number in range(WORKERS)]
    for worker in workers:
        worker.stale = workers[0].stale

    async def together() -> int:
        stop = asyncio.Event()
        looking = asyncio.create_task(watch(stop, amounts))
        await crowd(workers, ROUNDS)
        stop.set()
        looks = await looking
        for worker in workers:
            await worker.finish()
        return looks

    looks = asyncio.run(together())

    assert looks > 5
    assert sum(worker.died for worker in workers) > 3
    spent = sum(client.spent for worker in workers for client in worker.clients)
    assert spent > 1000
    assert sum(Lease.objects.values_list("settled_nusd", flat=True)) == spent
    assert not Account.objects.exclude(outstanding_nusd=0).exists()
    assert not rebuild().differences


@pytest.mark.slow
def test_change_amount__while_many_draw_on_it__nothing_is_granted_once_it_is_nothing(chance: random.Random) -> None:
    paths, amounts = forest(chance)
    root = paths[0][-1].id
    most = {budget: 3 * amount for budget, amount in amounts.items()}
    workers = [Worker(number, "amounts", NOW, paths, []) for number in range(WORKERS)]

    def change(budget: int, amount: int) -> None:
        try:
            change_amount(by=SYSTEM, budget=Budget.objects.get(pk=budget), amount_nusd=amount, now=NOW)
        finally:
            connections.close_all()

    async def granted() -> int:
        link = await connect()
        async with link:
            query = b"SELECT coalesce(sum(granted_nusd), 0)::bigint FROM budgets_lease"
            row = await (await link.execute(query)).fetchone()
        assert row is not None
        return int(row[0])

    async def operator() -> int:
        for _ in range(12):
            budget = chance.choice(list(amounts))
            await asyncio.to_thread(change, budget, chance.randint(0, most[budget]))
        for ref in {path[-1].id for path in paths}:
            await asyncio.to_thread(change, ref, 0)
        return await granted()

    async def together() -> tuple[int, int]:
        stop = asyncio.Event()
        looking = asyncio.create_task(watch(stop, most))
        changing = asyncio.create_task(operator())
        await crowd(workers, ROUNDS)
        at_nothing = await changing
        await crowd(workers, 5)
        stop.set()
        await looking
        for worker in workers:
            await worker.finish()
        return at_nothing, await granted()

    at_nothing, at_the_end = asyncio.run(together())

    assert at_nothing == at_the_end > 0
    assert Budget.objects.get(pk=root).amount_nusd == 0
    assert not rebuild().differences


def test_change_amount__while_a_sync_opens_the_account__waits_for_it() -> None:
    budget = Budget.objects.create(tenant=None, slug="all", amount_nusd=1000, period_kind="total")
    said = LeaseReport(incarnation=uuid4(), seq=1, number=1, budgets=(budget.pk,), want=100)

    def lower() -> None:
        try:
            change_amount(by=SYSTEM, budget=budget, amount_nusd=0, now=NOW)
        finally:
            connections.close_all()

    async def both() -> None:
        link, other = await connect(), await connect()
        async with link, other:
            await merge(link, [said], now=NOW, ttl_ms=15_000)
            changing = asyncio.create_task(asyncio.to_thread(lower))
            while not await waiting(other):
                assert not changing.done(), "the amount was lowered under a grant by the old one"
                await asyncio.sleep(0.005)
            await link.commit()
            await changing

    asyncio.run(both())

    account = Account.objects.get()
    assert (account.outstanding_nusd, account.amount_nusd, account.highest_nusd) == (100, 0, 1000)


def test_write__the_same_first_sync_on_many_connections__counts_once(chance: random.Random) -> None:
    tenant = create_tenant(by=SYSTEM, slug="acme", name="Acme")
    budget = Budget.objects.create(tenant=tenant, slug="all", amount_nusd=100_000, period_kind="total")
    create_key(by=SYSTEM, tenant=tenant, name="app")
    made = SdkKey.objects.get()
    key = Key(made.pk, b"", tenant.pk, "acme", frozenset({"acme"}), frozenset({"acme"}), None)
    me = uuid4()

    def said(seq: int) -> SyncRequest:
        window = {"number": 1, "starts_ms": int(timezone.now().timestamp() * 1000), "rows": [{
            "tenant": "acme", "route": "chat", "model": "m", "category": "", "calls": 1, "cost_nusd": 70}]}  # fmt: skip
        return msgspec.convert(
            {
                "incarnation": str(me),
                "seq": seq,
                "sent_ms": 0,
                "windows": [window],
                "leases": [{"number": 1, "budgets": [budget.pk], "want": 500, "min_useful": 10, "denied": 2}],
            },
            SyncRequest,
        )

    async def one(seq: int) -> int:
        """Write a sync, again where two did not know each other yet and one had to give way, as the batcher does."""
        link = await connect()
        async with link:
            while True:
                try:
                    async with link.pipeline():
                        (outcome,) = await write(link, [Arrival(key, said(seq), timezone.now())])
                except psycopg.errors.DeadlockDetected:
                    await link.rollback()
                else:
                    assert isinstance(outcome, Outcome)
                    return outcome.leases[0].granted

    async def all_at_once() -> list[int]:
        return await asyncio.gather(*(one(seq % 3 + 1) for seq in range(12)))

    granted = asyncio.run(all_at_once())

    account = Account.objects.get()
    assert set(granted) == {500}
    assert (account.outstanding_nusd, account.denied_calls) == (500, 2)
    assert Lease.objects.get().granted_nusd == 500
    assert Instance.objects.get().windows_acked == 1

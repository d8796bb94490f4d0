"""The tables of the simulation against the real ones: the same syncs, the same answers, the same accounts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec
import pytest
from django.db import connections, transaction

from controlplane.budgets.actions import corrections, folding, lease_acts
from controlplane.budgets.actions.budgets import archive_budget, change_amount
from controlplane.budgets.actions.leases import merge
from controlplane.budgets.models import Account, AccountSlot, Budget, Lease
from controlplane.budgets.schemas import LeaseReport
from controlplane.domain.leases import Answer, LeaseKey, OpenLease
from controlplane.domain.taking_back import REST, rest_key
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.queries import SYSTEM
from tests.concurrency.ground import connect
from tests.simulation.run import run_in
from tests.simulation.setup import Setup, drawn
from tests.simulation.store import Store, Written
from tests.simulation.world import World

pytestmark = pytest.mark.django_db(transaction=True)

SEEDS = (40, 47, 48, 58)
FOLDING = (40, 58)  # worlds in which leases are folded and still spoken of
TAKING = (47, 48, 58)  # in which operators take back
DENSE = {"calls": 120, "clients": 3, "budgets": 5, "tenants": 2, "horizon": 8, "interval": 0.5, "hours": 0.4, "rolling": 0.4,
         "nights": 0.2, "archives": 0.05, "amounts": 0.4, "failures": 0.1, "unknown": 0.1, "repeat": 0.3, "corrections": 0.5,
         "overbilled": 0.05, "carries": 0.7, "revokes": 0.2, "kills": 0.1, "exits": 0.1, "errors": 0.2, "cancels": 0.2, "hour_ends": 4.0,
         "journals": 1.0, "resolves": 1.0, "lies": 0.5, "folds": 3.0, "takes": 2.0}  # fmt: skip


class Step(NamedTuple):
    """One transaction of a simulated world, committed or not."""

    reports: Sequence[LeaseReport]
    answers: dict[LeaseKey, Answer]
    now: datetime
    ttl_ms: int


class Change(NamedTuple):
    """What an operator did to a budget. ``amount`` is ``None`` when it was archived."""

    budget: int
    amount: int | None
    now: datetime


class Revocation(NamedTuple):
    """A lease that was cut off."""

    key: LeaseKey


class Ended(NamedTuple):
    """A lease of a lost holder that was closed, with what was presumed spent of what was left."""

    key: LeaseKey
    spent: int
    counts_at: datetime
    now: datetime


class Folding(NamedTuple):
    """Closed leases that were folded."""

    keys: list[LeaseKey]
    now: datetime


class Taken(NamedTuple):
    """What was taken back of a lease; ``path`` are the accounts of a rest, whose names differ in the real tables."""

    key: LeaseKey
    nusd: int
    path: tuple[int, ...]
    now: datetime


class Recording(Store):
    """A store that remembers what was done to it, and which of it was committed."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step | Change | Revocation | Ended | Folding | Taken] = []
        self.kept: set[int] = set()
        self.first_amounts: dict[int, int] = {}

    def merge(self, reports: Sequence[LeaseReport], *, now: datetime, ttl_ms: int) -> Written:
        written = super().merge(reports, now=now, ttl_ms=ttl_ms)
        self.steps.append(Step(reports, written.answers, now, ttl_ms))
        return written

    def commit(self, written: Written) -> None:
        super().commit(written)
        self.kept.add(len(self.steps) - 1)

    def change_amount(self, number: int, amount: int, now: datetime) -> None:
        self.first_amounts.setdefault(number, self.budgets[number].amount)
        self.steps.append(Change(number, amount, now))
        super().change_amount(number, amount, now)

    def archive(self, number: int) -> None:
        if not self.budgets[number].archived:
            self.steps.append(Change(number, None, datetime.now(UTC)))
        super().archive(number)

    def revoke(self, key: LeaseKey) -> None:
        self.steps.append(Revocation(key))
        super().revoke(key)

    def end(self, key: LeaseKey, spent: int, *, counts_at: datetime, now: datetime) -> None:
        self.steps.append(Ended(key, spent, counts_at, now))
        super().end(key, spent, counts_at=counts_at, now=now)

    def fold(self, *, now: datetime, keep: timedelta) -> list[OpenLease]:
        folded = super().fold(now=now, keep=keep)
        self.steps.append(Folding([lease.key for lease in folded], now))
        return folded

    def take_back(self, key: LeaseKey, nusd: int, now: datetime) -> None:
        self.steps.append(Taken(key, nusd, tuple(self.leases[key].path), now))
        super().take_back(key, nusd, now)

    def real_key(self, key: LeaseKey, path: Sequence[int], ids: dict[int, int]) -> LeaseKey:
        """Return what the real tables call a lease: rests are named by their accounts."""
        if key[1] != REST:
            return key
        rows = [self.accounts[account] for account in path]
        real = Account.objects.filter(budget__in=[ids[row.budget] for row in rows], ends_at=None)
        return rest_key(sorted(real.values_list("pk", flat=True)))


def recorded(setup: Setup) -> Recording:
    store = Recording()
    outcome = run_in(World(setup, store))
    assert not outcome.invariant, outcome.text
    return store


def made_real(store: Recording) -> dict[int, int]:
    """Create the budgets of ``store``; return their ids by the simulated ones."""
    names = sorted({budget.tenant for budget in store.budgets.values() if budget.tenant})
    tenants = {name: create_tenant(by=SYSTEM, slug=name, name=name) for name in names}
    ids = {}
    for budget in store.budgets.values():
        rule = budget.rule
        made = Budget.objects.create(
            tenant=tenants[budget.tenant] if budget.tenant else None,
            slug=budget.slug,
            amount_nusd=store.first_amounts.get(budget.id, budget.amount),
            period_kind=rule.kind,
            period_unit=rule.unit,
            period_timezone=rule.timezone,
            period_days=rule.days,
            on_exhausted="block" if budget.blocks else "warn",
            carry_up_to_nusd=budget.carry.up_to,
            carries_debt=budget.carry.debt,
            created_at=budget.created_at or datetime(2020, 1, 1, tzinfo=UTC),
        )
        ids[budget.id] = made.pk
    return ids


async def replay(store: Recording, ids: dict[int, int]) -> None:
    """Do every step on the real tables; each answer must be the simulated one."""
    link = await connect()
    async with link:
        for number, step in enumerate(store.steps):
            if isinstance(step, Change):
                await asyncio.to_thread(_change, ids[step.budget], step)
                continue
            if isinstance(step, Revocation):
                query = b"UPDATE budgets_lease SET revoked = true WHERE incarnation = %s AND number = %s"
                await link.execute(query, step.key)
                await link.commit()
                continue
            if isinstance(step, Ended):
                await asyncio.to_thread(_end, step)
                continue
            if isinstance(step, Folding):
                await asyncio.to_thread(_fold, step)
                continue
            if isinstance(step, Taken):
                await asyncio.to_thread(_take_back, store, step, ids)
                continue
            reports = [_with_ids(report, ids) for report in step.reports]
            answers = await merge(link, reports, now=step.now, ttl_ms=step.ttl_ms)
            for key, answer in answers.items():
                real = msgspec.structs.asdict(answer)
                assert real == {"number": key[1], **step.answers[key]._asdict()}, f"step {number}"
            await (link.commit() if number in store.kept else link.rollback())


def _change(number: int, change: Change) -> None:
    try:
        budget = Budget.objects.get(pk=number)
        if change.amount is None:
            archive_budget(by=SYSTEM, budget=budget, now=change.now)
        else:
            change_amount(by=SYSTEM, budget=budget, amount_nusd=change.amount, now=change.now)
    finally:
        connections.close_all()


def _end(step: Ended) -> None:
    try:
        with transaction.atomic():
            lease = Lease.objects.select_for_update().get(incarnation=step.key[0], number=step.key[1])
            spent, counts_at = {lease.pk: step.spent}, {lease.pk: step.counts_at}
            lease_acts._end([lease], spent, counts_at, by="otto", reason="the machine burned", now=step.now)
    finally:
        connections.close_all()


def _fold(step: Folding) -> None:
    try:
        with transaction.atomic():
            for incarnation, number in step.keys:
                leases = Lease.objects.select_for_update().filter(incarnation=incarnation, number=number)
                folding.fold_locked(list(leases), now=step.now)
    finally:
        connections.close_all()


def _take_back(store: Recording, step: Taken, ids: dict[int, int]) -> None:
    try:
        with transaction.atomic():
            incarnation, number = store.real_key(step.key, step.path, ids)
            key = Lease.objects.get(incarnation=incarnation, number=number).pk
            corrections._take_from(SYSTEM, {key: step.nusd}, "counted twice", step.now)
    finally:
        connections.close_all()


def _with_ids(report: LeaseReport, ids: dict[int, int]) -> LeaseReport:
    return msgspec.structs.replace(report, budgets=tuple(ids.get(budget, budget) for budget in report.budgets))


@pytest.mark.slow
@pytest.mark.timeout(600)  # a busy machine needs a while to make the database and to replay a world
@pytest.mark.parametrize("seed", SEEDS)
def test_merge__the_syncs_of_a_simulated_world__answers_and_keeps_what_the_simulation_does(seed: int) -> None:
    store = recorded(drawn(seed).changed(**DENSE))
    ids = made_real(store)
    merges = [step for step in store.steps if isinstance(step, Step)]
    denials = {answer.denied for step in merges for answer in step.answers.values()}
    assert len(store.kept) < len(merges) < len(store.steps)
    assert {None, "exhausted"} <= denials
    assert seed not in TAKING or any(isinstance(step, Taken) for step in store.steps)
    assert seed not in FOLDING or sum(len(step.keys) for step in store.steps if isinstance(step, Folding)) > 3

    asyncio.run(replay(store, ids))

    budgets = {real: simulated for simulated, real in ids.items()}
    real_accounts = {(budgets[row.budget_id], row.period_key): row for row in Account.objects.all()}
    assert real_accounts.keys() == store.keys.keys()
    for key, real in real_accounts.items():
        row = store.accounts[store.keys[key]]
        assert (real.outstanding_nusd, real.settled_nusd, real.denied_calls) == (
            row.outstanding,
            row.settled,
            row.denied,
        )
        slots = dict(AccountSlot.objects.filter(account=real).values_list("starts_at", "settled_nusd"))
        assert slots == row.slots
    real_leases = {(lease.incarnation, lease.number): lease for lease in Lease.objects.all()}
    real_keys = {key: store.real_key(key, lease.path, ids) for key, lease in store.leases.items()}
    assert real_leases.keys() == set(real_keys.values())
    for lease_key, lease in store.leases.items():
        real_lease = real_leases[real_keys[lease_key]]
        counters = real_lease.granted_nusd, real_lease.settled_nusd, real_lease.returned_nusd, real_lease.corrected_nusd
        assert (*counters, real_lease.presumed_nusd) == (*lease.counters, lease.presumed)
        assert (real_lease.closed, real_lease.seq) == (lease.closed, lease.seq)

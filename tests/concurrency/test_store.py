"""The tables of the simulation against the real ones: the same syncs, the same answers, the same accounts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec
import pytest

from controlplane.budgets.actions.leases import merge
from controlplane.budgets.models import Account, AccountSlot, Budget, Lease
from controlplane.budgets.schemas import LeaseReport
from controlplane.domain.leases import Answer, LeaseKey
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.queries import SYSTEM
from tests.concurrency.ground import connect
from tests.simulation.run import run_in
from tests.simulation.setup import Setup, drawn
from tests.simulation.store import Store, Written
from tests.simulation.world import World

pytestmark = pytest.mark.django_db(transaction=True)

SEEDS = (8, 40, 56)
DENSE = {"calls": 120, "clients": 3, "budgets": 5, "tenants": 2, "horizon": 8, "interval": 0.5, "hours": 0.4, "rolling": 0.4,
         "nights": 0.2, "archives": 0.05, "amounts": 0.4, "failures": 0.1, "unknown": 0.1, "repeat": 0.3, "corrections": 0.5,
         "overbilled": 0.05, "kills": 0.1, "exits": 0.1, "errors": 0.2, "cancels": 0.2, "hour_ends": 4.0}  # fmt: skip


class Step(NamedTuple):
    """One transaction of a simulated world. ``terms``: the budgets as they were, amount and whether archived."""

    reports: Sequence[LeaseReport]
    answers: dict[LeaseKey, Answer]
    now: datetime
    ttl_ms: int
    terms: dict[int, tuple[int, bool]]


class Recording(Store):
    """A store that remembers what was done to it, and which of it was committed."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.kept: set[int] = set()

    def merge(self, reports: Sequence[LeaseReport], *, now: datetime, ttl_ms: int) -> Written:
        written = super().merge(reports, now=now, ttl_ms=ttl_ms)
        terms = {number: (budget.amount, budget.archived) for number, budget in self.budgets.items()}
        self.steps.append(Step(reports, written.answers, now, ttl_ms, terms))
        return written

    def commit(self, written: Written) -> None:
        super().commit(written)
        self.kept.add(len(self.steps) - 1)


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
            amount_nusd=store.steps[0].terms[budget.id][0],
            period_kind=rule.kind,
            period_unit=rule.unit,
            period_timezone=rule.timezone,
            period_days=rule.days,
            on_exhausted="block" if budget.blocks else "warn",
        )
        ids[budget.id] = made.pk
    return ids


async def replay(store: Recording, ids: dict[int, int]) -> None:
    """Do every step on the real tables; each answer must be the simulated one."""
    link = await connect()
    async with link:
        for number, step in enumerate(store.steps):
            for budget, (amount, archived) in step.terms.items():
                await link.execute(
                    b"UPDATE budgets_budget SET amount_nusd = %s, archived_at = CASE WHEN %s THEN now() END WHERE id = %s",
                    [amount, archived, ids[budget]],
                )
            await link.commit()
            reports = [_with_ids(report, ids) for report in step.reports]
            answers = await merge(link, reports, now=step.now, ttl_ms=step.ttl_ms)
            for key, answer in answers.items():
                real = msgspec.structs.asdict(answer)
                assert real == {"number": key[1], **step.answers[key]._asdict()}, f"step {number}"
            await (link.commit() if number in store.kept else link.rollback())


def _with_ids(report: LeaseReport, ids: dict[int, int]) -> LeaseReport:
    return msgspec.structs.replace(report, budgets=tuple(ids[budget] for budget in report.budgets))


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_merge__the_syncs_of_a_simulated_world__answers_and_keeps_what_the_simulation_does(seed: int) -> None:
    store = recorded(drawn(seed).changed(**DENSE))
    ids = made_real(store)
    denials = {answer.denied for step in store.steps for answer in step.answers.values()}
    assert len(store.kept) < len(store.steps)
    assert {None, "exhausted"} <= denials

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
    assert real_leases.keys() == store.leases.keys()
    for lease_key, lease in store.leases.items():
        real_lease = real_leases[lease_key]
        counters = real_lease.granted_nusd, real_lease.settled_nusd, real_lease.returned_nusd, real_lease.corrected_nusd
        assert (*counters, real_lease.closed, real_lease.seq) == (*lease.counters, lease.closed, lease.seq)

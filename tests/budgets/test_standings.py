"""Where budgets stand, what a new amount would do, and who sees them."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controlplane.budgets import queries
from controlplane.budgets.actions.budgets import archive_budget, create_budget
from controlplane.budgets.models import Account, AccountSlot, Budget, Lease
from controlplane.domain.periods import period_of, slot_of
from controlplane.problems import NotFound
from controlplane.telemetry.models import CallWindow1m
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import Role, Tenant
from controlplane.tenancy.queries import SYSTEM, Asker

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 16, tzinfo=UTC)
USD = 10**9


@pytest.fixture
def acme() -> Tenant:
    return create_tenant(by=SYSTEM, slug="acme", name="Acme")


def _budget(tenant: Tenant | None, slug: str = "all", usd: int = 300, **more: Any) -> Budget:
    fields = {"period": {"kind": "calendar", "unit": "month"}, **more}
    return create_budget(by=SYSTEM, tenant=tenant, slug=slug, amount_nusd=usd * USD, now=NOW, **fields)


def _account(budget: Budget, settled_usd: int, leased_usd: int = 0) -> Account:
    return Account.objects.create(
        budget=budget,
        period_key=period_of(budget.rule, NOW).key,
        settled_nusd=settled_usd * USD,
        outstanding_nusd=leased_usd * USD,
    )


def _burn(tenant: str, category: str, usd: int) -> None:
    for minute in range(60):
        CallWindow1m.objects.create(
            starts_at=NOW - timedelta(minutes=minute + 1),
            tenant=tenant,
            route="chat",
            model="m",
            category=category,
            cost_nusd=usd * USD // 60,
        )


def test_standing__settled_and_leased__leaves_the_rest_free(acme: Tenant) -> None:
    _account(_budget(acme), 240, 20)

    (standing,) = queries.standings(SYSTEM, NOW)

    assert (standing.spent_nusd, standing.leased_nusd, standing.free_nusd) == (240 * USD, 20 * USD, 40 * USD)
    assert standing.pace == 0.5
    assert standing.ahead == pytest.approx(1.6)


def test_standing__no_call_yet_this_period__all_is_free(acme: Tenant) -> None:
    budget = _budget(acme)
    Account.objects.create(budget=budget, period_key="2026-10", settled_nusd=299 * USD)

    (standing,) = queries.standings(SYSTEM, NOW)

    assert (standing.spent_nusd, standing.free_nusd, standing.tone) == (0, 300 * USD, "")


def test_standing__rolling__counts_the_slots_in_its_window_only(acme: Tenant) -> None:
    budget = _budget(acme, period={"kind": "rolling", "days": 30})
    account = _account(budget, 999)
    for days, usd in ((0, 5), (29, 7), (40, 100)):
        at = slot_of(30, NOW - timedelta(days=days))
        AccountSlot.objects.create(account=account, starts_at=at, settled_nusd=usd * USD)

    (standing,) = queries.standings(SYSTEM, NOW)

    assert standing.spent_nusd == 12 * USD


def test_standing__what_matching_calls_burn__tells_when_it_runs_out(acme: Tenant) -> None:
    below = create_tenant(by=SYSTEM, slug="acme-eu", name="Acme Europe", parent=acme)
    _account(_budget(acme, match={"category": "support", "model": "M"}), 240)
    _account(_budget(None, "everything", 10_000), 240)
    _burn("acme", "support", 1)
    _burn(below.slug, "support", 2)
    _burn("acme", "Support", 1)  # another category, as calls have it
    _burn("acme", "other", 4)

    found = {each.budget.slug: each for each in queries.standings(SYSTEM, NOW)}

    assert found["all"].burn_nusd_per_h == pytest.approx(3 * USD, rel=1e-6)
    assert found["everything"].burn_nusd_per_h == pytest.approx(8 * USD, rel=1e-6)
    assert found["all"].exhausted_at == pytest.approx(NOW + timedelta(hours=20), abs=timedelta(seconds=1))
    assert found["everything"].exhausted_at is None
    assert [each.budget.slug for each in queries.standings(SYSTEM, NOW)] == ["all", "everything"]


def test_preview__less_than_what_is_leased_allows__says_the_worst_case(acme: Tenant) -> None:
    budget = _budget(acme)
    account = _account(budget, 240, 20)
    for number in range(3):
        Lease.objects.create(
            incarnation=uuid.uuid4(), number=1, path=[account.pk], granted_nusd=USD, closed=number == 2
        )

    effect = queries.preview_amount(budget, 250 * USD, NOW)

    assert (effect.change_nusd, effect.free_nusd, effect.over_nusd) == (-50 * USD, 0, 0)
    assert effect.at_risk_nusd == 10 * USD
    assert effect.clients == 2
    budget.refresh_from_db()
    assert budget.amount_nusd == 300 * USD


def test_preview__less_than_is_spent__is_over_at_once(acme: Tenant) -> None:
    budget = _budget(acme)
    _account(budget, 240, 20)

    effect = queries.preview_amount(budget, 100 * USD, NOW)

    assert (effect.over_nusd, effect.at_risk_nusd, effect.exhausted_at) == (140 * USD, 20 * USD, NOW)


def test_budgets__somebody_of_another_tenant__sees_none(acme: Tenant) -> None:
    other = create_tenant(by=SYSTEM, slug="other", name="Other")
    outsider = Asker(name="o", role=Role.ADMIN, tenant=other)
    _budget(acme)
    _budget(None, "everything")

    assert queries.standings(outsider, NOW) == []
    for owner, slug in (("acme", "all"), (None, "everything")):
        with pytest.raises(NotFound):
            queries.budget_seen_by(outsider, owner, slug)


def test_budgets__archived__are_gone(acme: Tenant) -> None:
    archive_budget(by=SYSTEM, budget=_budget(acme), now=NOW)

    assert queries.standings(SYSTEM, NOW) == []

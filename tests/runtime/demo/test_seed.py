"""The demo world comes once, goes with one call, and leaves everything else alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from controlplane.alerting.actions import configuring, evaluation
from controlplane.alerting.models import Rule, Slo
from controlplane.budgets.actions.prices import refresh_price_book
from controlplane.budgets.models import Account, Budget, PriceBook
from controlplane.domain.periods import period_of
from controlplane.policy.models import Revision, RoutePolicy
from controlplane.problems import Forbidden
from controlplane.runtime.demo import incidents, seed, timeline, world
from controlplane.tenancy.actions.demo import remove_demo
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import Role, SdkKey, Tenant
from controlplane.tenancy.queries import SYSTEM, Asker
from tidegate.core.price import compile_price_book

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)

pytestmark = pytest.mark.django_db


def test_seed__twice__changes_nothing_the_second_time() -> None:
    seed.seed(now=NOW, restore=False)
    before = (Tenant.objects.count(), Budget.objects.count(), RoutePolicy.objects.count(), Revision.objects.count())

    seed.seed(now=NOW, restore=False)

    after = (Tenant.objects.count(), Budget.objects.count(), RoutePolicy.objects.count(), Revision.objects.count())
    assert before == after
    assert before[:3] == (len(world.TENANTS), len(world.BUDGETS), len(world.POLICIES))
    assert all(Tenant.objects.values_list("is_demo", flat=True))


def test_seed__its_rules_and_service_levels__can_look_go_with_it_and_stay_away_when_taken_away() -> None:
    seed.seed(now=NOW, restore=False)
    for rule in Rule.objects.all():
        evaluation.evaluate(rule.pk, now=NOW)
    assert set(Rule.objects.values_list("slug", "fault")) == {(rule["slug"], "") for rule in world.RULES}
    assert set(Slo.objects.values_list("slug", flat=True)) == {slo.slug for slo in world.SLOS}

    configuring.archive_rule(by=SYSTEM, rule=Rule.objects.get(slug="chat-burns"), now=NOW)
    seed.seed(now=NOW, restore=False)
    assert Rule.objects.filter(archived_at=None).count() == len(world.RULES) - 1
    remove_demo(by=SYSTEM)
    assert evaluation.due_rules(NOW + timedelta(hours=1)) == []


def test_remove_demo__seeded__archives_its_tenants_and_revokes_its_key_and_no_other(tmp_path: Path) -> None:
    mine = create_tenant(by=SYSTEM, slug="mine", name="Mine")
    seed.seed(now=NOW, restore=False)
    seed.key_text(tmp_path / "key")

    removed = remove_demo(by=SYSTEM)

    assert removed == len(world.TENANTS)
    assert list(Tenant.objects.filter(archived_at=None)) == [mine]
    assert not SdkKey.objects.filter(revoked_at=None).exists()
    assert not seed.is_there()
    assert remove_demo(by=SYSTEM) == 0


def test_remove_demo__by_an_operator__is_forbidden() -> None:
    with pytest.raises(Forbidden):
        remove_demo(by=Asker(name="anna", role=Role.OPERATOR))


def test_seed__removed_before__stays_away_until_it_is_asked_back() -> None:
    seed.seed(now=NOW, restore=False)
    remove_demo(by=SYSTEM)

    with pytest.raises(seed.Gone):
        seed.seed(now=NOW, restore=False)
    seed.seed(now=NOW, restore=True)

    assert seed.is_there()
    assert Tenant.objects.filter(archived_at=None).count() == len(world.TENANTS)


def test_seed__slug_taken_by_a_real_tenant__keeps_out() -> None:
    create_tenant(by=SYSTEM, slug=world.ROOT, name="A real one")

    with pytest.raises(seed.Gone):
        seed.seed(now=NOW, restore=True)

    assert Tenant.objects.count() == 1


def test_key_text__kept__is_the_same_again_and_new_when_revoked(tmp_path: Path) -> None:
    seed.seed(now=NOW, restore=False)
    kept = tmp_path / "key"

    first, again = seed.key_text(kept), seed.key_text(kept)
    remove_demo(by=SYSTEM)
    seed.seed(now=NOW, restore=True)
    later = seed.key_text(kept)

    assert first == again != later
    assert kept.stat().st_mode & 0o777 == 0o600
    assert SdkKey.objects.filter(revoked_at=None).count() == 1


def test_steer_budget__runaway_then_calm__leaves_little_then_much() -> None:
    seed.seed(now=NOW, restore=False)
    tenant, slug = world.AGENTS_BUDGET
    budget = Budget.objects.get(tenant__slug=tenant, slug=slug)
    period = period_of(budget.rule, timezone.now())  # the hour that the steering meets
    Account.objects.create(
        budget=budget, period_key=period.key, starts_at=period.starts_at, settled_nusd=7, outstanding_nusd=3
    )

    incidents.steer_budget(next(one for one in timeline.PHASES if one.name == timeline.RUNAWAY))
    budget.refresh_from_db()
    runaway = budget.amount_nusd
    incidents.steer_budget(timeline.PHASES[0])
    budget.refresh_from_db()

    assert runaway == incidents.CENT + world.AGENTS_RUNAWAY_NUSD
    assert budget.amount_nusd == incidents.CENT + world.AGENTS_CALM_NUSD  # to whole cents


def test_world__models_of_its_services__have_list_prices() -> None:
    refresh_price_book()

    models = json.loads(bytes(PriceBook.objects.get().body))
    assert {service.model for service in world.SERVICES} <= set(models["models"])
    assert compile_price_book(models)

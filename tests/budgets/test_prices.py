"""Price books as they are served: overrides, models without a price, and what another book would make of past usage."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import orjson
import pytest

from controlplane.budgets.actions.prices import delete_override, refresh_price_book, set_override
from controlplane.budgets.actions.unknown_models import set_unknown_models
from controlplane.budgets.models import PriceBook
from controlplane.budgets.repricing import reprice
from controlplane.problems import Forbidden, Invalid, NotFound
from controlplane.telemetry.models import DailyPricedUsage
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import AuditEntry, Role
from controlplane.tenancy.queries import SYSTEM, Asker
from tidegate.core.price import PriceBook as Prices
from tidegate.core.price import compile_price_book

pytestmark = pytest.mark.django_db
TODAY = datetime.now(UTC).date()


def served() -> Prices:
    newest = PriceBook.objects.order_by("-id").first()
    assert newest is not None
    return compile_price_book(orjson.loads(bytes(newest.body)), etag=newest.etag)


def used(model: str, *, tenant: str = "acme", day: date = TODAY, book: str = "", **more: object) -> None:
    fields = {"calls": 10, "cost_nusd": 1_000_000, "usage": {"input": 1_000, "output": 100}, **more}
    DailyPricedUsage.objects.create(day=day, tenant=tenant, model=model, book=book, **fields)


def test_override__with_classes_of_its_own__priced_to_the_billionth() -> None:
    set_override(by=SYSTEM, model="Our/Model", rates={"input": "0.000000001", "web_searches": "10", "cache_write": "2"})

    cost = served().usage_cost_nusd("our/model", {"input": 10**9, "cache_write": 1, "web_searches": 1, "output": 10**9})

    assert cost == 1_000 + 2_000 + 10_000_000 + 1_000
    assert served().cost_nusd("gpt-4o", input_tokens=1, output_tokens=0) == 2_500


def test_override__of_a_listed_model__goes_before_the_list_until_it_is_deleted() -> None:
    set_override(by=SYSTEM, model="gpt-4o", rates={"input": "1", "output": "1"})
    before = served().cost_nusd("gpt-4o", input_tokens=1, output_tokens=1)
    delete_override(by=SYSTEM, model="gpt-4o")

    assert before == 2_000
    assert served().cost_nusd("gpt-4o", input_tokens=1, output_tokens=1) == 12_500


def test_override__model_that_takes_no_tokens__needs_no_input_price() -> None:
    set_override(by=SYSTEM, model="our-ear", rates={"audio_seconds": "0.36"})

    assert served().usage_cost_nusd("our-ear", {"audio_seconds": 10}) == 1_000_000


@pytest.mark.parametrize(
    ("rates", "field"),
    [
        ({}, "rates.input"),
        ({"output": "1"}, "rates.input"),
        ({"input": "x"}, "rates.input"),
        ({"input": "1", "b": "1"}, "rates.b"),
    ],
)
def test_override__wrong_rates__refused_by_their_name(rates: dict[str, str], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        set_override(by=SYSTEM, model="m", rates=rates)

    assert field in refused.value.errors


def test_book__models_without_a_price__are_charged_a_high_one_unless_told_otherwise() -> None:
    refresh_price_book()

    unknown = served().unknown

    assert unknown.policy == "estimate"
    listed = served().cost_nusd("gpt-4o", input_tokens=1_000, output_tokens=1_000)
    assert listed is not None
    assert unknown.cost_nusd("nobody-knows", {"input": 1_000, "output": 1_000}) > 5 * listed
    assert 0 < unknown.cost_nusd("some-embedding", {"input": 1_000}) < 1_000_000


def test_unknown_models__set__stand_in_the_book_and_in_the_audit_log() -> None:
    embed = {"pattern": {"starts_with": "our-embed"}, "rates": {"input": "0.5"}}
    set_unknown_models(by=SYSTEM, policy="estimate", rates={"input": "3"}, families=[embed])

    unknown = served().unknown

    assert unknown.cost_nusd("nobody-knows", {"input": 1, "output": 1}) == 6_000
    assert unknown.cost_nusd("our-embed-2", {"input": 1}) == 500
    assert AuditEntry.objects.filter(action="price.unknown_models_set").count() == 1
    set_unknown_models(by=SYSTEM, policy="refuse", rates={}, families=[])
    assert served().unknown.policy == "refuse"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"policy": "guess"}, "policy"),
        ({"rates": {"input": "-1"}}, "rates.input"),
        ({"families": [{"pattern": {"like": "a"}, "rates": {"input": "1"}}]}, "families.0.pattern"),
        ({"families": [{"pattern": {"regex": "(a+)+"}, "rates": {"input": "1"}}]}, "families.0.pattern"),
        ({"families": [{"pattern": "a", "rates": {}}]}, "families.0.rates.input"),
    ],
)
def test_unknown_models__wrong__refused_by_the_field(wrong: dict[str, object], field: str) -> None:
    rule = {"policy": "estimate", "rates": {}, "families": [], **wrong}

    with pytest.raises(Invalid) as refused:
        set_unknown_models(by=SYSTEM, **rule)  # type: ignore[arg-type]  # wrong on purpose

    assert field in refused.value.errors


def test_unknown_models__not_an_admin_of_the_installation__forbidden() -> None:
    tenant = create_tenant(by=SYSTEM, slug="acme", name="Acme")

    for who in (Asker(name="v", role=Role.VIEWER), Asker(name="a", role=Role.ADMIN, tenant=tenant)):
        with pytest.raises(Forbidden):
            set_unknown_models(by=who, policy="allow", rates={}, families=[])


def test_reprice__another_book__tells_the_difference_by_model_and_changes_nothing() -> None:
    old = refresh_price_book()
    set_override(by=SYSTEM, model="gpt-4o", rates={"input": "10", "cached_input": "1", "output": "20"})
    used("gpt-4o", book=old, usage={"input": 1_000, "cached_input": 1_000, "output": 100}, cost_nusd=4_750_000)
    used("gpt-4o", book=old, day=TODAY - timedelta(days=3), cost_nusd=3_500_000)
    used("nobody-knows", book=old)
    used("gpt-4o", book=old, day=TODAY - timedelta(days=40))

    told = reprice(SYSTEM, book="newest", today=TODAY, days=30)

    models = {each.model: each for each in told.models}
    assert models["gpt-4o"].usage == {"input": 2_000, "cached_input": 1_000, "output": 200}
    assert (models["gpt-4o"].charged_nusd, models["gpt-4o"].repriced_nusd) == (8_250_000, 25_000_000)
    assert models["gpt-4o"].difference_nusd == 16_750_000
    assert models["nobody-knows"].unpriced
    assert reprice(SYSTEM, book=old[:12], today=TODAY).models[0].model == "nobody-knows"
    assert DailyPricedUsage.objects.get(day=TODAY, model="gpt-4o").cost_nusd == 4_750_000


def test_reprice__model_with_tiers_and_one_with_a_price_per_request__said_and_counted() -> None:
    refresh_price_book()
    used("gemini-2.5-pro")
    set_override(by=SYSTEM, model="asked", rates={"input": "0", "requests": "5"})
    used("asked", calls=7)

    models = {each.model: each for each in reprice(SYSTEM, book="newest", today=TODAY).models}

    assert models["gemini-2.5-pro"].tiers
    assert models["asked"].repriced_nusd == 7 * 5_000_000


def test_reprice__calls_that_name_no_model__cost_what_they_said() -> None:
    refresh_price_book()
    used("", usage={"input": 1_000}, cost_nusd=7)

    (told,) = reprice(SYSTEM, book="newest", today=TODAY).models

    assert (told.repriced_nusd, told.difference_nusd, told.unpriced) == (7, 0, False)


def test_reprice__somebody_of_another_tenant__sees_nothing_of_it() -> None:
    refresh_price_book()
    create_tenant(by=SYSTEM, slug="acme", name="Acme")
    globex = create_tenant(by=SYSTEM, slug="globex", name="Globex")
    used("gpt-4o", tenant="acme")

    for role in (Role.VIEWER, Role.ADMIN):
        assert reprice(Asker(name="g", role=role, tenant=globex), book="newest", today=TODAY).models == []


@pytest.mark.parametrize("book", ["", "ffff", "newest"])
def test_reprice__no_such_book__not_found(book: str) -> None:
    PriceBook.objects.all().delete()

    with pytest.raises(NotFound):
        reprice(SYSTEM, book=book, today=TODAY)

"""The page of prices: what is looked up, previewed, set, refused and replaced."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from controlplane.budgets.actions.prices import refresh_price_book, set_override
from controlplane.budgets.models import PriceBook, PriceOverride, UnknownModels
from controlplane.telemetry.models import DailyPricedUsage
from controlplane.tenancy.queries import SYSTEM
from tests.dashboard.world import USD, World

SignIn = Callable[[str], Client]


@pytest.fixture(autouse=True)
def served(world: World) -> None:
    refresh_price_book()


def used(model: str, **more: object) -> None:
    fields = {"calls": 10, "cost_nusd": USD, "usage": {"input": 1_000_000}, **more}
    DailyPricedUsage.objects.create(day=datetime.now(UTC).date(), tenant="acme", model=model, book="", **fields)


def shown(client: Client, **params: str) -> str:
    return client.get("/prices/", params).content.decode()


def test_lookup__of_the_list__says_whose_price_it_is_class_by_class(sign_in: SignIn) -> None:
    html = shown(sign_in("vera"), model="GPT-4o")

    assert "price list, openai" in html
    assert re.search(r"<td>cached input</td><td class=\"r\">\$1.25</td><td class=\"dim\">1M tokens", html)


def test_lookup__own_price__goes_before_the_list_and_an_older_book_is_told_as_it_was(sign_in: SignIn) -> None:
    older = PriceBook.objects.latest("id").etag
    set_override(by=SYSTEM, model="gpt-4o", rates={"input": "1"})

    now, then = (shown(sign_in("vera"), model="gpt-4o", book=book) for book in ("", older))

    assert "your own price" in now
    assert "your own price" not in then.split('id="price_own"')[0]


def test_lookup__nobody_has_a_price__says_what_is_charged(sign_in: SignIn) -> None:
    html = shown(sign_in("vera"), model="nobody-knows-this")

    assert "no price</span>" in html
    assert "are charged this estimate" in html


def test_called_without_a_price__is_listed_with_what_it_was_charged(sign_in: SignIn) -> None:
    used("mystery", unpriced_calls=7)

    html = shown(sign_in("anna"))

    assert "mystery" in html.split('id="price_unknown"')[1]


def test_preview__of_a_price__says_what_past_calls_would_have_cost_and_changes_nothing(sign_in: SignIn) -> None:
    used("gpt-9")

    html = sign_in("anna").get("/prices/set/preview/", {"model": "gpt-9", "rates.input": "3"}).content.decode()

    assert "10 calls were charged $1.00" in html
    assert "<strong>$3.00</strong>" in html
    assert not PriceOverride.objects.exists()


@pytest.mark.parametrize(
    ("usd", "says"),
    [
        ("-1", "negative"),
        ("NaN", "is written like"),
        ("Infinity", "is written like"),
        ("1e9", "is written like"),
        ("150000000", "is over 100,000"),
        ("0.0000000001", "at most 9 decimals"),
        ("0", "is a price of nothing"),
        ("", "is missing"),
    ],
)
def test_set_price__bad_number__is_refused_at_its_field_and_changes_nothing(
    usd: str, says: str, sign_in: SignIn
) -> None:
    response = sign_in("anna").post("/prices/set/", {"model": "own", "rates.input": usd})

    html = response.content.decode()
    assert response.status_code == 422
    assert re.search(r'name="rates.input"[^>]*aria-invalid="true"', html)
    assert says in html
    assert not PriceOverride.objects.exists()


def test_set_price__of_nothing_said_to_be_meant__is_set(sign_in: SignIn) -> None:
    sign_in("anna").post("/prices/set/", {"model": "Ours", "rates.input": "0", "free": "yes"})

    assert PriceOverride.objects.get().rates == {"input": "0"}


def test_delete_price__model_in_use_that_nothing_else_prices__is_refused(sign_in: SignIn) -> None:
    set_override(by=SYSTEM, model="our-own", rates={"input": "1"})
    used("our-own")

    response = sign_in("anna").post("/prices/delete/", {"model": "our-own"})

    assert response.status_code == 409
    assert "nothing else has a price for it" in response.content.decode()
    assert PriceOverride.objects.filter(model="our-own").exists()


def test_rule__estimate_of_nothing__is_refused(sign_in: SignIn) -> None:
    response = sign_in("anna").post("/prices/unknown/", {"policy": "estimate", "estimate.input": "0"})

    assert response.status_code == 422
    assert re.search(r'name="estimate.input"[^>]*aria-invalid="true"', response.content.decode())
    assert not UnknownModels.objects.exists()


def test_rule__with_a_family__is_set(sign_in: SignIn) -> None:
    families = [{"pattern": {"contains": "embed"}, "rates": {"input": "0.2"}}]
    typed = {"policy": "estimate", "estimate.input": "20", "families": json.dumps(families).replace('"0.2"', "0.2")}

    sign_in("anna").post("/prices/unknown/", typed)

    rule = UnknownModels.objects.get()
    assert (rule.policy, rule.rates, rule.families) == ("estimate", {"input": "20"}, families)


def test_all_prices__previewed__changes_nothing_and_replaced__are_what_was_typed(sign_in: SignIn) -> None:
    set_override(by=SYSTEM, model="gpt-4o", rates={"input": "9"})
    client, prices = sign_in("anna"), '{"Ours": {"input": 0.15, "output": "0.6"}}'

    html = client.post("/prices/all/", {"do": "preview", "prices": prices}).content.decode()
    before = set(PriceOverride.objects.values_list("model", flat=True))
    response = client.post("/prices/all/", {"do": "replace", "prices": prices})

    assert "2 models would change" in html
    assert before == {"gpt-4o"}
    assert response.status_code == 302
    assert list(PriceOverride.objects.values_list("model", "rates")) == [("ours", {"input": "0.15", "output": "0.6"})]


@pytest.mark.parametrize(
    ("prices", "says"),
    [
        ("{", "This is not JSON"),
        ('{"a": {"input": NaN}}', "NaN is not a number"),
        ('{"a": {"input": "1"}, "a": {"input": "2"}}', "is there twice"),
        ('{"a": {"input": "1"}, "A": {"input": "2"}}', "without regard to case"),
        ('{"a": {"input": -1}}', "negative"),
        ('{"a": {"imput": "1", "input": "1"}}', "is not known"),
        ("[]", "must be an object"),
        ('{"a": {"input": true}}', "is written like"),
    ],
)
def test_all_prices__with_a_fault__are_refused_whole_by_its_name(prices: str, says: str, sign_in: SignIn) -> None:
    response = sign_in("anna").post("/prices/all/", {"do": "replace", "prices": prices})

    assert response.status_code == 422
    assert says in response.content.decode()
    assert not PriceOverride.objects.exists()


def test_all_prices__one_in_use_would_vanish__is_refused(sign_in: SignIn) -> None:
    set_override(by=SYSTEM, model="our-own", rates={"input": "1"})
    used("our-own")

    response = sign_in("anna").post("/prices/all/", {"do": "replace", "prices": "{}"})

    assert response.status_code == 409
    assert PriceOverride.objects.filter(model="our-own").exists()


def test_all_prices__from_a_file__are_read(sign_in: SignIn) -> None:
    sent = SimpleUploadedFile("prices.json", b'{"ours": {"input": "1"}}', content_type="application/json")

    sign_in("anna").post("/prices/all/", {"do": "replace", "prices": "{}", "file": sent})

    assert PriceOverride.objects.get().model == "ours"


def test_all_prices__of_an_earlier_book__are_there_to_be_edited(sign_in: SignIn) -> None:
    set_override(by=SYSTEM, model="ours", rates={"input": "7"})
    older = PriceBook.objects.latest("id").etag
    set_override(by=SYSTEM, model="ours", rates={"input": "8"})

    html = shown(sign_in("anna"), own=older)

    assert "&quot;input&quot;: &quot;7&quot;" in html


def test_repriced__what_another_tenant_used__is_not_told(sign_in: SignIn) -> None:
    used("only-acme")

    html = shown(sign_in("gus"))

    assert "only-acme" in shown(sign_in("anna")).split('id="price_repriced"')[1]
    assert "only-acme" not in html.split('id="price_repriced"')[1]
    assert 'action="/prices/set/"' not in html

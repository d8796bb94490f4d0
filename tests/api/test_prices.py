"""Prices over the management API."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from controlplane.budgets.actions.prices import refresh_price_book
from controlplane.budgets.models import PriceBook, PriceOverride
from controlplane.telemetry.models import DailyPricedUsage
from tests.api.test_management import Program

pytestmark = pytest.mark.django_db


def test_unknown_models__put__told_again() -> None:
    admin = Program("admin")
    body = {
        "policy": "estimate",
        "rates": {"input": "2"},
        "families": [{"pattern": {"contains": "e"}, "rates": {"input": "1"}}],
    }

    before = admin("get", "unknown-models/").json()
    put = admin("put", "unknown-models/", body)

    assert before == {"policy": "estimate", "rates": {}, "families": [], "set_by": ""}
    assert put.json() == {**body, "set_by": "token:admin"}
    assert admin("get", "unknown-models/").json() == put.json()
    assert admin("put", "unknown-models/", {"policy": "guess"}).status_code == 422
    assert Program("viewer")("put", "unknown-models/", body).status_code == 403


def test_reprice__by_the_etag_of_a_book__sums_and_models() -> None:
    etag, viewer = refresh_price_book(), Program("viewer")

    told = viewer("get", f"prices/reprice?book={etag[:10]}&days=7")
    listed = viewer("get", "price-books/").json()["items"]

    assert told.json()["book"] == listed[0]["etag"] == etag
    assert (told.json()["difference_usd"], told.json()["items"]) == ("0.00", [])
    assert viewer("get", "prices/reprice?book=no-such-book").status_code == 404
    assert viewer("get", "prices/reprice?days=0").status_code == 422


def upload(program: Program, body: str, *, kind: str = "text/csv", asked: str = "", key: str = "") -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    return program._client.post(f"/api/v1/prices/{asked}", body, content_type=kind, headers=headers)


ROWS = "model,input,cached_input,output\nMy-Model,0.15,,0.60\nother,1,0.1,2\n"


def test_upload__csv__sets_all_prices_in_one_book_and_again_changes_nothing() -> None:
    admin = Program("admin")
    first = upload(admin, ROWS, kind="text/csv; charset=utf-8")
    again = upload(admin, ROWS)

    assert first.status_code == 200, first.content
    assert (first.json()["applied"], first.json()["changed"]) == (True, 2)
    assert again.json()["changed"] == 0
    kept = {each["model"]: each["rates"] for each in admin("get", "prices/").json()["items"]}
    assert kept == {
        "my-model": {"input": "0.15", "output": "0.60"},
        "other": {"input": "1", "cached_input": "0.1", "output": "2"},
    }
    assert PriceBook.objects.count() == 2  # that of the list, and one of all rows together


@pytest.mark.parametrize(
    "document",
    [
        '[{"model": "a", "rates": {"input": 0.1500}}]',
        '{"a": {"input": "0.1500"}}',
        '{"prices": [{"model": "A", "rates": {"input": "0.1500"}}]}',
    ],
)
def test_upload__json_as_rows_or_by_model__keeps_numbers_as_they_were_written(document: str) -> None:
    admin = Program("admin")
    reply = upload(admin, document, kind="application/json")

    assert reply.status_code == 200, reply.content
    assert admin("get", "prices/").json()["items"][0]["rates"] == {"input": "0.1500"}


def test_upload__some_rows_are_wrong__every_fault_is_named_by_its_row_and_nothing_is_set() -> None:
    admin = Program("admin")
    body = "model,input,output\nfine,1,2\n,1,2\nfree,0,0\nmad,1,-3\nFINE,1,1\nnot,abc,\n"

    reply = upload(admin, body)

    assert reply.status_code == 422
    assert set(reply.json()["errors"]) == {
        "row 3.model", "row 4.rates", "row 5.output", "row 6.model", "row 7.input",
    }  # fmt: skip
    assert admin("get", "prices/").json()["items"] == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("", "text/csv"),
        ("model,input\n", "text/csv"),
        ("input,output\n1,2\n", "text/csv"),
        ("model,input,input\na,1,2\n", "text/csv"),
        ("model,input\na,1,2\n", "text/csv"),
        ("model,watts\na,1\n", "text/csv"),
        ("[]", "application/json"),
        ("{", "application/json"),
        ("7", "application/json"),
        ('[{"model": "a"}]', "application/json"),
        ('[{"model": "a", "rates": {"input": NaN}}]', "application/json"),
        ('[{"model": "a", "rates": {"input": [1]}}]', "application/json"),
        ('{"a": {"input": "1"}, "a": {"input": "2"}}', "application/json"),
        ("model,input\na,1\n" + "x" * 1_000_000, "text/csv"),
    ],
)
def test_upload__what_is_no_list_of_prices__is_refused(body: str, kind: str) -> None:
    reply = upload(Program("admin"), body, kind=kind)

    assert reply.status_code == 422, reply.content
    assert reply.json()["errors"]


def test_upload__preview__tells_the_difference_and_changes_nothing() -> None:
    admin = Program("admin")
    etag = refresh_price_book()
    day = timezone.now().date()
    DailyPricedUsage.objects.create(
        day=day, model="my-model", book=etag, calls=10, cost_nusd=3 * 10**9, usage={"input": 10_000_000}
    )

    told = upload(admin, ROWS, asked="?preview=true").json()

    assert (told["applied"], told["changed"], told["difference_usd"]) == (False, 2, "-1.50")
    mine = next(each for each in told["items"] if each["model"] == "my-model")
    assert (mine["kind"], mine["calls"], mine["charged_usd"], mine["repriced_usd"]) == ("added", 10, "3.00", "1.50")
    assert admin("get", "prices/").json()["items"] == []
    assert upload(admin, ROWS).json()["items"] == told["items"]


def test_upload__replace__takes_the_rest_away_and_merge_leaves_it() -> None:
    admin = Program("admin")
    upload(admin, ROWS)
    upload(admin, "model,input\nthird,3\n")
    assert len(admin("get", "prices/").json()["items"]) == 3

    told = upload(admin, "model,input\nthird,3\n", asked="?mode=replace").json()

    assert {each["model"]: each["kind"] for each in told["items"]} == {"my-model": "removed", "other": "removed"}
    assert [each["model"] for each in admin("get", "prices/").json()["items"]] == ["third"]


def test_upload__a_price_of_nothing__must_be_meant() -> None:
    admin = Program("admin")

    assert upload(admin, "model,input\nlocal,0\n").status_code == 422
    assert upload(admin, "model,input\nlocal,0\n", asked="?free=true").json()["changed"] == 1


def test_upload__sent_again_with_its_key__is_answered_as_the_first_time() -> None:
    admin = Program("admin")
    first, again = (upload(admin, ROWS, key="prices-of-november") for _ in range(2))

    assert first.json() == again.json()
    assert again["Idempotent-Replayed"] == "true"


def test_upload__not_an_admin__is_refused() -> None:
    for asked in ("", "?preview=true"):
        assert upload(Program("operator"), ROWS, asked=asked).status_code == 403
    assert not PriceOverride.objects.exists()

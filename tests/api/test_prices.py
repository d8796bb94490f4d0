"""Prices over the management API."""

from __future__ import annotations

import pytest

from controlplane.budgets.actions.prices import refresh_price_book
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

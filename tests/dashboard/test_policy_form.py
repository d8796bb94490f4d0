"""Policies by fields: the document that they say, what is wrong with them, and what would be in force."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from controlplane.policy.models import RoutePolicy
from controlplane.tenancy.models import AuditEntry
from dashboard.forms import Form
from dashboard.policy_form import document_of, flat
from tests.dashboard.world import World
from tidegate.core.policy import complete, parse_policy

SignIn = Callable[[str], Client]
PLACE = {"tenant": "acme", "route": "chat", "do": "fields"}
FULL: dict[str, Any] = {
    "limits": [
        {"unit": "requests", "amount": 600, "per_s": 60, "burst": 50, "scope": "instance", "enforcement": "shadow"},
        {"unit": "tokens", "amount": 90000, "per_s": 0.5, "scope": "fleet"},
    ],
    "queue": {
        "max_concurrent": 16, "max_waiting": 4, "max_wait_ms": 500, "scope": "fleet", "congestion": "codel",
        "adaptive": "gradient", "min_concurrent": 2,
    },
    "breaker": {
        "window_s": 10, "window_calls": 50, "min_calls": 5, "failure_rate": 0.25, "slow_call_ms": 900, "slow_call_rate": 0.9,
        "open_s": 7, "max_open_s": 60, "half_open_calls": 2, "mode": "metrics_only", "probing": "strict",
    },
    "retry": {"max_attempts": 2, "base_ms": 1, "max_ms": 2, "jitter": "none", "budget_ratio": 0.1, "hedge_ms": 30,
              "growth": "linear", "factor": 1.5},
    "timeout_ms": 1234,
    "fallbacks": [{"route": "chat-small"}, {"value": {"text": "We are busy."}}],
    "enforcement": "shadow",
}  # fmt: skip


def invalid(html: str) -> set[str]:
    """Return the names of the fields that are marked as wrong."""
    return set(re.findall(r'name="([^"]+)"[^>]*aria-invalid="true"', html))


@pytest.mark.parametrize(
    "document", [FULL, {}, {"queue": None, "limits": []}, {"breaker": {}}, {"enforcement": "off", "fallbacks": []}]
)
def test_fields__of_a_document__say_the_same_again(document: dict[str, Any]) -> None:
    again = document_of(Form.of(flat(document)))

    assert complete(parse_policy(again)) == complete(parse_policy(document))
    assert again.keys() == document.keys()


def test_put__every_field__is_the_policy(sign_in: SignIn, world: World) -> None:
    response = sign_in("otto").post("/limits/put/", {**PLACE, **flat(FULL), "reason": "all of it"})

    assert response.status_code == 302
    kept = RoutePolicy.objects.get(tenant=world.tenants["acme"], route="chat").document
    assert parse_policy(kept) == parse_policy(FULL)
    assert AuditEntry.objects.latest("id").reason == "all of it"


@pytest.mark.parametrize(
    ("field", "typed"),
    [
        ("limits[1].amount", "-5"),
        ("limits[1].amount", "NaN"),
        ("limits[1].per_s", "Infinity"),
        ("limits[1].per_s", "0"),
        ("limits[1].burst", "1.5"),
        ("limits[1].scope", "galaxy"),
        ("queue.max_concurrent", "0"),
        ("queue.max_waiting", "-1"),
        ("queue.min_concurrent", "17"),
        ("breaker.failure_rate", "1.5"),
        ("breaker.failure_rate", "nan"),
        ("breaker.window_s", "1e9"),
        ("breaker.min_calls", "51"),
        ("breaker.open_s", "99999999999999999999"),
        ("breaker.mode", "ajar"),
        ("retry.max_attempts", "1000"),
        ("timeout_ms", "-1"),
        ("fallbacks[0].route", "no such name!"),
        ("fallbacks[1].value", "{"),
        ("fallbacks[1].value", "9" * 40),
        ("fallbacks[1].value", "NaN"),
        ("fallbacks[1].value", '"\\u0000"'),
        ("fallbacks[1].value", "[" * 40 + "]" * 40),
        ("fallbacks[1].value", "[" * 100_000),
        ("fallbacks[3].value", "no JSON"),
        ("fallbacks[3].route", "no such name!"),
        ("enforcement", "maybe"),
    ],
)
def test_put__bad_field__is_refused_beside_it_and_changes_nothing(
    field: str, typed: str, sign_in: SignIn, world: World
) -> None:
    before = RoutePolicy.objects.get(tenant=world.tenants["acme"], route="chat").document

    response = sign_in("otto").post("/limits/put/", {**PLACE, **flat(FULL), field: typed})

    assert response.status_code == 422
    assert invalid(response.content.decode()) == {field}
    assert RoutePolicy.objects.get(tenant=world.tenants["acme"], route="chat").document == before


def test_put__a_row_left_empty__errors_name_the_row_that_was_typed(sign_in: SignIn) -> None:
    typed = {**PLACE, "limits.says": "own", "limits[0].amount": "", "limits[1].amount": "x", "limits[1].unit": "tokens"}

    html = sign_in("otto").post("/limits/put/", typed).content.decode()

    assert invalid(html) == {"limits[1].amount"}


def test_put__queue_without_permits__is_told_at_the_field(sign_in: SignIn) -> None:
    html = sign_in("otto").post("/limits/put/", {**PLACE, "queue.says": "own"}).content.decode()

    assert invalid(html) == {"queue.max_concurrent"}


def test_edit__of_a_policy__shows_what_it_says(sign_in: SignIn) -> None:
    html = sign_in("otto").get("/limits/edit/", {"policy": "acme/chat"}).content.decode()

    assert re.search(r'name="limits\[0\]\.amount"[^>]*value="900"', html)
    assert re.search(r'name="fallbacks\[0\]\.route"[^>]*value="chat-small"', html)
    assert 'name="limits[1].amount"' in html


def test_preview__of_fields__says_what_would_be_in_force_and_changes_nothing(sign_in: SignIn, world: World) -> None:
    typed = {**PLACE, "breaker.says": "none", "timeout_ms": "4000", "enforcement": "shadow"}

    html = sign_in("otto").get("/limits/preview/", typed).content.decode()

    assert "4 s" in html
    assert "opens at" not in html
    assert "It refuses nothing" in html
    assert "timeout_ms" not in RoutePolicy.objects.get(tenant=world.tenants["acme"], route="chat").document


def test_preview__wrong_or_not_theirs__is_told_or_refused(sign_in: SignIn) -> None:
    assert b"must be a whole number" in sign_in("otto").get("/limits/preview/", {**PLACE, "timeout_ms": "x"}).content
    assert sign_in("vera").get("/limits/preview/", PLACE).status_code == 403
    assert sign_in("gus").get("/limits/preview/", PLACE).status_code == 404


def test_breaker__that_is_open__tells_why(sign_in: SignIn) -> None:
    html = sign_in("vera").get("/breakers/", {"route": "chat", "model": "gpt-4o"}).content.decode()

    why = html.split('id="breaker_why"')[1]
    assert "79 of 130 calls failed (timeout)" in why
    assert re.search(r"timeout \d", why)
    assert "opens at 50 % failed of 20+ in 30 s" in why

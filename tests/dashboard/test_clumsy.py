"""Forms sent too late, or opened by their address: told what to do, never a bare refusal."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from controlplane.tenancy.models import Tenant
from tests.dashboard.world import World

SignIn = Callable[[str], Client]


def test_form__sent_after_the_session_is_over__comes_back_to_the_page_of_the_form(client: Client, db: None) -> None:
    page = "http://testserver/budgets/?budget=acme/support"

    response = client.post("/budgets/amount/", {"amount_usd": "5"}, headers={"referer": page})

    assert response["Location"] == "/sign-in/?next=/budgets/%3Fbudget%3Dacme/support"


@pytest.mark.parametrize("referer", ["", "https://elsewhere.example/x", "http://testserver/budgets/amount/"])
def test_form__sent_after_the_session_is_over__no_page_of_ours_is_named__comes_to_the_overview(
    referer: str, client: Client, db: None
) -> None:
    response = client.post("/budgets/amount/", headers={"referer": referer})

    assert response["Location"] == "/sign-in/?next=/"


@pytest.mark.parametrize("path", ["/budgets/amount/", "/budgets/options/", "/alerts/rules/put/"])
def test_form__with_a_nul__is_refused(path: str, sign_in: SignIn) -> None:
    response = sign_in("anna").post(path, {"budget": "acme/\0", "rule": "acme/\0"})

    assert response.status_code == 400
    assert "A field is not text" in response.content.decode()


def test_form__its_address_opened_by_hand__says_that_only_a_form_leads_there(sign_in: SignIn) -> None:
    response = sign_in("anna").get("/budgets/create/")

    assert (response.status_code, response["Allow"]) == (405, "POST")
    assert "To the overview" in response.content.decode()


def test_form__shown_before_signing_in_again__says_so_and_does_nothing(world: World) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(world.operators["anna"])

    response = client.post("/tenants/create/", {"slug": "late"})

    assert response.status_code == 403
    assert "This form is too old" in response.content.decode()
    assert not Tenant.objects.filter(slug="late").exists()


def test_address__that_does_not_exist__is_a_page_of_ours(client: Client, db: None) -> None:
    response = client.get("/nope/")

    assert response.status_code == 404
    assert "There is no such page" in response.content.decode()

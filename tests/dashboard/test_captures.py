"""Whether prompts and replies are kept, said on the pages of tenants and of the installation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from controlplane.telemetry.queries import Captured, capture_of
from controlplane.tenancy.models import Tenant
from tests.dashboard.world import World

pytestmark = pytest.mark.django_db
SignIn = Callable[[str], Client]
PAGE = "/tenants/of/acme/"


def test_tenant__an_admin_keeps_what_is_said__the_page_says_so(sign_in: SignIn, world: World) -> None:
    client = sign_in("anna")
    assert "not kept, as the installation says" in client.get(PAGE).content.decode()

    client.post(f"{PAGE}capture/", {"keeps": "yes", "redact": "order-[0-9]+\r\n\r\nada\r\n"})

    acme = Tenant.objects.get(slug="acme")
    assert capture_of(acme) == Captured(True, ["order-[0-9]+", "ada"], "acme", True)
    html = client.get(PAGE).content.decode()
    assert "kept 3 days, redacted" in html
    assert "order-[0-9]+\nada</textarea>" in html
    client.post(f"{PAGE}capture/", {"keeps": "", "redact": ""})
    assert capture_of(acme) == Captured(False, [], "", False)


def test_settings__for_the_installation__holds_for_tenants_and_refuses_bad_patterns(
    sign_in: SignIn, world: World
) -> None:
    client = sign_in("anna")

    bad = client.post("/capture/", {"keeps": "yes", "redact": "("})
    good = client.post("/capture/", {"keeps": "yes", "redact": ""})

    assert bad.status_code == 422
    assert "is no regular expression" in bad.content.decode()
    assert good.status_code == 302
    assert "kept 3 days, redacted, as the installation says" in client.get(PAGE).content.decode()


@pytest.mark.parametrize("name", ["otto", "vera", "gus"])
def test_capture__who_is_no_admin__can_not_touch_it(name: str, sign_in: SignIn, world: World) -> None:
    client = sign_in(name)

    assert client.post(f"{PAGE}capture/", {"keeps": "yes"}).status_code in (403, 404)
    assert 'id="capture"' not in client.get("/settings/").content.decode()

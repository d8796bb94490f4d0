from __future__ import annotations

import pytest
from django.utils import timezone

from controlplane.problems import Unauthorized
from controlplane.tenancy.actions.first_admin import ensure_first_admin
from controlplane.tenancy.models import Operator, OperatorToken, SdkKey
from controlplane.tenancy.queries import operator_of_token
from controlplane.tenancy.secrets import OPERATOR_TOKEN, SDK_KEY, adopt, mint, operator_selector, proves, sdk_selector


@pytest.mark.parametrize("prefix", [SDK_KEY, OPERATOR_TOKEN])
def test_mint__any__is_found_by_its_selector_and_proven_by_its_digest(prefix: str) -> None:
    minted = mint(prefix)

    found = sdk_selector(minted.text) if prefix == SDK_KEY else operator_selector(minted.text)
    assert found == minted.selector
    assert proves(minted.text, minted.digest)
    assert not proves(minted.text + "x", minted.digest)


@pytest.mark.parametrize("text", ["", "tg_x", "tgo_aaaaaaaaaaaa_" + "b" * 43, "tg_AAAAAAAAAAAA_" + "b" * 43])
def test_sdk_selector__text_of_another_shape__is_none(text: str) -> None:
    assert sdk_selector(text) is None


@pytest.mark.parametrize("text", ["short", "has a space in it", "naïve-token"])
def test_adopt__text_that_makes_no_token__is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="at least 8"):
        adopt(text)


@pytest.mark.django_db
def test_ensure_first_admin__twice__makes_one_admin_and_one_token_of_any_text() -> None:
    made = [ensure_first_admin(password="simple", token="a-chosen-token") for _ in range(2)]

    assert made == [True, False]
    assert Operator.objects.get().check_password("simple")
    assert operator_of_token("a-chosen-token", now=timezone.now()) == OperatorToken.objects.get()


@pytest.mark.django_db
def test_operator_of_token__a_token_that_nobody_made__is_unauthorized() -> None:
    ensure_first_admin(password="simple", token="a-chosen-token")

    for text in ("", "a-chosen-tokem", mint(OPERATOR_TOKEN).text):
        with pytest.raises(Unauthorized):
            operator_of_token(text, now=timezone.now())
    assert not SdkKey.objects.exists()

"""Forms about money and limits in Chromium: refused at the field, seen before it is done, done."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Watched

pytestmark = pytest.mark.browser
Open = Callable[..., Watched]


def test_price__bad_then_good__is_refused_at_the_field_previewed_and_set(signed_in: Open) -> None:
    page = (watched := signed_in()).page
    page.goto("/prices/?model=gpt-4o")
    expect(page.locator("#price_lookup")).to_contain_text("price list, openai")
    form = page.locator('form[action="/prices/set/"]')

    form.get_by_label("Input", exact=True).fill("-3")
    expect(page.locator("#price-effect")).to_contain_text("can't be negative")
    form.get_by_label("Input", exact=True).fill("2.75")
    expect(page.locator("#price-effect")).to_contain_text("it would have been")
    form.get_by_role("button", name="Set price").click()

    expect(page.locator(".said").last).to_contain_text("gpt-4o costs what you said")
    expect(page.locator("#price_lookup")).to_contain_text("$2.75")
    expect(page.locator("#price_own")).to_contain_text("gpt-4o")
    assert watched.complaints == []


def test_all_prices__not_a_number__is_refused_and_kept_to_be_corrected(signed_in: Open) -> None:
    page = (watched := signed_in()).page
    page.goto("/prices/")
    own = page.get_by_label("Own prices", exact=True)

    own.fill('{"ours": {"input": NaN}}')
    page.get_by_role("button", name="Show what would change").click()
    expect(page.get_by_role("alert")).to_contain_text("NaN is not a number")
    own.fill('{"ours": {"input": 0.5}, "gpt-4o": {"input": "2.75"}}')
    page.get_by_role("button", name="Show what would change").click()
    expect(page.locator("#all-own")).to_contain_text("would change")
    page.get_by_role("button", name="Replace my prices").click()
    page.locator("#confirm").get_by_role("button", name="Replace").click()

    expect(page.locator("#price_own")).to_contain_text("ours")
    assert [said for said in watched.complaints if "422" not in said] == []

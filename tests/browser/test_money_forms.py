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


def test_amount__changed_in_another_tab__follows_untouched_and_warns_who_typed(signed_in: Open) -> None:
    first, untouched, typed = (watched := signed_in("otto")).page, signed_in("otto").page, signed_in("otto").page
    for page in (first, untouched, typed):
        page.goto("/budgets/?budget=globex/research")
    before = first.get_by_label("New amount in dollars").input_value()
    typed.get_by_label("New amount in dollars").fill("1234")

    first.get_by_label("New amount in dollars").fill("1111")
    first.get_by_role("button", name="Raise by").or_(first.get_by_role("button", name="Lower by")).click()
    expect(first.locator(".said").last).to_contain_text("$1,111.00")

    expect(untouched.get_by_label("New amount in dollars")).to_have_value("1111.00")
    expect(untouched.locator(".meanwhile")).to_be_hidden()
    note = typed.locator(".meanwhile")
    expect(note).to_contain_text("It was changed to $1,111.00 meanwhile")
    typed.get_by_role("button", name="Raise by").click()
    expect(typed.get_by_role("alert")).to_contain_text("nothing was saved")
    typed.get_by_label("New amount in dollars").fill(before)
    typed.get_by_role("button", name="by $").click()
    expect(typed.locator(".said").last).to_contain_text("Clients hear of it")
    assert watched.complaints == []


def test_amount__server_away_while_typing__offers_nothing_that_it_did_not_answer(signed_in: Open) -> None:
    page = signed_in("otto").page
    page.goto("/budgets/?budget=globex/research")
    amount, effect = page.get_by_label("New amount in dollars"), page.locator("#effect")
    amount.fill("1500")
    expect(effect.get_by_role("button")).to_be_enabled()
    page.route("**/budgets/preview/**", lambda route: route.abort())

    amount.fill("1700")

    expect(effect.get_by_role("alert")).to_contain_text("does not say what this would do")
    expect(effect.get_by_role("button")).to_have_count(0)
    page.unroute_all()
    amount.fill("1800")
    expect(effect.get_by_role("button", name="Raise by $800.00")).to_be_enabled()


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


def test_budget__bad_then_several_periods__is_refused_at_the_field_then_made(signed_in: Open) -> None:
    page = (watched := signed_in("otto")).page
    page.goto("/budgets/new/?tenant=acme")
    page.get_by_label("Name").fill("night-work")

    page.get_by_label("Amount in dollars").fill("NaN")
    page.get_by_role("button", name="Create budget").click()
    expect(page.get_by_label("Amount in dollars")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Amount in dollars").fill("300")
    page.get_by_label("Time zone of calendar periods").fill("Asia/Kathmandu")
    page.get_by_label("Second amount").fill("20")
    page.get_by_label("When it is used up").select_option("warn")
    page.get_by_label("Calls hold").select_option("no")
    page.get_by_role("button", name="Create budget").click()

    expect(page.locator(".said").last).to_contain_text("acme/night-work is $300.00 and acme/night-work-day is $20.00")
    expect(page.locator("#budget_list tr[aria-selected=true]")).to_contain_text("only watches, not strict")
    assert [said for said in watched.complaints if "422" not in said] == []


def test_budget__lowered__shows_the_worst_first_and_a_client_is_revoked(signed_in: Open) -> None:
    page = (watched := signed_in("otto")).page
    page.goto("/budgets/?budget=acme/support&afford=600")
    expect(page.locator("#budget_afford")).to_contain_text("Can’t afford $600.00")

    page.get_by_label("New amount in dollars").fill("1850")
    expect(page.locator("#effect .note strong").first).to_have_text("At worst")
    page.locator("#budget_holders a.cover").first.click()
    panel = page.locator("#revoke")
    panel.get_by_label("Reason").fill("a loop")
    panel.get_by_role("button", name="Revoke its leases").click()

    expect(page.locator(".said").last).to_contain_text("revoked")
    expect(page.locator("#budget_holders")).to_contain_text("Revoked")
    assert watched.complaints == []


def test_policy__by_fields__is_refused_at_the_field_previewed_and_put(signed_in: Open) -> None:
    page = (watched := signed_in("otto")).page
    page.goto("/limits/edit/?tenant=globex")
    page.get_by_label("Route", exact=True).fill("drafts")
    breaker = page.locator('[data-part="breaker"]')

    expect(breaker.get_by_label("Mode")).to_be_hidden()
    breaker.get_by_label("The breaker is").select_option("own")
    breaker.get_by_label("Opens at this share failed").fill("7")
    expect(page.locator("#policy-preview")).to_contain_text("breaker.failure_rate")
    breaker.get_by_label("Opens at this share failed").fill("0.25")
    breaker.get_by_label("Mode").select_option("metrics_only")
    page.get_by_label("The queue is").select_option("own")
    page.locator('[data-part="queue"]').get_by_label("Permits: calls at once").fill("8")
    expect(page.locator("#policy-preview")).to_contain_text("8 at once")
    page.get_by_role("button", name="Put policy").click()

    expect(page.locator(".said").last).to_contain_text("globex/drafts is in force")
    expect(page.locator("#policy_effective")).to_contain_text("metrics only")
    assert watched.complaints == []

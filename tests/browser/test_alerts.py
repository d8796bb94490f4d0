"""Alerts by clicks: a rule made after a look at the past, an alert silenced, a channel tested."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Watched

pytestmark = pytest.mark.browser
Open = Callable[..., Watched]


def test_rule__made_after_a_look_at_the_past__is_listed(signed_in: Open) -> None:
    watched = signed_in("otto")
    page = watched.page
    page.goto("/alerts/rules/edit/")
    page.get_by_label("Name", exact=True).fill("Models fail")
    page.get_by_label("Short name").fill("models-fail")
    page.get_by_label("For", exact=True).select_option("model")
    page.get_by_label("Limit").fill("0.5 %")
    tried = page.locator("#tried")
    expect(tried).to_contain_text("It would have fired", timeout=30_000)
    expect(tried.locator("svg .lane-track")).to_have_count(3)
    fired = tried.locator("strong").inner_text()
    tried.get_by_text("The same as a table").click()
    expect(tried.locator("tbody tr")).to_have_count(int(re.findall(r"\d+", fired)[0]))

    page.get_by_label("Limit").fill("much")
    expect(tried).to_contain_text("must be a number", timeout=30_000)
    page.get_by_label("Limit").fill("0.5 %")
    page.get_by_label("Tell on-call").check()
    page.get_by_role("button", name="Create rule").click()
    page.wait_for_url("**/alerts/rules/")

    row = page.locator("#rule_list tr", has_text="Models fail")
    expect(row).to_contain_text("Share of calls that fail > 0.5 % over 5 min, per model")
    expect(row).to_contain_text("on-call")
    assert watched.complaints == []


def test_alert__silenced_and_looked_after__says_so_and_leaves_the_banner(signed_in: Open) -> None:
    watched = signed_in("otto")
    page = watched.page
    page.goto("/")
    page.locator("#incidents a").click()
    page.wait_for_url("**/alerts/?alert=*")
    chosen = page.locator("#alert_list tr[aria-selected=true]")
    expect(chosen).to_contain_text("Firing")
    page.get_by_role("button", name="Look after it").click()
    expect(page.locator("#alert_detail")).to_contain_text("otto looks after it")

    page.get_by_label("For", exact=True).select_option("4")
    page.locator("form[action$='/silence/']").get_by_label("Reason").fill("we know of it")
    page.get_by_role("button", name="Silence it").click()
    expect(page.locator("#silence_list")).to_contain_text("we know of it · otto")

    page.locator("#silence_list .row", has_text="we know of it").get_by_role("button", name="End").click()
    page.locator("#confirm button[value=yes]").click()
    expect(page.locator("#silence_list")).not_to_contain_text("we know of it")
    assert watched.complaints == []


def test_channel__tested__says_what_became_of_it_and_logs_it(signed_in: Open) -> None:
    watched = signed_in("anna")
    page = watched.page
    page.goto("/alerts/channels/")
    page.get_by_label("Name", exact=True).fill("mine")
    page.get_by_label("Address", exact=True).fill("http://127.0.0.1:9/hook")
    page.get_by_role("button", name="Create channel").click()
    expect(page.locator(".secret code")).to_have_text(re.compile(r"\S{30,}"))

    page.locator("#channel_list tr", has_text="mine").get_by_role("button", name="Send a test").click()

    expect(page.locator(".said").first).to_contain_text(
        "did not arrive: 127.0.0.1 is at 127.0.0.1, inside of a private network"
    )
    expect(page.locator("#delivery_list tbody tr").first).to_contain_text("failed")
    assert watched.complaints == []


def test_service_levels__both_windows__are_drawn_and_lead_to_traces(signed_in: Open) -> None:
    watched = signed_in("vera")
    page = watched.page
    page.goto("/slos/?slo=acme/chat")
    watched.wait_live()
    expect(page.locator("#slo_burn svg polyline.s1")).not_to_have_count(0)
    expect(page.locator("#slo_burn svg polyline.s2")).not_to_have_count(0)

    page.locator("#slo_burn .pairs a").nth(1).click()
    page.wait_for_url("**pair=6*")
    page.locator("#slo_offenders").get_by_role("link", name="Traces").first.click()
    page.wait_for_url("**/traces/?*status=error*")
    assert watched.complaints == []


@pytest.mark.parametrize(
    "path", ["/alerts/", "/alerts/rules/", "/alerts/rules/edit/", "/alerts/channels/", "/slos/", "/slos/edit/"]
)
@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 390)])
def test_pages__by_axe__have_no_fault_and_fit(path: str, scheme: str, width: int, signed_in: Open) -> None:
    watched = signed_in("anna", scheme=scheme, width=width, checked=True)
    watched.page.goto(path)
    if path == "/alerts/rules/edit/":
        expect(watched.page.locator("#tried svg")).to_be_visible(timeout=30_000)

    assert watched.faults() == []
    assert watched.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")

"""The dashboard in Chromium: every page without a complaint, by keyboard, live, and one adjustment from end to end."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Watched

pytestmark = pytest.mark.browser
Open = Callable[..., Watched]
PAGES = (
    "/",
    "/tenants/",
    "/tenants/of/acme/",
    "/tenants/new/",
    "/budgets/?budget=acme/support",
    "/budgets/?budget=acme/support&afford=600&client=00000000-0000-0000-0000-000000000001",
    "/budgets/new/",
    "/accuracy/",
    "/prices/?model=gpt-4o",
    "/limits/?policy=acme/chat",
    "/limits/edit/?policy=acme/chat",
    "/breakers/",
    "/rollouts/",
    "/rollouts/new/",
    "/rollouts/deployments/new/",
    "/explore/?by=model&compare=1&since=15m",
    "/traces/",
    "/traces/compare/",
    "/mesh/",
    "/sessions/",
    "/alerts/",
    "/clients/",
    "/clients/?client=00000000-0000-0000-0000-000000000001",
    "/state/",
    "/state/of/?tenant=acme&kind=user&owner=u-1",
    "/audit/",
    "/settings/",
)


def test_pages__light_and_wide__are_live_and_nothing_complains(signed_in: Open) -> None:
    watched = signed_in()

    for path in PAGES:
        watched.page.goto(path)
        watched.wait_live()
        expect(watched.page.locator("h1")).to_be_visible()

    assert watched.complaints == []


def test_pages__dark_and_narrow__fit_and_nothing_complains(signed_in: Open) -> None:
    watched = signed_in(width=390, scheme="dark")

    for path in PAGES:
        watched.page.goto(path)
        assert watched.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert watched.page.evaluate("document.getElementById('live').getBoundingClientRect().right <= innerWidth"), (
            path
        )

    assert watched.complaints == []


@pytest.mark.timeout(400)  # every page is looked through
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages__either_scheme__are_accessible(scheme: str, signed_in: Open) -> None:
    watched = signed_in(scheme=scheme, checked=True)

    faults = {}
    for path in PAGES:
        watched.page.goto(path)
        watched.wait_live()
        faults[path] = watched.faults()

    assert {path: found for path, found in faults.items() if found} == {}


def test_trace__opened_from_the_list__shows_its_spans_and_one_in_detail(signed_in: Open) -> None:
    page = (watched := signed_in()).page
    page.goto("/traces/?status=error")

    page.locator("#trace_list a.cover").first.click()
    page.get_by_role("treegrid").get_by_text("POST /v1/chat/completions").click()

    expect(page.locator("#span")).to_contain_text("upstream timed out")
    page.reload()
    expect(page.locator("#span")).to_contain_text("upstream timed out")
    assert watched.complaints == []


def test_trace__by_keyboard__folds_moves_and_finds(signed_in: Open) -> None:
    page = (watched := signed_in()).page
    page.goto("/traces/?status=error")
    page.locator("#trace_list a.cover").first.click()
    grid = page.get_by_role("treegrid")
    expect(grid.get_by_role("row")).to_have_count(5)

    grid.focus()
    page.keyboard.press("ArrowLeft")
    expect(grid.get_by_role("row")).to_have_count(1)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#span h2").first).to_have_text("chat gpt-4o")
    page.get_by_label("Find in this trace").fill("search_orders")
    page.keyboard.press("Enter")

    expect(page.locator("#span h2").first).to_have_text("tool: search_orders")
    assert watched.complaints == []


def test_traces__dragged_over_the_histogram__shows_the_chosen_time(signed_in: Open) -> None:
    page = (watched := signed_in()).page
    page.goto("/traces/?since=1h")
    box = page.locator("#trace_histogram svg").bounding_box()
    assert box

    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 20, steps=4)
    page.mouse.up()

    page.wait_for_url("**from=*")
    expect(page.locator(".chip")).to_contain_text("Time")
    page.get_by_label("Filter by", exact=True).select_option("user")
    page.get_by_label("Value of the filter").fill("u-1")
    page.get_by_role("button", name="Filter", exact=True).click()
    expect(page.locator(".chip")).to_have_count(2)
    assert watched.complaints == []


def test_chart__of_a_tenant__is_drawn_in_the_colours_of_the_page(signed_in: Open) -> None:
    page = (watched := signed_in()).page

    page.goto("/tenants/of/acme/")

    page.wait_for_selector(".chart .bars path", timeout=15_000)
    fill = page.eval_on_selector(".chart .bars path", "node => getComputedStyle(node).fill")
    assert fill == "rgb(11, 110, 120)"
    assert watched.complaints == []


def test_keyboard__g_and_a_letter__goes_there(signed_in: Open) -> None:
    page = signed_in().page
    page.goto("/")

    page.keyboard.press("g")
    page.keyboard.press("b")

    page.wait_for_url("**/budgets/")


def test_keyboard__palette__finds_a_tenant_by_name(signed_in: Open) -> None:
    page = signed_in().page
    page.goto("/")

    page.keyboard.press("Control+k")
    page.keyboard.type("acme eur")
    expect(page.locator("#palette-list li").first).to_contain_text("Acme Europe")
    page.keyboard.press("Enter")

    page.wait_for_url("**/tenants/of/acme-eu/")


def test_keyboard__question_mark_and_slash__help_and_filter(signed_in: Open) -> None:
    page = signed_in().page
    page.goto("/audit/")

    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("created")
    page.keyboard.press("Enter")

    page.wait_for_url(re.compile(r"/audit/\?q=created"))


def test_keyboard__tab_from_the_top__begins_with_the_way_past_the_rail(signed_in: Open) -> None:
    page = signed_in().page
    page.goto("/budgets/")

    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    assert page.evaluate("document.activeElement.id") == "main"


def test_live__frames_arrive__what_the_person_opened_and_typed_survives(signed_in: Open) -> None:
    watched = signed_in()
    page = watched.page
    page.goto("/")
    watched.wait_live()
    page.locator("#spreads summary").click()
    page.locator("#rail_links a", has_text="Budgets").focus()

    watched.wait_frames(2)

    assert page.evaluate("document.getElementById('spreads').open")
    assert page.evaluate("document.activeElement.textContent").startswith("Budgets")


def test_live__tab_hidden_and_shown_again__pauses_and_goes_on(signed_in: Open) -> None:
    watched = signed_in()
    page = watched.page
    page.goto("/clients/")
    watched.wait_live()

    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#live")).to_have_text("Paused")
    page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")

    watched.wait_live()


def test_adjust_budget__previewed_and_confirmed__is_seen_by_another_person_at_once(signed_in: Open) -> None:
    viewer, operator = signed_in("vera"), signed_in("otto")
    viewer.page.goto("/budgets/?budget=acme/everything")
    viewer.wait_live()
    expect(viewer.page.get_by_role("button", name="Archive")).to_have_count(0)

    operator.page.goto("/budgets/?budget=acme/everything")
    operator.page.get_by_label("New amount in dollars").fill("12,000")
    operator.page.locator("#f_reason").fill("a good month")
    operator.page.get_by_role("button", name="Raise by $2,000.00").click()

    expect(operator.page.locator(".said")).to_contain_text("acme/everything is $12,000.00 now")
    expect(viewer.page.locator("#budget_list tr[aria-selected=true]")).to_contain_text("$12,000.00", timeout=5000)
    assert operator.complaints == viewer.complaints == []


def test_force_open__asked_first__happens_only_when_confirmed(signed_in: Open) -> None:
    page = (watched := signed_in("otto")).page
    page.goto("/breakers/?route=chat&model=gpt-4o")
    force = page.locator("form").get_by_role("button", name="Force open")

    force.click()
    page.locator("#confirm").get_by_role("button", name="Cancel").click()
    expect(page.locator("#breaker_overrides")).not_to_contain_text("Forced open")
    force.click()
    page.locator("#confirm").get_by_role("button", name="Force open").click()

    expect(page.locator("#breaker_overrides")).to_contain_text("Forced open")
    assert watched.complaints == []


def test_theme__toggled__is_kept_over_pages(signed_in: Open) -> None:
    page = signed_in().page
    page.goto("/audit/")

    page.get_by_role("button", name="Theme").click()
    page.get_by_role("button", name="Theme").click()
    page.goto("/clients/")

    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(11, 16, 20)"

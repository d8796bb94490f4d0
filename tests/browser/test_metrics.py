"""The page of metrics in Chromium: chosen, drawn, zoomed into, opened, linked to."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Watched

pytestmark = pytest.mark.browser
Open = Callable[..., Watched]


def drawn(page: Page) -> None:
    page.wait_for_selector("#metric_chart[data-drawn] .cartesianlayer", state="attached", timeout=20_000)


def test_metrics__chosen_by_hand__is_drawn_and_its_address_says_all_of_it(signed_in: Open) -> None:
    page = (watched := signed_in()).page
    page.goto("/explore/")
    drawn(page)

    page.get_by_label("Metric", exact=True).select_option("cost_usd")
    page.wait_for_url("**metric=cost_usd**")
    page.get_by_label("By", exact=True).select_option("tenant")
    page.wait_for_url("**by=tenant**")
    page.get_by_label("Beside the time before").check()
    page.wait_for_url("**compare=1**")
    drawn(page)

    expect(page.locator("#metric_lines")).to_contain_text("globex")
    expect(page.locator("#metric_lines th", has_text="Change")).to_be_visible()
    assert page.locator("#metric_chart .scatterlayer .trace").count() >= 4
    with page.expect_download() as download:
        page.get_by_role("link", name="Export CSV").click()
    assert download.value.suggested_filename.startswith("cost_usd-")
    assert watched.complaints == []


def test_metrics__a_dot__opens_its_trace(signed_in: Open) -> None:
    page = (watched := signed_in()).page
    page.goto("/explore/?since=1h")
    drawn(page)

    page.locator("#metric_chart").evaluate(
        "(chart) => chart.emit('plotly_click', {points: [{data: chart.data.find((each) => each.meta?.opens),"
        " customdata: chart.data.find((each) => each.meta?.opens).customdata[0]}]})"
    )

    page.wait_for_url(re.compile(r"/traces/[0-9a-f]{32}/\?span="))
    expect(page.get_by_role("treegrid")).to_be_visible()
    assert watched.complaints == []


def test_metrics__dragged_over__becomes_the_time_of_the_page(signed_in: Open) -> None:
    page = (watched := signed_in()).page
    page.goto("/explore/?since=1h")
    drawn(page)
    box = page.locator("#metric_chart .nsewdrag").first.bounding_box()
    assert box is not None

    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 62, steps=8)
    page.mouse.up()

    page.wait_for_url("**from=**to=**")
    drawn(page)
    expect(page.locator(".chips")).to_contain_text("UTC")
    assert watched.complaints == []

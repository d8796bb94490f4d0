"""Traces of any size in Chromium, and traces with parts missing."""

from __future__ import annotations

import os
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import DATABASE, Watched

pytestmark = pytest.mark.browser
Open = Callable[..., Watched]
# A chain of groups of a hundred: span 1 is the root, 2 to 101 are below it, the next hundred below span 2, and so on.
SPANS = """
    INSERT INTO telemetry_span (trace_id, span_id, parent_span_id, starts_at, duration_us, tenant, service, name, kind, status)
    SELECT %(trace)s, lpad(to_hex(n), 16, '0'), CASE WHEN n = 1 THEN '' ELSE lpad(to_hex((n - 2) / 100 + 1), 16, '0') END,
           now() - interval '5 minutes' + n * interval '1 millisecond', 900, 'acme', 'batch', 'step ' || n, 1, 1
    FROM generate_series(1, %(count)s) AS n WHERE n <> %(without)s ON CONFLICT DO NOTHING"""


def fill(trace: str, count: int, without: int = 0) -> None:
    url = urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{DATABASE}"))
    with psycopg.connect(url) as connection:
        connection.execute(SPANS, {"trace": trace, "count": count, "without": without})


@pytest.mark.parametrize("count", [10_000, 50_000])
def test_trace__of_many_spans__opens_with_few_rows_drawn_and_scrolls_to_its_end(count: int, signed_in: Open) -> None:
    trace = f"{count:032x}"
    fill(trace, count)
    page = (watched := signed_in()).page

    page.goto(f"/traces/{trace}/", timeout=60_000)
    grid = page.get_by_role("treegrid")
    expect(grid.get_by_text("step 1", exact=True)).to_be_visible(timeout=60_000)
    body = page.locator(".fall-body")
    body.evaluate("(list) => { list.scrollTop = list.scrollHeight; }")

    expect(body.locator(".fall-row").last).to_be_visible()
    expect(page.locator("#trace_summary")).to_contain_text(f"{count:,} spans")
    assert page.locator(".fall-row").count() < 200
    frames = page.evaluate(
        """async () => {
            const list = document.querySelector(".fall-body");
            const gaps = [];
            for (let n = 0, last = performance.now(); n < 40; n++) {
                list.scrollTop = list.scrollHeight * n / 40;
                await new Promise(requestAnimationFrame);
                gaps.push(performance.now() - last);
                last = performance.now();
            }
            return gaps.length;
        }"""
    )
    assert frames == 40
    assert page.locator(".fall-row").count() < 200
    assert watched.complaints == []


def test_trace__a_parent_that_never_came__is_said_on_top(signed_in: Open) -> None:
    trace = f"{7:032x}"
    fill(trace, 300, without=2)
    page = (watched := signed_in()).page

    page.goto(f"/traces/{trace}/")

    expect(page.locator("#trace_summary [role=status]")).to_contain_text("1 parent that spans name is missing")
    expect(page.locator("#trace_summary code")).to_have_text(f"{2:016x}")
    assert watched.complaints == []


def test_trace__what_is_chosen_folded_away__keys_go_on_from_what_was_folded(signed_in: Open) -> None:
    trace = "f01d".rjust(32, "0")
    fill(trace, 300)
    page = (watched := signed_in()).page
    page.goto(f"/traces/{trace}/")
    body = page.locator(".fall-body")
    expect(body.get_by_text("step 1", exact=True)).to_be_visible()
    body.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")

    page.get_by_role("button", name="Collapse all").click()
    body.focus()
    chosen = page.locator(".fall-row[aria-selected=true]")
    expect(chosen).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("ArrowRight")
    expect(chosen).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("ArrowDown")

    expect(chosen).to_have_attribute("aria-level", "3")
    assert watched.complaints == []


def test_trace__server_away__says_so_where_the_span_would_be(signed_in: Open) -> None:
    trace = "a3a1".rjust(32, "0")
    fill(trace, 20)
    page = signed_in().page
    page.goto(f"/traces/{trace}/")
    row = page.locator(".fall-row").nth(3)
    expect(row).to_be_visible()
    page.route("**/traces/**", lambda route: route.abort())

    row.click()
    expect(page.locator("#drawer").get_by_role("alert")).to_contain_text("could not be fetched")
    page.unroute_all()
    row.click()

    expect(page.locator("#drawer #span")).to_contain_text("step 4")

"""State by clicks: a user looked up with what each value was before, a rebalancing previewed, started, slowed and paused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Watched

pytestmark = pytest.mark.browser
Open = Callable[..., Watched]


def test_lookup__of_a_user__shows_values_versions_sizes_and_what_was_before(signed_in: Open) -> None:
    watched = signed_in("anna")
    page = watched.page
    page.goto("/state/")
    page.get_by_label("Kind", exact=True).first.select_option("user")
    page.get_by_label("Tenant").fill("acme")
    page.get_by_label("Id of the session or user, or a topic").fill("u-1")
    page.get_by_role("button", name="Look up").click()
    page.wait_for_url("**/state/of/*")

    expect(page.locator("main")).to_contain_text("of 1,024")
    row = page.locator("tr", has_text="visits")
    expect(row.locator("pre.value").first).to_have_text("41")
    row.get_by_text("2 earlier versions").click()
    expect(row.locator("details pre.value")).to_have_text(["40", "39"])
    expect(page.locator("thead")).to_contain_text("Version")
    expect(row).to_contain_text("as its owner")
    assert watched.complaints == []


def test_lookup__of_nobody__says_that_there_is_nothing(signed_in: Open) -> None:
    page = signed_in("anna").page
    page.goto("/state/of/?tenant=acme&kind=user&owner=nobody")

    expect(page.locator("main")).to_contain_text("There is nothing under this name")


def test_tiers__of_the_last_minutes__have_their_hit_rates(signed_in: Open) -> None:
    page = signed_in("anna").page
    page.goto("/state/")

    rates = page.locator("#state_tiers tbody tr td:last-child").all_inner_texts()
    assert len(rates) == 4
    assert all(rate.endswith("%") for rate in rates[:3])


def test_rebalancing__previewed_and_started__runs_and_can_be_slowed_and_paused(signed_in: Open) -> None:
    watched = signed_in("anna")
    page = watched.page
    page.goto("/state/")
    work = page.locator("#state_work")
    preview = work.locator("section", has_text="Sessions can be rebalanced")
    expect(preview).to_contain_text("512 of 1,024 slots")
    expect(preview.locator("tr", has_text="cache-2")).to_have_text("cache-20512")

    page.get_by_label("What").select_option(label="Sessions: deal evenly")
    page.locator("#f_slots_per_s").fill("20")
    page.get_by_role("button", name="Start rebalancing").click()
    page.wait_for_load_state()

    running = work.locator("section", has_text="Rebalancing of sessions")
    expect(running).to_contain_text("0 of 512 slots are moved")
    running.get_by_label("At most, slots per second").fill("2")
    running.get_by_role("button", name="Change the pace").click()
    page.wait_for_load_state()
    expect(running).to_contain_text("at most 2 a second")
    running.get_by_role("button", name="Pause").click()
    page.wait_for_load_state()
    expect(running).to_contain_text("paused")
    running.get_by_role("button", name="Go on").click()
    page.wait_for_load_state()
    expect(running).to_contain_text("running")
    assert watched.complaints == []

"""A rollout by clicks: made, paused, resumed, promoted, rolled back; and blue-green there and back."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Watched

pytestmark = pytest.mark.browser
Open = Callable[..., Watched]


def click(page: Page, card: str, button: str, *, confirmed: bool = False) -> None:
    page.locator(card).get_by_role("button", name=re.compile(button)).click()
    if confirmed:
        page.locator("#confirm button[value=yes]").click()
    page.wait_for_load_state()


def test_rollout__every_verb__by_its_button(signed_in: Open) -> None:
    watched = signed_in("otto")
    page = watched.page
    page.goto("/rollouts/new/?deployment=triage")
    page.get_by_label("Version of the new one").fill("9.0.0")
    page.get_by_label("Config of the new one").fill('{"model": "c"}')
    page.get_by_role("button", name="Start rollout").click()
    page.wait_for_url("**/rollouts/?rollout=*")
    card = f"#r_{page.url.rpartition('=')[2]}"
    pill = page.locator(card).locator(".pill").first
    expect(pill).to_have_text("Baking")

    click(page, card, "^Pause")
    expect(pill).to_have_text("Paused")
    click(page, card, "^Resume")
    expect(pill).to_have_text("Baking")
    click(page, card, "^Promote", confirmed=True)
    expect(page.locator("section.ring", has=page.locator(card)).locator("h2")).to_contain_text("Early")
    click(page, card, "^Abort", confirmed=True)
    expect(pill).to_have_text("Aborted")
    click(page, card, "^Try again")
    expect(pill).to_have_text("Baking")
    click(page, card, "^Roll back", confirmed=True)
    expect(pill).to_have_text("Rolled back")
    expect(page.locator("#rollout_history")).to_contain_text("rollback by otto")
    assert watched.complaints == []


def test_rollout__confirmation_declined__nothing_happens(signed_in: Open) -> None:
    page = signed_in("otto").page
    page.goto("/rollouts/")
    card = page.locator("article.card", has_text="support-agent")
    card.get_by_role("button", name="Roll back").click()
    page.locator("#confirm button[value=no]").click()

    expect(card.locator(".pill").first).to_have_text("Paused")


def test_blue_green__switched_back_and_there_again__by_its_button(signed_in: Open) -> None:
    page = signed_in("anna").page
    page.goto("/rollouts/")
    card = page.locator("article.card", has_text="summariser")

    card.get_by_role("button", name="Switch back to 7.2.0").click()
    expect(card.locator(".pill").first).to_have_text("Blue live")
    card.get_by_role("button", name="Switch to 7.3.0").click()
    expect(card.locator(".pill").first).to_have_text("Green live")


def test_board__viewer__sees_it_live_without_buttons(signed_in: Open) -> None:
    watched = signed_in("vera")
    watched.page.goto("/rollouts/")
    watched.wait_live()
    watched.wait_frames(2)

    expect(watched.page.locator("#rollout_board")).to_contain_text("router")
    assert watched.page.locator("#rollout_board button").count() == 0

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


def begin(page: Page, slug: str, *, approval: bool = False) -> str:
    """Make a deployment and a rollout of its second release by the forms; return where its card is."""
    page.goto("/rollouts/deployments/new/")
    page.get_by_label("Name", exact=True).fill(slug)
    page.get_by_label("Routes").fill(slug)
    page.get_by_label("Its config").fill('{"model": "a"}')
    page.get_by_label("Rollouts", exact=True).select_option("yes" if approval else "")
    page.get_by_role("button", name="Create deployment").click()
    page.wait_for_url("**/rollouts/new/?deployment=*")
    page.get_by_label("Config of the new one").fill('{"model": "b"}')
    page.get_by_role("button", name="Submit for approval" if approval else "Start rollout").click()
    page.wait_for_url("**/rollouts/?rollout=*")
    return f"#r_{page.url.rpartition('=')[2]}"


def more(page: Page, card: str, button: str, *, confirmed: bool = False) -> None:
    """Click a button of the card's menu."""
    page.locator(card).get_by_text("More", exact=True).click()
    click(page, card, button, confirmed=confirmed)


Steps = Callable[[Page, str], None]
VERBS: dict[str, tuple[list[Steps], str, str, str]] = {
    # verb: what is done, the pill and the column afterwards, and what the history says
    "pause": ([lambda page, card: click(page, card, "^Pause")], "Paused", "Canary", "pause"),
    "resume": (
        [lambda page, card: click(page, card, "^Pause"), lambda page, card: click(page, card, "^Resume")],
        "Baking", "Canary", "resume",
    ),
    "promote": ([lambda page, card: click(page, card, "^Promote", confirmed=True)], "Baking", "Early", "promote"),
    "promote fully": (
        [lambda page, card: more(page, card, "^Promote to everybody", confirmed=True)],
        "Promoting", "Everyone", "promote fully",
    ),
    "skip": ([lambda page, card: more(page, card, "^Skip", confirmed=True)], "Baking", "Early", "skip"),
    "extend": ([lambda page, card: more(page, card, "^Extend by 4 h")], "Baking", "Canary", "extend"),
    "abort": ([lambda page, card: more(page, card, "^Abort", confirmed=True)], "Aborted", "Ended", "abort"),
    "retry": (
        [
            lambda page, card: more(page, card, "^Abort", confirmed=True),
            lambda page, card: click(page, card, "^Try again"),
        ],
        "Baking", "Canary", "retry",
    ),
    "roll back": (
        [lambda page, card: click(page, card, "^Roll back", confirmed=True)], "Rolled back", "Ended", "rollback",
    ),
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_rollout__verb__by_its_button(signed_in: Open, verb: str) -> None:
    steps, pill, column, said = VERBS[verb]
    watched = signed_in("otto")
    page = watched.page
    card = begin(page, f"by-{verb.replace(' ', '-')}")

    for step in steps:
        step(page, card)

    expect(page.locator(card).locator(".pill").first).to_have_text(pill)
    expect(page.locator("section.ring", has=page.locator(card)).locator("h2")).to_contain_text(column)
    expect(page.locator("#rollout_history")).to_contain_text(f"{said} by otto")
    assert watched.complaints == []


def test_rollout__needs_approval__another_person_approves_by_the_button_of_any_page(signed_in: Open) -> None:
    author = (watched := signed_in("otto")).page
    card = begin(author, "by-approve", approval=True)
    expect(author.locator(card).locator(".pill").first).to_have_text("Asks approval")
    number = card.removeprefix("#r_")
    watched.wait_frames(2)
    own = author.locator(card).get_by_role("button", name="Approve")
    expect(own).to_be_disabled()
    expect(own).to_have_attribute("title", "You made or edited it: another person approves it.")
    expect(author.locator(card)).to_contain_text("by somebody other than otto")

    page = signed_in("anna").page
    page.goto("/audit/")
    click(page, f"#b_{number}", "^Approve")

    expect(page.locator(card).locator(".pill").first).to_have_text("Baking")


SCHEMA = '{"properties": {"model": {"type": "string"}}}'


def test_draft__edited_submitted_approved_in_a_freeze__waits_for_its_time(signed_in: Open) -> None:
    watched = signed_in("otto", checked=True)
    page = watched.page
    page.goto("/rollouts/deployments/new/")
    page.get_by_label("Whose calls").select_option("acme-eu")
    page.get_by_label("Name", exact=True).fill("careful")
    page.get_by_label("Its config").fill('{"model": "a"}')
    page.get_by_label("JSON Schema of every config").fill(SCHEMA)
    page.get_by_label("Rollouts", exact=True).select_option("yes")
    page.get_by_role("button", name="Create deployment").click()
    page.wait_for_url("**/rollouts/new/?deployment=careful")

    preview = page.locator("#rollout-preview")
    page.get_by_label("Config of the new one").fill('{"model": 7}')
    expect(preview).to_contain_text("config.model must be of type string")
    page.get_by_label("Config of the new one").fill('{"model": "b"}')
    expect(preview.locator("ins")).to_contain_text('"model": "b"')
    expect(preview).to_contain_text("After another person’s approval, at once.")
    assert watched.faults() == []
    page.get_by_role("button", name="Save draft").click()
    page.wait_for_url("**/rollouts/?rollout=*")
    card = f"#r_{page.url.rpartition('=')[2]}"
    expect(page.locator(card).locator(".pill").first).to_have_text("Draft")

    page.get_by_label("Until").fill("2099-02-01T08:00")
    page.locator("#f_freeze_tenant").select_option("acme-eu")
    page.get_by_role("button", name="Freeze", exact=True).click()
    expect(page.locator(card)).to_contain_text("Frozen until 2099-02-01 08:00 UTC")
    page.locator(card).get_by_role("link", name="Edit").click()
    expect(page.locator("#rollout-preview")).to_contain_text("Frozen until 2099-02-01 08:00 UTC")
    page.get_by_label("Strategy").select_option("canary")
    page.get_by_label("Start at, UTC").fill("2099-01-01T08:00")
    page.get_by_role("button", name="Submit for approval").click()
    expect(page.locator(card).locator(".pill").first).to_have_text("Asks approval")

    other = signed_in("anna").page
    other.goto("/rollouts/")
    click(other, card, "^Approve")

    expect(other.locator(card).locator(".pill").first).to_have_text("Scheduled")
    expect(other.locator(card)).to_contain_text("on 2099-01-01 08:00 UTC")
    expect(other.locator("#rollout_history")).to_contain_text("edit by otto")
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

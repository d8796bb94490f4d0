"""What hurried people do: click twice, confirm what has changed meanwhile, look from two windows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Watched

pytestmark = pytest.mark.browser
Open = Callable[..., Watched]


def test_form__double_click_on_its_button__is_sent_once(signed_in: Open) -> None:
    page = (watched := signed_in()).page
    page.goto("/tenants/new/")
    page.get_by_label("Slug").fill("twice")
    page.get_by_label("Display name").fill("Twice")
    sent = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)

    page.get_by_role("button", name="Create tenant").dblclick()

    page.wait_for_url("**/tenants/of/twice/")
    assert len(sent) == 1
    assert watched.complaints == []


def test_confirmation__frame_made_another_button_of_it_meanwhile__does_nothing_and_says_so(signed_in: Open) -> None:
    page = (watched := signed_in()).page
    page.goto("/tenants/of/acme-eu/")
    watched.wait_live()
    sent = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    button = page.locator("button[data-confirm]", has_text="Archive")

    button.click()
    button.evaluate("button => { button.value = 'another'; button.dataset.confirm = 'Something else?'; }")
    page.locator("#confirm button[value=yes]").click()

    expect(page.locator("#confirm p")).to_contain_text("can no longer be done")
    expect(page.locator("#confirm button[value=yes]")).to_be_hidden()
    page.locator("#confirm").get_by_role("button", name="Close").click()
    expect(page.locator("#confirm")).to_be_hidden()
    assert sent == []
    assert watched.complaints == []


def test_page__part_with_nothing_to_say__takes_no_room(signed_in: Open) -> None:
    page = signed_in().page
    page.goto("/")

    hidden = page.evaluate(
        """() => [...document.querySelectorAll("[hidden]")].filter((node) => getComputedStyle(node).display !== "none")
        .map((node) => node.id || node.className)"""
    )

    assert hidden == []

"""All live pages by name: what the views show and the websocket sends."""

from __future__ import annotations

from dashboard.page import Page
from dashboard.pages import audit, breakers, budgets, clients, overview

PAGES: dict[str, Page] = {
    page.name: page for page in (overview.PAGE, budgets.PAGE, budgets.NEW, breakers.PAGE, clients.PAGE, audit.PAGE)
}

"""The addresses of the dashboard."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from dashboard.views import breakers, budgets, door, palette
from dashboard.views.show import show

app_urls: list[URLPattern | URLResolver] = [
    path("sign-in/", door.SignIn.as_view(), name="sign-in"),
    path("sign-out/", door.SignOut.as_view(), name="sign-out"),
    path("palette.json", palette.entries, name="palette"),
    path("", show("overview"), name="overview"),
    path("budgets/", show("budgets"), name="budgets"),
    path("budgets/new/", show("budget-new"), name="budget-new"),
    path("budgets/create/", budgets.create, name="budget-create"),
    path("budgets/preview/", budgets.preview, name="budget-preview"),
    path("budgets/amount/", budgets.change_amount, name="budget-amount"),
    path("budgets/archive/", budgets.archive, name="budget-archive"),
    path("breakers/", show("breakers"), name="breakers"),
    path("breakers/hand/", breakers.take_in_hand, name="breaker-hand"),
    path("clients/", show("clients"), name="clients"),
    path("audit/", show("audit"), name="audit"),
]

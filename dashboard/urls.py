"""The addresses of the dashboard."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from dashboard.views import breakers, budgets, door, leases, limits, palette, settings, tenants
from dashboard.views.show import show

app_urls: list[URLPattern | URLResolver] = [
    path("sign-in/", door.SignIn.as_view(), name="sign-in"),
    path("sign-out/", door.SignOut.as_view(), name="sign-out"),
    path("palette.json", palette.entries, name="palette"),
    path("", show("overview"), name="overview"),
    path("tenants/", show("tenants"), name="tenants"),
    path("tenants/new/", show("tenant-new"), name="tenant-new"),
    path("tenants/create/", tenants.create, name="tenant-create"),
    path("tenants/of/<slug:slug>/", show("tenant"), name="tenant"),
    path("tenants/of/<slug:slug>/cost.json", tenants.cost_chart, name="tenant-cost"),
    path("tenants/of/<slug:slug>/rename/", tenants.rename, name="tenant-rename"),
    path("tenants/of/<slug:slug>/archive/", tenants.archive, name="tenant-archive"),
    path("tenants/of/<slug:slug>/keys/", tenants.create_key, name="key-create"),
    path("keys/<int:number>/revoke/", tenants.revoke_key, name="key-revoke"),
    path("budgets/", show("budgets"), name="budgets"),
    path("budgets/new/", show("budget-new"), name="budget-new"),
    path("budgets/create/", budgets.create, name="budget-create"),
    path("budgets/preview/", budgets.preview, name="budget-preview"),
    path("budgets/amount/", budgets.change_amount, name="budget-amount"),
    path("budgets/archive/", budgets.archive, name="budget-archive"),
    path("accuracy/", show("accuracy"), name="accuracy"),
    path("accuracy/leases/revoke/", leases.revoke, name="lease-revoke"),
    path("accuracy/leases/resolve/", leases.resolve, name="lease-resolve"),
    path("limits/", show("limits"), name="limits"),
    path("limits/edit/", show("policy-edit"), name="policy-edit"),
    path("limits/put/", limits.put, name="policy-put"),
    path("limits/delete/", limits.delete, name="policy-delete"),
    path("limits/restore/<int:number>/", limits.restore, name="policy-restore"),
    path("breakers/", show("breakers"), name="breakers"),
    path("breakers/hand/", breakers.take_in_hand, name="breaker-hand"),
    path("traces/", show("traces"), name="traces"),
    path("traces/<slug:trace_id>/", show("trace"), name="trace"),
    path("clients/", show("clients"), name="clients"),
    path("audit/", show("audit"), name="audit"),
    path("settings/", show("settings"), name="settings"),
    path("settings/operators/", settings.create_operator, name="operator-create"),
    path("settings/operators/<int:number>/deactivate/", settings.deactivate_operator, name="operator-deactivate"),
    path("settings/tokens/", settings.create_token, name="token-create"),
    path("settings/tokens/<int:number>/revoke/", settings.revoke_token, name="token-revoke"),
    path("settings/keys/", settings.create_installation_key, name="installation-key-create"),
    path("settings/demo/remove/", settings.remove_demo, name="demo-remove"),
    path("settings/prices/", settings.set_price, name="price-set"),
    path("settings/prices/delete/", settings.delete_price, name="price-delete"),
]

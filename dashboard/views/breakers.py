"""An operator's hand on the breakers of a route."""

from __future__ import annotations

from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from controlplane.policy.actions import breakers as actions
from controlplane.tenancy import queries as tenancy
from dashboard.forms import Form
from dashboard.views.acts import acting, say, submit
from dashboard.views.show import asker_behind

_SAID = {
    "forced_open": "Forced open",
    "forced_closed": "Forced closed",
    "auto": "Handed back to automatic",
    "reset": "Reset",
}


@acting
def take_in_hand(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)
    seen = {name: request.POST.get(name, "") for name in ("route", "model")}

    def do(form: Form) -> str:
        owner = form.text("tenant")
        tenant = tenancy.tenant_if_named(asker, owner)
        route, mode, reason = form.text("route"), form.text("do"), form.text("reason")
        if mode == "reset":
            actions.reset(by=asker, tenant=tenant, route=route, reason=reason)
        else:
            actions.set_mode(by=asker, tenant=tenant, route=route, mode=mode, reason=reason)
        say(request, f"{_SAID[mode]}: {owner or 'every tenant'} / {route}. Clients obey within a second.")
        return f"{reverse('breakers')}?{urlencode(seen)}" if seen["route"] != "*" else reverse("breakers")

    return submit(request, do, page="breakers", params=seen, form="hand_form")

"""Policy documents: put, deleted, restored."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from controlplane.policy import queries
from controlplane.policy.actions import policies as actions
from controlplane.policy.actions import revisions
from controlplane.problems import Invalid
from controlplane.tenancy import queries as tenancy
from dashboard.forms import Form
from dashboard.pages.limits import name_of, split
from dashboard.views.acts import acting, say, submit
from dashboard.views.show import asker_behind


def _address(name: str) -> str:
    return f"{reverse('limits')}?{urlencode({'policy': name})}"


def _document(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Invalid("The document is not JSON: nothing was changed.", errors={"document": str(error)}) from None


@acting
def put(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)
    name = name_of(request.POST.get("tenant"), request.POST.get("route", ""))

    def do(form: Form) -> str:
        owner, route = form.text("tenant"), form.text("route")
        tenant = tenancy.tenant_seen_by(asker, owner) if owner else None
        document = _document(form.text("document"))
        actions.put_policy(by=asker, tenant=tenant, route=route, document=document, reason=form.text("reason"))
        say(request, f"{name_of(owner, route)} is in force. Clients obey within a second.")
        return _address(name_of(owner, route))

    return submit(request, do, page="policy-edit", params={"policy": name})


@acting
def delete(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)
    name = request.POST.get("policy", "")

    def do(_form: Form) -> str:
        owner, route = split(name)
        tenant = tenancy.tenant_seen_by(asker, owner) if owner else None
        actions.delete_policy(by=asker, tenant=tenant, route=route)
        say(request, f"{name} is deleted: what it inherits is in force.")
        return _address(name)

    return submit(request, do, page="limits", params={"policy": name})


@acting
def restore(request: HttpRequest, number: int) -> HttpResponse:
    asker = asker_behind(request)
    revision = queries.revision_seen_by(asker, number)

    def do(_form: Form) -> str:
        revisions.restore(by=asker, revision=revision)
        say(request, f"Revision {number} is in force again.")
        return _address(revision.subject)

    return submit(request, do, page="limits", params={"policy": revision.subject})

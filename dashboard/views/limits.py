"""Policy documents: put, deleted, restored."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from controlplane.policy import queries
from controlplane.policy.actions import policies as actions
from controlplane.policy.actions import revisions
from controlplane.problems import Invalid
from controlplane.tenancy import queries as tenancy
from controlplane.tenancy.models import Role, Tenant
from controlplane.tenancy.queries import Asker
from dashboard.forms import Form
from dashboard.pages.limits import name_of, split
from dashboard.policy_form import by_fields, document_of
from dashboard.policy_words import parts_of
from dashboard.views.acts import acting, say, submit
from dashboard.views.show import asker_behind, signed_in
from tidegate.core.policy import PolicyError, parse_policy, route_fault


def _address(name: str) -> str:
    return f"{reverse('limits')}?{urlencode({'policy': name})}"


def _document(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Invalid("The document is not JSON: nothing was changed.", errors={"document": str(error)}) from None


def _put(form: Form, *, by: Asker, tenant: Tenant | None, route: str) -> None:
    """Put what the fields say, or the JSON; what is wrong is named by the fields."""
    if form.text("do") != "fields":
        document = _document(form.text("document"))
        actions.put_policy(by=by, tenant=tenant, route=route, document=document, reason=form.text("reason"))
        return
    try:
        actions.put_policy(by=by, tenant=tenant, route=route, document=document_of(form), reason=form.text("reason"))
    except Invalid as problem:
        raise Invalid(problem.detail, errors=by_fields(form, problem.errors)) from None


@require_GET
@signed_in
def preview(request: HttpRequest) -> HttpResponse:
    """Answer the fragment that says what would be in force if the fields were put."""
    asker = asker_behind(request)
    asker.must(Role.OPERATOR)
    form = Form.of(request.GET.dict())
    owner, route = form.text("tenant") or None, form.text("route")
    fault = route_fault(route, wildcard=True)
    try:
        document = document_of(form)
        parse_policy(document)
    except PolicyError as error:
        return render(request, "limits/preview.html", {"errors": by_fields(form, error.errors)})
    except Invalid as problem:
        return render(request, "limits/preview.html", {"errors": problem.errors})
    if fault:
        return render(request, "limits/preview.html", {"errors": {"route": fault}})
    would = queries.previewed_policy(asker, owner, route, document)
    now = queries.effective_policy(asker, owner, route)
    return render(
        request,
        "limits/preview.html",
        {"would": parts_of(would), "same": would == now, "shadow": would["enforcement"] == "shadow"},
    )


@acting
def put(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)
    name = name_of(request.POST.get("tenant"), request.POST.get("route", ""))

    def do(form: Form) -> str:
        owner, route = form.text("tenant"), form.text("route")
        tenant = tenancy.tenant_if_named(asker, owner)
        _put(form, by=asker, tenant=tenant, route=route)
        say(request, f"{name_of(owner, route)} is in force. Clients obey within a second.")
        return _address(name_of(owner, route))

    return submit(request, do, page="policy-edit", params={"policy": name})


@acting
def delete(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)
    name = request.POST.get("policy", "")

    def do(_form: Form) -> str:
        owner, route = split(name)
        tenant = tenancy.tenant_if_named(asker, owner)
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

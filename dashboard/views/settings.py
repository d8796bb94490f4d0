"""Operators, tokens and installation keys: made and taken back."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse

from controlplane.problems import Conflict, Invalid
from controlplane.tenancy import queries
from controlplane.tenancy.actions import demo, keys, operators, tokens
from controlplane.tenancy.models import Role, Tenant
from controlplane.tenancy.queries import Asker
from dashboard.forms import Form
from dashboard.page import Context, Params
from dashboard.pages.settings import PAGE
from dashboard.views.acts import acting, say, submit
from dashboard.views.show import asker_behind, page_response


def _scope(asker: Asker, form: Form) -> Tenant | None:
    slug = form.text("tenant")
    return queries.tenant_seen_by(asker, slug) if slug else None


def _page(request: HttpRequest, more: Context, status: int = 200) -> HttpResponse:
    return page_response(request, PAGE, Params(), more, status=status)


@acting
def create_operator(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)

    def do(form: Form) -> str:
        operator = operators.create_operator(
            by=asker,
            username=form.text("username"),
            password=request.POST.get("password", ""),
            role=form.text("role"),
            tenant=_scope(asker, form),
        )
        say(request, f"{operator.username} may sign in.")
        return reverse("settings")

    return submit(request, do, page="settings", form="operator_form")


@acting
def deactivate_operator(request: HttpRequest, number: int) -> HttpResponse:
    asker = asker_behind(request)
    asker.must(Role.ADMIN)
    operator = get_object_or_404(queries.operators_seen_by(asker), pk=number)

    def do(_form: Form) -> str:
        operators.deactivate_operator(by=asker, operator=operator)
        say(request, f"{operator.username} can’t sign in any more.")
        return reverse("settings")

    return submit(request, do, page="settings", form="operator_form")


@acting
def create_token(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)
    asker.must(Role.ADMIN)
    form = Form.of(request.POST.dict())
    try:
        token, text = tokens.create_token(
            by=asker, name=form.text("name"), role=form.text("role"), tenant=_scope(asker, form)
        )
    except (Invalid, Conflict) as problem:
        return _page(request, {"token_form": form.failed(problem)}, problem.status)
    return _page(request, {"secret": text, "secret_name": f"Token {token.name}"})


@acting
def revoke_token(request: HttpRequest, number: int) -> HttpResponse:
    asker = asker_behind(request)
    asker.must(Role.ADMIN)
    token = get_object_or_404(queries.tokens_seen_by(asker), pk=number)
    tokens.revoke_token(by=asker, token=token)
    say(request, f"Token {token.name} is revoked.")
    return HttpResponseRedirect(reverse("settings"))


@acting
def create_installation_key(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)
    asker.must(Role.ADMIN)
    form = Form.of(request.POST.dict())
    try:
        key, text = keys.create_key(by=asker, tenant=None, name=form.text("name"))
    except (Invalid, Conflict) as problem:
        return _page(request, {"key_form": form.failed(problem)}, problem.status)
    return _page(request, {"secret": text, "secret_name": f"Key {key.name}"})


@acting
def remove_demo(request: HttpRequest) -> HttpResponse:
    removed = demo.remove_demo(by=asker_behind(request))
    say(request, f"The demo world is gone: {removed} tenants archived, their keys revoked.")
    return HttpResponseRedirect(reverse("overview"))

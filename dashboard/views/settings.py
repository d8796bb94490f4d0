"""Operators, tokens and installation keys: made and taken back."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse

from controlplane.tenancy import queries
from controlplane.tenancy.actions import demo, keys, operators, tokens
from controlplane.tenancy.models import Role
from dashboard.figures import some
from dashboard.forms import Form
from dashboard.views.acts import Secret, acting, say, submit
from dashboard.views.show import asker_behind


@acting
def create_operator(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)

    def do(form: Form) -> str:
        operator = operators.create_operator(
            by=asker,
            username=form.text("username"),
            password=request.POST.get("password", ""),
            role=form.text("role"),
            tenant=queries.tenant_if_named(asker, form.text("tenant")),
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

    def do(form: Form) -> Secret:
        token, text = tokens.create_token(
            by=asker,
            name=form.text("name"),
            role=form.text("role"),
            tenant=queries.tenant_if_named(asker, form.text("tenant")),
        )
        return Secret(f"Token {token.name}", text)

    return submit(request, do, page="settings", form="token_form")


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

    def do(form: Form) -> Secret:
        key, text = keys.create_key(by=asker, tenant=None, name=form.text("name"))
        return Secret(f"Key {key.name}", text)

    return submit(request, do, page="settings", form="key_form")


@acting
def remove_demo(request: HttpRequest) -> HttpResponse:
    removed = demo.remove_demo(by=asker_behind(request))
    say(request, f"The demo world is gone: {some(removed, 'tenant')} archived, their keys revoked.")
    return HttpResponseRedirect(reverse("overview"))

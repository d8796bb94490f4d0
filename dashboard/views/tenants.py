"""Tenants and their keys: created, renamed, archived; made, shown once, revoked."""

from __future__ import annotations

from datetime import timedelta

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from controlplane.problems import Invalid
from controlplane.telemetry import queries as telemetry
from controlplane.tenancy import queries
from controlplane.tenancy.actions import keys as key_actions
from controlplane.tenancy.actions import tenants as actions
from controlplane.tenancy.models import Role, Tenant
from dashboard import charts
from dashboard.forms import Form
from dashboard.page import Params
from dashboard.pages.tenants import DAYS, dimension_of
from dashboard.views.acts import Secret, acting, say, submit
from dashboard.views.show import asker_behind, signed_in


def _address(tenant: Tenant) -> str:
    return reverse("tenant", kwargs={"slug": tenant.slug})


@require_GET
@signed_in
def cost_chart(request: HttpRequest, slug: str) -> HttpResponse:
    """Answer the chart of a tenant's cost per day."""
    asker = asker_behind(request)
    tenant = queries.tenant_seen_by(asker, slug)
    by = dimension_of(Params.taken({"by"}, request.GET.dict()))
    today = timezone.now().date()
    found = telemetry.daily_costs(asker, "category" if by == "user" else by, today, DAYS, tenant.slug)
    return JsonResponse(charts.daily_cost(found, today, DAYS))


@acting
def create(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)

    def do(form: Form) -> str:
        tenant = actions.create_tenant(
            by=asker,
            slug=form.text("slug"),
            name=form.text("name") or form.text("slug"),
            parent=queries.tenant_if_named(asker, form.text("parent")),
        )
        say(request, f"{tenant.name} is there. Make it a key, and its callers can connect.")
        return _address(tenant)

    return submit(request, do, page="tenant-new")


@acting
def rename(request: HttpRequest, slug: str) -> HttpResponse:
    asker = asker_behind(request)

    def do(form: Form) -> str:
        tenant = queries.tenant_seen_by(asker, slug)
        actions.rename_tenant(by=asker, tenant=tenant, name=form.text("name"))
        say(request, f"{slug} is called {tenant.name} now.")
        return _address(tenant)

    return submit(request, do, page="tenant", params={"slug": slug}, form="rename_form")


@acting
def archive(request: HttpRequest, slug: str) -> HttpResponse:
    asker = asker_behind(request)

    def do(_form: Form) -> str:
        actions.archive_tenant(by=asker, tenant=queries.tenant_seen_by(asker, slug))
        say(request, f"{slug} is archived and its keys are revoked. Its history stays.")
        return reverse("tenants")

    return submit(request, do, page="tenant", params={"slug": slug}, form="rename_form")


@acting
def create_key(request: HttpRequest, slug: str) -> HttpResponse:
    asker = asker_behind(request)
    asker.must(Role.ADMIN)
    tenant = queries.tenant_seen_by(asker, slug)

    def do(form: Form) -> Secret:
        days = form.whole("days")
        if days == 0:
            raise Invalid("A key is good for a day at least.", errors={"days": "must be 1 or more, or empty"})
        expires = timezone.now() + timedelta(days=min(days, 36500)) if days is not None else None
        key, text = key_actions.create_key(by=asker, tenant=tenant, name=form.text("name"), expires_at=expires)
        return Secret(key.name, text)

    return submit(request, do, page="tenant", params={"slug": slug}, form="key_form")


@acting
def revoke_key(request: HttpRequest, number: int) -> HttpResponse:
    asker = asker_behind(request)
    asker.must(Role.ADMIN)
    key = queries.key_seen_by(asker, number)
    key_actions.revoke_key(by=asker, key=key)
    say(request, f"Key {key.name} is revoked: every request with it is refused from now on.")
    address = _address(key.tenant) if key.tenant else reverse("settings")
    return HttpResponseRedirect(address)

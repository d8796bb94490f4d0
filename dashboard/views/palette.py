"""What the palette finds: pages, tenants, budgets and actions that the asker may take."""

from __future__ import annotations

from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse

from controlplane.budgets import queries as budgets
from controlplane.domain.rollout import OPEN
from controlplane.rollouts import queries as rollouts
from controlplane.tenancy import queries as tenancy
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import Asker
from dashboard.rail import ENTRIES
from dashboard.views.show import asker_behind, signed_in

MOST = 300
Entry = dict[str, str]


def _entry(kind: str, title: str, href: str, detail: str = "") -> Entry:
    return {"kind": kind, "title": title, "href": href, "detail": detail}


def _actions(asker: Asker) -> list[Entry]:
    found = []
    if asker.may(Role.OPERATOR):
        found += [
            _entry("Action", "New budget", reverse("budget-new")),
            _entry("Action", "New policy", reverse("policy-edit")),
            _entry("Action", "New rollout", reverse("rollout-new")),
            _entry("Action", "New deployment", reverse("deployment-new")),
            _entry("Action", "New alert rule", reverse("alert-rule-edit")),
            _entry("Action", "Channels of alerts", reverse("alert-channels")),
        ]
    if asker.may(Role.ADMIN):
        found += [
            _entry("Action", "New tenant", reverse("tenant-new")),
            _entry("Action", "Set a price", reverse("prices")),
            _entry("Action", "New operator", reverse("settings")),
            _entry("Action", "New operator token", reverse("settings")),
        ]
    return found


@signed_in
def entries(request: HttpRequest) -> HttpResponse:
    """Answer ``{"entries": [{"kind", "title", "href", "detail"}]}``, at most a few hundred."""
    asker = asker_behind(request)
    found = [_entry("Page", each.title, reverse(each.name)) for each in ENTRIES]
    found += _actions(asker)
    found += [
        _entry("Tenant", tenant.name, reverse("tenant", kwargs={"slug": tenant.slug}), tenant.slug)
        for tenant in tenancy.tenants_seen_by(asker)[:MOST]
    ]
    for budget in budgets.budgets_seen_by(asker)[:MOST]:
        owner = budget.tenant.slug if budget.tenant else ""
        link = f"{reverse('budgets')}?{urlencode({'budget': f'{owner}/{budget.slug}'})}"
        found.append(_entry("Budget", f"{owner or 'Installation'} · {budget.slug}", link))
    for rollout in rollouts.rollouts_seen_by(asker).filter(phase__in=OPEN)[:MOST]:
        title = f"{rollout.deployment.slug} {rollout.release.version}"
        link = f"{reverse('rollouts')}?{urlencode({'rollout': rollout.pk})}"
        found.append(_entry("Rollout", title, link, rollout.phase))
    return JsonResponse({"entries": found})

"""Budgets: created, adjusted after a look at the effect, archived."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from controlplane.budgets import queries
from controlplane.budgets.actions import budgets as actions
from controlplane.budgets.models import Budget, OnDisconnect
from controlplane.domain.carry import CarryRule
from controlplane.problems import Invalid
from controlplane.tenancy import queries as tenancy
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import Asker
from dashboard import figures
from dashboard.forms import Form
from dashboard.views.acts import acting, say, submit
from dashboard.views.show import asker_behind, signed_in


def _address(budget: Budget) -> str:
    return f"{reverse('budgets')}?{urlencode({'budget': budget.name})}"


def _named(asker: Asker, name: str) -> Budget:
    owner, _, slug = name.partition("/")
    return queries.budget_seen_by(asker, owner or None, slug)


@require_GET
@signed_in
def preview(request: HttpRequest) -> HttpResponse:
    """Answer the fragment that says what a new amount would do."""
    asker = asker_behind(request)
    asker.must(Role.OPERATOR)
    form = Form.of(request.GET.dict())
    budget = _named(asker, form.text("budget"))
    now = timezone.now()
    try:
        effect = queries.preview_amount(budget, form.nusd("amount_usd"), now)
    except Invalid as problem:
        return render(request, "budgets/effect.html", {"amount_form": form.failed(problem), "now": now})
    return render(request, "budgets/effect.html", {"effect": effect, "now": now, "budget": budget})


@acting
def change_amount(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)
    name = request.POST.get("budget", "")

    def do(form: Form) -> str:
        budget = _named(asker, name)
        amount = form.nusd("amount_usd")
        actions.change_amount(
            by=asker, budget=budget, amount_nusd=amount, reason=form.text("reason"), now=timezone.now()
        )
        say(request, f"{budget.name} is {figures.usd(amount)} now. Clients hear of it within a second.")
        return _address(budget)

    return submit(request, do, page="budgets", params={"budget": name}, form="amount_form")


@acting
def archive(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)
    name = request.POST.get("budget", "")

    def do(_form: Form) -> str:
        budget = actions.archive_budget(by=asker, budget=_named(asker, name), now=timezone.now())
        say(request, f"{budget.name} is archived: it governs no call any more, its history stays.")
        return reverse("budgets")

    return submit(request, do, page="budgets", params={"budget": name}, form="amount_form")


@acting
def create(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)

    def do(form: Form) -> str:
        owner = form.text("tenant")
        budget = actions.create_budget(
            by=asker,
            tenant=tenancy.tenant_seen_by(asker, owner) if owner else None,
            slug=form.text("slug"),
            amount_nusd=form.nusd("amount_usd"),
            period=_period(form),
            match={part: form.text(f"match.{part}") for part in actions.MATCHES if form.text(f"match.{part}")},
            on_exhausted=form.text("on_exhausted"),
            on_disconnect=form.text("on_disconnect") or OnDisconnect.STOP,
            carry=_carry(form),
            thresholds=_thresholds(form),
            now=timezone.now(),
        )
        say(request, f"{budget.name} is {figures.usd(budget.amount_nusd)}. It governs calls within a second.")
        return _address(budget)

    return submit(request, do, page="budget-new")


def _period(form: Form) -> dict[str, Any]:
    kind, _, unit = form.text("period").partition(":")
    if kind == "calendar":
        return {"kind": kind, "unit": unit, "timezone": form.text("period.timezone") or "UTC"}
    return {"kind": kind, "days": form.whole("period.days")} if kind == "rolling" else {"kind": kind}


def _carry(form: Form) -> CarryRule:
    field = "carry.unused_up_to_usd"
    return CarryRule(form.nusd(field) if form.text(field) else 0, form.text("carry.debt") == "yes")


def _thresholds(form: Form) -> list[int]:
    parts = form.text("thresholds").replace(",", " ").replace("%", " ").split()
    if not all(part.isdecimal() and len(part) < 6 for part in parts):
        raise Invalid(
            "A threshold is not readable.", errors={"thresholds": "must be whole percentages, like 50 80 100"}
        )
    return [int(part) for part in parts]

"""Budgets: created, adjusted after a look at the effect, archived; the leases of a client revoked."""

from __future__ import annotations

import csv
import io
from urllib.parse import urlencode
from uuid import UUID

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from controlplane.budgets import queries
from controlplane.budgets.actions import budgets as actions
from controlplane.budgets.actions import corrections
from controlplane.budgets.actions.lease_acts import revoke_leases_of
from controlplane.budgets.models import Budget, PeriodKind
from controlplane.domain.carry import CarryRule
from controlplane.problems import Conflict, Invalid, NotFound
from controlplane.tenancy import queries as tenancy
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import Asker
from dashboard import figures
from dashboard.budget_words import ROWS, carry_of_form, match_of_form, options_of_form, period_of_form, suffix_of
from dashboard.forms import Form
from dashboard.views.acts import acting, say, submit
from dashboard.views.show import asker_behind, signed_in
from tidegate.core.price import format_usd


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


HEAD = ("budget", "tenant", "period", "begins", "ends", "settled_usd", "leased_usd", "free_usd", "amount_usd", "denied_calls",
        "burn_usd_per_h", "runs_out")  # fmt: skip


@require_GET
@signed_in
def export(request: HttpRequest) -> HttpResponse:
    """Answer where the budgets stand as CSV, of one tenant or of all that the asker may see; money is exact."""
    now = timezone.now()
    wanted = request.GET.get("tenant", "")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEAD)
    for each in queries.standings(asker_behind(request), now):
        owner = each.budget.tenant.slug if each.budget.tenant else ""
        if not wanted or owner == wanted:
            money = (each.spent_nusd, each.leased_nusd, each.free_nusd, each.amount_nusd)
            times = (each.period.starts_at, each.period.ends_at)
            writer.writerow(
                [
                    each.budget.name,
                    owner,
                    each.budget.period_kind,
                    *(moment.isoformat() if moment else "" for moment in times),
                    *map(format_usd, money),
                    each.denied_calls,
                    format_usd(round(each.burn_nusd_per_h)),
                    each.exhausted_at.isoformat() if each.exhausted_at else "",
                ]
            )
    response = HttpResponse(out.getvalue(), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="budgets-{now:%Y%m%dT%H%M}.csv"'
    return response


@acting
def change_amount(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)
    name = request.POST.get("budget", "")

    def do(form: Form) -> str:
        budget = _named(asker, name)
        amount = form.nusd("amount_usd")
        actions.change_amount(
            by=asker,
            budget=budget,
            amount_nusd=amount,
            reason=form.text("reason"),
            now=timezone.now(),
            seen_nusd=form.nusd("seen_usd") if form.text("seen_usd") else None,
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
def change_options(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)
    name = request.POST.get("budget", "")

    def do(form: Form) -> str:
        budget = _named(asker, name)
        carry = carry_of_form(form) if budget.period_kind == PeriodKind.CALENDAR else CarryRule()
        actions.change_options(
            by=asker,
            budget=budget,
            carry=carry,
            reason=form.text("reason"),
            now=timezone.now(),
            **options_of_form(form),
        )
        say(request, f"The rules of {budget.name} are as you said. Clients hear of it within a second.")
        return _address(budget)

    return submit(request, do, page="budgets", params={"budget": name}, form="options_form")


@acting
def take_back(request: HttpRequest) -> HttpResponse:
    """Take back what was charged by mistake."""
    asker = asker_behind(request)
    name = request.POST.get("budget", "")

    def do(form: Form) -> str:
        budget, amount = _named(asker, name), form.nusd("amount_usd")
        corrections.take_back(
            by=asker, budget=budget, amount_nusd=amount, reason=form.text("reason"), now=timezone.now()
        )
        say(
            request,
            f"{figures.usd(amount)} that was charged to {budget.name} is taken back, from all budgets that it was charged to.",
        )
        return _address(budget)

    return submit(request, do, page="budgets", params={"budget": name}, form="back_form")


@acting
def revoke(request: HttpRequest) -> HttpResponse:
    """Revoke all leases of one client."""
    asker = asker_behind(request)
    name, client = request.POST.get("budget", ""), request.POST.get("client", "")

    def do(form: Form) -> str:
        budget = _named(asker, name)
        try:
            incarnation = UUID(client)
        except ValueError:
            raise NotFound("There is no such client.") from None
        count = revoke_leases_of(by=asker, incarnation=incarnation, reason=form.text("reason"), now=timezone.now())
        say(
            request,
            f"{count} lease{'s are' if count != 1 else ' is'} revoked. The client gives back what is left with its next sync.",
        )
        return _address(budget)

    return submit(request, do, page="budgets", params={"budget": name, "client": client}, form="revoke_form")


@acting
def create(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)

    def do(form: Form) -> str:
        with transaction.atomic():
            made = [_create(asker, form, row) for row in ROWS if not row or form.text(f"amount_usd{row}")]
        names = " and ".join(f"{budget.name} is {figures.usd(budget.amount_nusd)}" for budget in made)
        say(request, f"{names}. {'They govern' if len(made) > 1 else 'It governs'} calls within a second.")
        return _address(made[0])

    return submit(request, do, page="budget-new", params={"tenant": request.POST.get("tenant", "")})


def _create(asker: Asker, form: Form, row: str) -> Budget:
    """Create the budget of one row of the form; what is wrong is named by the fields of the row."""
    period = period_of_form(form, row)
    carries = not row or period["kind"] == "calendar"
    try:
        return actions.create_budget(
            by=asker,
            tenant=tenancy.tenant_if_named(asker, form.text("tenant")),
            slug=f"{form.text('slug')}-{suffix_of(period)}" if row else form.text("slug"),
            amount_nusd=form.nusd(f"amount_usd{row}"),
            period=period,
            match=match_of_form(form),
            carry=carry_of_form(form) if carries else CarryRule(),
            now=timezone.now(),
            **options_of_form(form),
        )
    except (Invalid, Conflict) as problem:
        errors = {_field_of(name, row): text for name, text in problem.errors.items()}
        raise type(problem)(problem.detail, errors=errors) from None


def _field_of(name: str, row: str) -> str:
    """Return the field of the form that a rule means."""
    if name in ("period.kind", "period.unit"):
        return f"period{row}"
    if name == "carry":
        return "carry.unused_up_to_usd"
    return f"{name}{row}" if name in ("amount_usd", "period.days") else name

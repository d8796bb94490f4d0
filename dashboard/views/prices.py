"""Prices of one's own and the rule for models without one: set after a look at what they would have come to."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from controlplane.budgets import pricing
from controlplane.budgets.actions import prices as actions
from controlplane.budgets.actions.unknown_models import set_unknown_models
from controlplane.budgets.models import UnknownModels
from controlplane.problems import Conflict, Invalid
from dashboard.forms import Form
from dashboard.page import Params
from dashboard.pages.prices import PAGE, POLICIES
from dashboard.views.acts import acting, say, submit
from dashboard.views.show import asker_behind, page_response, signed_in
from tidegate.core.usage import CLASSES

FREE = "is a price of nothing: calls of this model would be seen by no budget. Tick “it costs nothing” if that is what you mean"


def _rates(form: Form) -> dict[str, str]:
    found = {name: form.text(f"rates.{name}").removeprefix("$") for name in CLASSES}
    return {name: usd for name, usd in found.items() if usd}


def _checked(form: Form) -> tuple[str, dict[str, str]]:
    """Return the model and the rates that were typed; ``Invalid`` names what is wrong."""
    model, rates = form.text("model").lower(), _rates(form)
    errors = actions.faults_of_model(model) | actions.faults_of_rates(rates)
    if not errors and actions.costs_nothing(rates) and form.text("free") != "yes":
        errors = {f"rates.{next(iter(rates))}": FREE}
    if errors:
        raise Invalid("The price can't be set like this: nothing was changed.", errors=errors)
    return model, rates


def _address(model: str) -> str:
    return f"{reverse('prices')}?{urlencode({'model': model})}"


@require_GET
@signed_in
def preview(request: HttpRequest) -> HttpResponse:
    """Answer the fragment that says what a price would have made of the last days' calls."""
    asker = asker_behind(request)
    actions.may_price(asker)
    form = Form.of(request.GET.dict())
    try:
        model, rates = _checked(form)
    except Invalid as problem:
        return render(request, "prices/effect.html", {"problem": problem})
    made = pricing.changes(asker, {**pricing.own_prices(), model: rates}, timezone.now().date())
    was = pricing.look_up(model, pricing.book_named().etag)
    return render(
        request,
        "prices/effect.html",
        {"change": made[0] if made else None, "was": was, "days": pricing.LOOKED_BACK_DAYS, "same": not made},
    )


@acting
def set_price(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)

    def do(form: Form) -> str:
        actions.may_price(asker)
        model, rates = _checked(form)
        override = actions.set_override(by=asker, model=model, rates=rates)
        say(request, f"{override.model} costs what you said, for calls from now on.")
        return _address(override.model)

    return submit(request, do, page="prices", params={"model": request.POST.get("model", "")}, form="price_form")


@acting
def delete_price(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)

    def do(form: Form) -> str:
        actions.delete_override(by=asker, model=form.text("model"))
        say(request, f"Your price of {form.text('model')} is gone, for calls from now on.")
        return _address(form.text("model"))

    return submit(request, do, page="prices", form="list_form")


def _estimate(form: Form) -> dict[str, str]:
    """Return the rates of an estimate: what was typed, beside the classes that the form does not show."""
    rule = UnknownModels.objects.first() or UnknownModels()
    typed = {name: form.text(f"estimate.{name}").removeprefix("$") for name in ("input", "output")}
    return {name: usd for name, usd in {**rule.rates, **typed}.items() if usd}


@acting
def set_rule(request: HttpRequest) -> HttpResponse:
    """Set what is done with models without a price."""
    asker = asker_behind(request)

    def do(form: Form) -> str:
        families = _json(form.text("families") or "[]", "families")
        if not isinstance(families, list) or not all(isinstance(each, dict) for each in families):
            fault = 'must be a list like [{"pattern": {"contains": "embed"}, "rates": {"input": "0.2"}}]'
            raise Invalid("The rule can't be set like this.", errors={"families": fault})
        try:
            set_unknown_models(by=asker, policy=form.text("policy"), rates=_estimate(form), families=families)
        except Invalid as problem:
            errors = {field.replace("rates.", "estimate."): text for field, text in problem.errors.items()}
            raise Invalid(problem.detail, errors=errors) from None
        say(request, f"Calls of models without a price: {dict(POLICIES)[form.text('policy')]}, from now on.")
        return reverse("prices")

    return submit(request, do, page="prices", form="rule_form")


@acting
def replace(request: HttpRequest) -> HttpResponse:
    """Show what a whole list of own prices would change, or make it so."""
    asker = asker_behind(request)
    actions.may_price(asker)
    typed = Form.of(request.POST.dict())
    now = timezone.now()
    try:
        wanted = actions.checked_prices(_list(typed, request))
        if typed.text("do") == "replace":
            return _replaced(request, wanted)
        made = pricing.changes(asker, wanted, now.date())
    except (Invalid, Conflict) as problem:
        more = {"list_form": typed.failed(problem), "list_open": True}
        return page_response(request, PAGE, Params(), more, status=problem.status)
    shown = {"list_form": Form({"prices": json.dumps(wanted, indent=1)}), "list_changes": made, "list_open": True}
    shown |= {
        "list_difference": sum(each.difference_nusd for each in made),
        "list_vanishing": [each for each in made if each.vanishes and each.calls],
    }
    return page_response(request, PAGE, Params(), shown)


def _replaced(request: HttpRequest, wanted: pricing.Own) -> HttpResponse:
    def do(_form: Form) -> str:
        count = len(actions.replace_overrides(by=asker_behind(request), prices=wanted, now=timezone.now()))
        say(request, f"{count} model{'s cost' if count != 1 else ' costs'} something else, for calls from now on.")
        return reverse("prices")

    return submit(request, do, page="prices", form="list_form", more={"list_open": True})


def _list(form: Form, request: HttpRequest) -> dict[str, dict[str, str]]:
    """Read own prices out of a file that was sent along, or out of what was typed."""
    sent = request.FILES.get("file")
    text = form.text("prices")
    if sent is not None:
        if sent.size is None or sent.size > 1_000_000:
            raise Invalid("The file is too large.", errors={"file": "must have at most 1 MB"})
        text = sent.read().decode("utf-8", errors="replace").replace("\0", "")
    document = _json(text, "prices")
    if not isinstance(document, dict) or not all(isinstance(rates, dict) for rates in document.values()):
        fault = 'must be an object like {"my-model": {"input": "0.15", "output": "0.60"}}'
        raise Invalid("The prices can't be set like this: nothing was changed.", errors={"prices": fault})
    return {str(name): {str(kind): _usd(value) for kind, value in rates.items()} for name, rates in document.items()}


def _usd(value: Any) -> str:
    """Return a price as text, exactly as it was written; what is no number is left for the rules to refuse."""
    return value if isinstance(value, str) else json.dumps(value)


def _json(text: str, field: str) -> Any:
    def no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice!r} is there twice.")
        return dict(pairs)

    def constant(name: str) -> Any:
        raise ValueError(f"{name} is not a number.")

    try:
        return json.loads(text, parse_float=str, parse_int=str, parse_constant=constant, object_pairs_hook=no_twice)
    except (ValueError, RecursionError) as error:
        raise Invalid("This is not JSON: nothing was changed.", errors={field: str(error)}) from None

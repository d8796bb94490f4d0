"""Prices: the operators' overrides, and the compiled book that SDKs are served."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from django.db import transaction
from django.utils import timezone

from controlplane import intent
from controlplane.budgets import price_list
from controlplane.budgets.models import PriceBook, PriceOverride, UnknownModels
from controlplane.budgets.pricing import LOOKED_BACK_DAYS, Change, Own, changes, entry_of, own_prices, unit_of
from controlplane.problems import Conflict, Forbidden, Invalid, NotFound
from controlplane.tenancy.actions.audit import record
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import SYSTEM, Asker
from tidegate.core.price import FORMAT, NUSD_PER_USD, compile_price_book, parse_usd
from tidegate.core.rates import read_rates
from tidegate.core.usage import CLASSES, INPUT_CLASSES, OUTPUT_CLASSES

MAX_OWN = 1_000
# Dearer than anything by far: whoever types more means another unit.
MAX_RATE_USD = 100_000
# Classes by which a model may be priced that takes no tokens.
WITHOUT_INPUT = tuple(name for name in CLASSES if name not in INPUT_CLASSES and name not in OUTPUT_CLASSES)


@transaction.atomic
def refresh_price_book(*, by: Asker = SYSTEM) -> str:
    """Compile the price list and the overrides; store and publish the book when it is a new one; return its etag."""
    document = _document()
    body = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    etag = hashlib.sha256(body).hexdigest()
    newest = PriceBook.objects.order_by("-id").first()
    if newest is None or newest.etag != etag:
        compile_price_book(orjson.loads(body))  # what no SDK could read must not be served
        PriceBook.objects.filter(etag=etag).delete()  # an old book comes back: it is the newest again
        PriceBook.objects.create(etag=etag, body=body, source=price_list.source())
        summary = f"Compiled a price book of {len(document['models'])} models from {price_list.source()}"
        intent.publish(
            intent.Change(actor=by.name, kind="price", subject="prices", summary=summary, after={"etag": etag})
        )
    return etag


def _document() -> dict[str, Any]:
    catalog = price_list.compiled(timezone.now())
    models = price_list.listed(catalog)
    own = {override.model.lower(): entry_of(override.rates) for override in PriceOverride.objects.all()}
    for model, entry in own.items():
        models.pop(model, None)
        if "input" in entry:
            models[model] = price_list.plain(read_rates(entry, model))
    return {"format": FORMAT, "models": models, "own": own, "catalog": catalog, "unknown": _unknown(catalog)}


def _unknown(catalog: dict[str, Any]) -> dict[str, Any]:
    """Return what the book says of models without a price: the installation's rule, filled up from the list."""
    rule = UnknownModels.objects.first() or UnknownModels()
    listed = price_list.conservative(catalog)
    own = [[family["pattern"], entry_of(family["rates"])] for family in rule.families]
    rates = {**listed["rates"], **entry_of(rule.rates)}
    return {"policy": str(rule.policy), "rates": rates, "families": [*own, *listed["families"]]}


@transaction.atomic
def set_override(*, by: Asker, model: str, rates: dict[str, str]) -> PriceOverride:
    """Set an operator's price for a model: decimal USD by class, per unit of the class (``tidegate.core.usage``)."""
    may_price(by)
    model = model.strip().lower()
    errors = faults_of_model(model) | faults_of_rates(rates)
    if errors:
        raise Invalid("The price can't be set like this.", errors=errors)
    before = PriceOverride.objects.filter(model=model).first()
    override, _ = PriceOverride.objects.update_or_create(
        model=model, defaults={"rates": rates, "created_by": by.name, "created_at": timezone.now()}
    )
    refresh_price_book(by=by)
    record(
        by=by,
        action="price.set",
        target_kind="price",
        target=model,
        summary=f"Set the price of {model}",
        before=before.rates if before else None,
        after=rates,
    )
    return override


@transaction.atomic
def replace_overrides(*, by: Asker, prices: Own, now: datetime) -> list[Change]:
    """Make ``prices`` the operators' only own prices, in one book; return what changed.

    ``Invalid`` names every fault by ``model.class``; ``Conflict`` when a model that is called would be left without a price.
    """
    may_price(by)
    wanted = checked_prices(prices)
    before = own_prices()
    made = _changes(by, wanted, now)
    if not made:
        return []
    _refuse_vanishing([each.model for each in made if each.vanishes and each.calls])
    PriceOverride.objects.exclude(model__in=wanted).delete()
    for each in made:
        if each.after is not None:
            said = {"rates": each.after, "created_by": by.name, "created_at": now}
            PriceOverride.objects.update_or_create(model=each.model, defaults=said)
    refresh_price_book(by=by)
    summary = f"Replaced the own prices: {len(made)} models changed, {len(wanted)} have one"
    record(
        by=by,
        action="price.replaced",
        target_kind="price",
        target="prices",
        summary=summary,
        before=before,
        after=wanted,
    )
    return made


@transaction.atomic
def merge_overrides(*, by: Asker, prices: Own, now: datetime) -> list[Change]:
    """Set the own prices of many models in one book, and leave the others'; return what changed.

    ``Invalid`` names every fault by ``model.class``. Setting the same again changes nothing.
    """
    may_price(by)
    wanted, before = checked_prices(prices), own_prices()
    if len({**before, **wanted}) > MAX_OWN:
        raise Invalid("Too many prices.", errors={"prices": f"would come to over {MAX_OWN} models"})
    made = _changes(by, {**before, **wanted}, now)
    if made:
        for each in made:
            said = {"rates": each.after, "created_by": by.name, "created_at": now}
            PriceOverride.objects.update_or_create(model=each.model, defaults=said)
        refresh_price_book(by=by)
        record(
            by=by,
            action="price.merged",
            target_kind="price",
            target="prices",
            summary=f"Set the prices of {len(made)} models",
            before={each.model: each.before for each in made},
            after={each.model: each.after for each in made},
        )
    return made


def preview_prices(*, by: Asker, prices: Own, replace: bool, now: datetime) -> list[Change]:
    """Return what ``merge_overrides``, or with ``replace`` what ``replace_overrides``, would change. Changes no price."""
    may_price(by)
    wanted = checked_prices(prices)
    return _changes(by, wanted if replace else {**own_prices(), **wanted}, now)


def checked_prices(prices: Own) -> dict[str, dict[str, str]]:
    """Return own prices with their names in lower case; ``Invalid`` names every fault by ``model.class``."""
    if len(prices) > MAX_OWN:
        raise Invalid("Too many prices.", errors={"prices": f"has {len(prices)} models, at most {MAX_OWN} are allowed"})
    wanted: dict[str, dict[str, str]] = {}
    errors: dict[str, str] = {}
    for name, rates in prices.items():
        model = name.strip().lower()
        faults = faults_of_model(model) | faults_of_rates(dict(rates))
        if model in wanted:
            faults["model"] = "is there twice: names are compared without regard to case"
        errors |= {f"{name[:120]}.{field.removeprefix('rates.')}": text for field, text in faults.items()}
        wanted[model] = dict(rates)
    if errors:
        raise Invalid("The prices can't be set like this: nothing was changed.", errors=errors)
    return wanted


def faults_of_model(model: str) -> dict[str, str]:
    """Return what is wrong with a model's name."""
    return {} if 1 <= len(model) <= 120 else {"model": "must have 1 to 120 characters"}


def faults_of_rates(rates: dict[str, str]) -> dict[str, str]:
    """Return what is wrong with rates in decimal USD, by field."""
    faults = {} if "input" in rates or set(rates) & set(WITHOUT_INPUT) else {"rates.input": "is missing"}
    for name, usd in rates.items():
        if name not in CLASSES:
            faults[f"rates.{name}"] = f"is not known; known are {', '.join(CLASSES)}"
            continue
        try:
            if parse_usd(str(usd)) > MAX_RATE_USD * NUSD_PER_USD:
                faults[f"rates.{name}"] = f"is over {MAX_RATE_USD:,}: prices are dollars per {unit_of(name)}"
        except ValueError as error:
            faults[f"rates.{name}"] = str(error)
    return faults


def costs_nothing(rates: Mapping[str, str]) -> bool:
    """Return whether a price without faults is no price at all: whatever calls use, they cost nothing."""
    return all(parse_usd(str(usd)) == 0 for usd in rates.values())


@transaction.atomic
def delete_override(*, by: Asker, model: str) -> None:
    """Let the list price count again; ``Conflict`` when nothing else has a price for a model that is called."""
    may_price(by)
    override = PriceOverride.objects.filter(model=model.strip().lower()).first()
    if override is None:
        raise NotFound(f"There is no price override for {model!r}.")
    rest = {name: rates for name, rates in own_prices().items() if name != override.model}
    made = _changes(by, rest, timezone.now())
    _refuse_vanishing([each.model for each in made if each.vanishes and each.calls])
    override.delete()
    refresh_price_book(by=by)
    record(
        by=by,
        action="price.deleted",
        target_kind="price",
        target=override.model,
        summary=f"The list price of {override.model} counts again",
        before=override.rates,
    )


def _changes(by: Asker, wanted: Own, now: datetime) -> list[Change]:
    if not PriceBook.objects.exists():
        refresh_price_book()
    return changes(by, wanted, now.date())


def _refuse_vanishing(models: list[str]) -> None:
    if models:
        named = ", ".join(sorted(models)[:5])
        raise Conflict(
            f"{named}: called in the last {LOOKED_BACK_DAYS} days, and nothing else has a price for it. Set another price instead."
        )


def may_price(by: Asker) -> None:
    """Raise ``Forbidden`` for those who may not set prices."""
    by.must(Role.ADMIN)
    if by.tenant is not None:
        raise Forbidden("Prices belong to the whole installation.")

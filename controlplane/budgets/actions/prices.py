"""Prices: the operators' overrides, and the compiled book that SDKs are served."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson
from django.db import transaction
from django.utils import timezone

from controlplane import intent
from controlplane.budgets import price_list
from controlplane.budgets.models import PriceBook, PriceOverride, UnknownModels
from controlplane.problems import Forbidden, Invalid, NotFound
from controlplane.tenancy.actions.audit import record
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import SYSTEM, Asker
from tidegate.core.price import FORMAT, compile_price_book, parse_usd
from tidegate.core.rates import read_rates
from tidegate.core.usage import CLASSES, INPUT_CLASSES, OUTPUT_CLASSES

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
    own = {override.model.lower(): _entry(override.rates) for override in PriceOverride.objects.all()}
    for model, entry in own.items():
        models.pop(model, None)
        if "input" in entry:
            models[model] = price_list.plain(read_rates(entry, model))
    return {"format": FORMAT, "models": models, "own": own, "catalog": catalog, "unknown": _unknown(catalog)}


def _unknown(catalog: dict[str, Any]) -> dict[str, Any]:
    """Return what the book says of models without a price: the installation's rule, filled up from the list."""
    rule = UnknownModels.objects.first() or UnknownModels()
    listed = price_list.conservative(catalog)
    own = [[family["pattern"], _entry(family["rates"])] for family in rule.families]
    rates = {**listed["rates"], **_entry(rule.rates)}
    return {"policy": str(rule.policy), "rates": rates, "families": [*own, *listed["families"]]}


def _entry(rates: dict[str, str]) -> dict[str, str]:
    """Return an override's rates as an entry of the book: output without a price of its own costs what input does."""
    plain = {name: str(usd) for name, usd in rates.items()}
    return {**({"output": plain["input"]} if "input" in plain else {}), **plain}


@transaction.atomic
def set_override(*, by: Asker, model: str, rates: dict[str, str]) -> PriceOverride:
    """Set an operator's price for a model: decimal USD by class, per unit of the class (``tidegate.core.usage``)."""
    may_price(by)
    model = model.strip().lower()
    errors = {} if 1 <= len(model) <= 120 else {"model": "must have 1 to 120 characters"}
    errors |= faults_of_rates(rates)
    if errors:
        raise Invalid("The price can't be set like this.", errors=errors)
    before = PriceOverride.objects.filter(model=model).first()
    override, _ = PriceOverride.objects.update_or_create(model=model, defaults={"rates": rates, "created_by": by.name})
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


def faults_of_rates(rates: dict[str, str]) -> dict[str, str]:
    """Return what is wrong with rates in decimal USD, by field."""
    faults = {} if "input" in rates or set(rates) & set(WITHOUT_INPUT) else {"rates.input": "is missing"}
    for name, usd in rates.items():
        if name not in CLASSES:
            faults[f"rates.{name}"] = f"is not known; known are {', '.join(CLASSES)}"
            continue
        try:
            parse_usd(str(usd))
        except ValueError as error:
            faults[f"rates.{name}"] = str(error)
    return faults


@transaction.atomic
def delete_override(*, by: Asker, model: str) -> None:
    """Let the list price count again."""
    may_price(by)
    override = PriceOverride.objects.filter(model=model.strip().lower()).first()
    if override is None:
        raise NotFound(f"There is no price override for {model!r}.")
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


def may_price(by: Asker) -> None:
    """Raise ``Forbidden`` for those who may not set prices."""
    by.must(Role.ADMIN)
    if by.tenant is not None:
        raise Forbidden("Prices belong to the whole installation.")

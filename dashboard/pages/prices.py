"""Prices: what a model costs and why, prices of one's own, models without a price, and what another book would charge."""

from __future__ import annotations

import json
from typing import Any

from controlplane.budgets import pricing
from controlplane.budgets.models import PriceBook, PriceOverride, UnknownModels
from controlplane.budgets.repricing import Repricing, reprice
from controlplane.problems import NotFound
from controlplane.tenancy import queries as tenancy
from dashboard.asking import Asking
from dashboard.page import Context, Page, Params
from tidegate.core.rates import read_rates
from tidegate.core.usage import CLASSES

MOST = 200
MOST_REPRICED = 50
SPANS = (("1", "today"), ("7", "7 days"), ("30", "30 days"), ("90", "90 days"), ("365", "a year"))
POLICIES = (
    ("estimate", "charge an estimate"),
    ("refuse", "refuse the call"),
    ("allow", "let it cost nothing"),
)
PLAIN = ("input", "output", "cached_input", "cache_write", "reasoning")
# By name, what a price of the class is per.
UNITS = {name: pricing.unit_of(name) for name in CLASSES}


def build(asking: Asking, params: Params) -> Context:
    made = pricing.books()
    newest = made[0] if made else None
    book = next((each for each in made if params.value("book") and each.etag.startswith(params.value("book"))), newest)
    rule = UnknownModels.objects.first() or UnknownModels()
    overrides = list(PriceOverride.objects.order_by("model")[:MOST])
    today, typed = asking.now.date(), _own(overrides, params.value("model"))
    return {
        "title": "Prices",
        "books": made,
        "newest": newest,
        "book": book,
        "overrides": [(each, pricing.lines_of(read_rates(each.rates, ""), falling=False)) for each in overrides],
        "rule": rule,
        "rule_words": dict(POLICIES)[rule.policy],
        "looked": pricing.look_up(params.value("model"), book.etag) if book and params.value("model") else None,
        "unpriced": pricing.unpriced(asking.asker, today),
        "looked_back_days": pricing.LOOKED_BACK_DAYS,
        "may_price": asking.asker.tenant is None,
        "spans": SPANS,
        "days": _days(params),
        "policies": POLICIES,
        "plain": PLAIN,
        "other_classes": [(name, UNITS[name]) for name in CLASSES if name not in PLAIN],
        "typed_own": typed,
        "own_beyond": bool(typed.keys() - set(PLAIN)),
        "own_document": json.dumps(_all_own(made, overrides, params.value("own")), indent=1),
        **_repriced(asking, params, book),
    }


def _days(params: Params) -> str:
    days = params.value("days")
    return days if days in dict(SPANS) else "30"


def _own(overrides: list[PriceOverride], model: str) -> dict[str, str]:
    return next((dict(each.rates) for each in overrides if each.model == model.strip().lower()), {})


def _all_own(books: list[PriceBook], overrides: list[PriceOverride], etag: str) -> dict[str, dict[str, str]]:
    """Return the own prices in force, or those of an earlier book, to be edited."""
    book = next((each for each in books if etag and each.etag.startswith(etag)), None)
    return pricing.own_of(book.etag) if book else {each.model: dict(each.rates) for each in overrides}


def _repriced(asking: Asking, params: Params, book: PriceBook | None) -> dict[str, Any]:
    """Return what the chosen book makes of the last days; nothing for a tenant that there is not."""
    tenant = params.value("tenant")
    if book is None:
        return {"repriced": None, "repriced_rows": []}
    try:
        owner = tenancy.tenant_seen_by(asking.asker, tenant).slug if tenant else None
    except NotFound:
        return {"repriced": None, "repriced_rows": []}
    days = int(_days(params))
    made: Repricing = reprice(asking.asker, book=book.etag, today=asking.now.date(), days=days, tenant=owner)
    charged = sum(each.charged_nusd for each in made.models)
    repriced = sum(each.repriced_nusd for each in made.models)
    return {
        "repriced": made,
        "repriced_rows": made.models[:MOST_REPRICED],
        "repriced_more": max(0, len(made.models) - MOST_REPRICED),
        "charged_nusd": charged,
        "repriced_nusd": repriced,
        "difference_nusd": repriced - charged,
        "calls": sum(each.calls for each in made.models),
    }


PAGE = Page(
    name="prices",
    section="prices",
    template="pages/prices.html",
    parts={
        "price_summary": "prices/summary.html",
        "price_lookup": "prices/lookup.html",
        "price_own": "prices/own.html",
        "price_unknown": "prices/unknown.html",
        "price_repriced": "prices/repriced.html",
    },
    build=build,
    params=frozenset({"model", "book", "days", "tenant", "own"}),
)

"""What models cost, told: by which book, from where, class by class; and what other prices of one's own would come to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

import orjson

from controlplane.budgets.models import PriceBook, PriceOverride
from controlplane.problems import NotFound
from controlplane.telemetry.queries.priced import Charged, charged
from controlplane.tenancy.queries import Asker
from tidegate.core.catalog import Entry, read_entry
from tidegate.core.matching import compile_clause
from tidegate.core.price import PriceBook as Prices
from tidegate.core.price import compile_price_book
from tidegate.core.rates import Rate, Rates, read_rates
from tidegate.core.usage import CLASSES, INPUT_CLASSES, OUTPUT_CLASSES

MOST_BOOKS = 50
LOOKED_BACK_DAYS = 30
_COUNTED = {"input_characters": "1M characters", "input_pixels": "10⁹ pixels"}
# The classes that are told of even where they cost what another does.
_TOLD = ("input", "cached_input", "cache_write", "output", "reasoning")

Own = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class PriceLine:
    """One class of usage: dollars per ``unit`` as text, ``tiers`` by the input tokens that a call must exceed.

    ``follows`` is the class whose price it has, empty for a price of its own.
    """

    name: str
    unit: str
    usd: str
    tiers: tuple[tuple[int, str], ...] = ()
    follows: str = ""


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What calls of ``model`` cost. ``origin``: ``own``, ``list`` (of ``provider``, where one has it) or ``unknown``.

    Of ``variants`` (when, lines) and ``hours`` (from, to, lines; seconds of the UTC day) those that apply go before ``lines``. For an
    unknown model ``policy`` says what is done, and ``lines`` are what an estimate charges.
    """

    model: str
    origin: str
    provider: str
    lines: list[PriceLine]
    variants: list[tuple[str, list[PriceLine]]]
    hours: list[tuple[int, int, list[PriceLine]]]
    policy: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """One model whose price of one's own would change: ``added``, ``changed`` or ``removed``.

    ``vanishes``: nothing else has a price for it. The money is of its calls in the last days.
    """

    model: str
    kind: str
    before: Mapping[str, str] | None
    after: Mapping[str, str] | None
    calls: int
    charged_nusd: int
    repriced_nusd: int
    vanishes: bool

    @property
    def difference_nusd(self) -> int:
        return self.repriced_nusd - self.charged_nusd


def books() -> list[PriceBook]:
    """Return the last price books without their bodies, the newest first."""
    return list(PriceBook.objects.order_by("-id").defer("body")[:MOST_BOOKS])


def book_named(etag: str = "") -> PriceBook:
    """Return the book whose etag starts like that, the newest without; ``NotFound`` when there is none."""
    found = PriceBook.objects.order_by("-id").defer("body").filter(etag__startswith=etag).first()
    if found is None:
        raise NotFound(f"There is no price book {etag!r}.")
    return found


@lru_cache(maxsize=4)
def compiled(etag: str) -> tuple[dict[str, Any], Prices]:
    """Return a book's document and what it compiles to. Books are named by their content, so this never grows old."""
    document = orjson.loads(bytes(PriceBook.objects.get(etag=etag).body))
    return document, compile_price_book(document, etag=etag)


def own_of(etag: str) -> dict[str, dict[str, str]]:
    """Return the operators' own prices as a book had them."""
    return {model: dict(rates) for model, rates in compiled(etag)[0].get("own", {}).items()}


def own_prices() -> dict[str, dict[str, str]]:
    """Return the operators' own prices in force."""
    return {each.model: dict(each.rates) for each in PriceOverride.objects.order_by("model")}


def look_up(model: str, etag: str) -> Looked:
    """Return what calls of ``model`` cost by the book of that etag."""
    document, prices = compiled(etag)
    name = model.strip().lower()
    found = prices.look_up(name)
    if found is None or found.entry is None:
        lines = [] if prices.unknown.policy == "allow" else lines_of(_estimated(document, name))
        return Looked(
            model=name, origin="unknown", provider="", lines=lines, variants=[], hours=[], policy=prices.unknown.policy
        )
    entry = found.entry
    return Looked(
        model=name,
        origin="own" if name in document.get("own", {}) else "list",
        provider=found.provider,
        lines=lines_of(entry.rates),
        variants=[(_when(each.when), lines_of(each.rates, falling=False)) for each in entry.variants if each.rates],
        hours=[(each.start_s, each.end_s, lines_of(each.rates, falling=False)) for each in entry.hours],
        policy=prices.unknown.policy,
    )


def _when(when: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in when.items())


def _estimated(document: Mapping[str, Any], name: str) -> Rates:
    """Return what an estimate charges a model without a price: of the first family that matches, or of the rest."""
    unknown = document.get("unknown", {})
    families = ((compile_clause(clause, "families"), rates) for clause, rates in unknown.get("families", []))
    rates = next((rates for matches, rates in families if matches(name)), unknown.get("rates", {}))
    return read_rates(rates, "unknown")


def lines_of(rates: Rates, *, falling: bool = True) -> list[PriceLine]:
    """Return rates as lines; with ``falling`` also the common classes that cost what another does."""
    made = []
    for name in CLASSES:
        follows = "" if name in rates else next((each for each in CLASSES[name].falls_to if each in rates), "")
        if name in rates or (falling and follows and name in _TOLD):
            rate = rates[follows or name]
            tiers = tuple((threshold, _text(price, rate)) for threshold, price in rate.tiers)
            made.append(PriceLine(name, unit_of(name), _text(rate.base, rate), tiers, follows))
    return made


def unit_of(name: str) -> str:
    """Return what a price of a class is per, in words."""
    if name in INPUT_CLASSES or name in OUTPUT_CLASSES:
        return "1M tokens"
    return _COUNTED.get(name) or ("hour" if name.endswith("seconds") else "1,000")


def _text(price: int, rate: Rate) -> str:
    exact = f"{Decimal(price).scaleb(-rate.decimals).normalize():f}"
    dollars, _, decimals = exact.partition(".")
    return f"{dollars}.{decimals.ljust(2, '0')}"


def entry_of(rates: Mapping[str, str]) -> dict[str, str]:
    """Return own rates as an entry of the book: output without a price of its own costs what input does."""
    plain = {name: str(usd) for name, usd in rates.items()}
    return {**({"output": plain["input"]} if "input" in plain else {}), **plain}


def unpriced(asker: Asker, today: date, days: int = LOOKED_BACK_DAYS) -> list[Charged]:
    """Return the models that were called without a price in the last days, and what they were charged; the dearest first."""
    found = charged(asker, first_day=today - timedelta(days=days - 1), last_day=today)
    return sorted((each for each in found if each.unpriced_calls), key=lambda each: -each.cost_nusd)


def changes(asker: Asker, wanted: Own, today: date, days: int = LOOKED_BACK_DAYS) -> list[Change]:
    """Return what it would do to have just ``wanted`` as own prices: every model that changes, the costliest change first.

    Reads only. ``wanted`` must be without faults; its names in lower case.
    """
    present = own_prices()
    differing = [name for name in {*present, *wanted} if present.get(name) != wanted.get(name)]
    if not differing:
        return []
    _, prices = compiled(book_named().etag)
    used = _used(charged(asker, first_day=today - timedelta(days=days - 1), last_day=today), differing)
    made = [_change(name, present.get(name), wanted.get(name), used.get(name, []), prices) for name in differing]
    return sorted(made, key=lambda each: (not each.vanishes, -abs(each.difference_nusd), each.model))


def _used(found: Iterable[Charged], names: Iterable[str]) -> dict[str, list[Charged]]:
    wanted = set(names)
    used: dict[str, list[Charged]] = {}
    for each in found:
        if each.model.lower() in wanted:
            used.setdefault(each.model.lower(), []).append(each)
    return used


def _change(
    name: str,
    before: Mapping[str, str] | None,
    after: Mapping[str, str] | None,
    used: list[Charged],
    prices: Prices,
) -> Change:
    found: Entry | None = read_entry(entry_of(after), name) if after is not None else None
    if after is None:
        listed = prices.look_up(name, own=False)
        found = listed.entry if listed is not None else None
    priced = found.priced() if found is not None else None
    cost = sum(
        priced.cost_of_many_nusd(each.usage, calls=each.calls)
        if priced is not None
        else prices.unknown.cost_nusd(name, each.usage)
        for each in used
    )
    return Change(
        model=name,
        kind="removed" if after is None else "added" if before is None else "changed",
        before=before,
        after=after,
        calls=sum(each.calls for each in used),
        charged_nusd=sum(each.cost_nusd for each in used),
        repriced_nusd=cost,
        vanishes=found is None,
    )

"""The part of a price book that finds a model by patterns: providers with their models in order, as the price list has them.

docs/protocol.md, "Price book", is the format. The first provider that ``serves`` a name decides, and of its models the first that
matches; then those of the providers it falls back to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

from tidegate.core.matching import Matcher, compile_clause
from tidegate.core.rates import Priced, Rate, multiply_out, read_rates, whole

_COMPACT_DATE = re.compile(r"(-)(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")

DAY_S = 86_400

Context = tuple[tuple[str, str], ...]


class Variant(NamedTuple):
    """Rates that replace others when the call's context says everything in ``when`` (``service_tier=flex``)."""

    when: Mapping[str, str]
    rates: Mapping[str, Rate]


class Hours(NamedTuple):
    """Rates that hold instead of others at some time of every day: from a second of the UTC day to another, which is excluded."""

    start_s: int
    end_s: int
    rates: Mapping[str, Rate]

    def hold(self, second: int) -> bool:
        if self.end_s < self.start_s:
            return second >= self.start_s or second < self.end_s
        return self.start_s <= second < self.end_s


class Entry(NamedTuple):
    """The rates of one or more models. Of ``hours`` that hold at the same time the last counts."""

    rates: Mapping[str, Rate]
    variants: tuple[Variant, ...] = ()
    least: Mapping[str, int] = {}
    hours: tuple[Hours, ...] = ()

    def priced(self, context: Context = (), second: int = 0) -> Priced:
        """Return the weights for a call in ``context`` at a second of the UTC day.

        Of several variants the first that names a class sets its rate.
        """
        rates = dict(next((each.rates for each in reversed(self.hours) if each.hold(second)), self.rates))
        said = dict(context)
        for variant in reversed(self.variants):
            if all(said.get(key) == value for key, value in variant.when.items()):
                rates.update(variant.rates)
        return multiply_out(rates, self.least)._replace(hourly=bool(self.hours))


class Provider(NamedTuple):
    id: str
    serves: Matcher | None
    known_as: Matcher | None
    models: Sequence[tuple[Matcher, int | None]]
    beyond: Sequence[str]


class Found(NamedTuple):
    """A model of the list: ``entry`` is ``None`` when the list knows it and has no price; ``own``: it is the provider's own.

    ``provider`` is whose price it is, empty where no provider has it.
    """

    entry: Entry | None
    own: bool
    provider: str = ""


class Catalog:
    """Providers and entries, ready to be searched."""

    __slots__ = ("_by_id", "entries", "providers", "resorts")

    def __init__(self, entries: Sequence[Entry], providers: Sequence[Provider], resorts: Sequence[str] = ()) -> None:
        self.entries = entries
        self.providers = providers
        self.resorts = resorts
        self._by_id = {provider.id: provider for provider in providers}

    def find(self, name: str, provider: str | None = None) -> Found | None:
        """Return the model that ``name`` (in lower case) means, at ``provider`` when that is said."""
        if provider is not None:
            named = self._provider(provider)
            return self._at(named, name) if named is not None else None
        for candidate in self.providers:
            if candidate.serves is not None and candidate.serves(name):
                found = self._at(candidate, name)
                if found is not None:
                    return found
                break
        head, slash, rest = name.partition("/")
        named = self._provider(head) if slash else None
        return self._at(named, rest) if named is not None else None

    def find_anywhere(self, name: str) -> Found | None:
        """Return the model that ``name`` means at one of the ``resorts``: clouds, which have names of their own for models."""
        places = (self._by_id[place] for place in self.resorts if place in self._by_id)
        return next((found for place in places if (found := self._at(place, name)) is not None), None)

    def _provider(self, id_: str) -> Provider | None:
        id_ = id_.lower().strip()
        if id_ in self._by_id:
            return self._by_id[id_]
        return next((each for each in self.providers if each.known_as is not None and each.known_as(id_)), None)

    def _at(self, provider: Provider, name: str) -> Found | None:
        found = self._match(provider, name)
        if found is None:
            dashed = _COMPACT_DATE.sub(_dashed, name)
            if dashed != name:
                found = self._match(provider, dashed)
        return found

    def _match(self, provider: Provider, name: str) -> Found | None:
        for place in (provider.id, *provider.beyond):
            known = self._by_id.get(place)
            for matches, index in known.models if known is not None else ():
                if matches(name):
                    return Found(None if index is None else self.entries[index], place == provider.id, place)
        return None


def _dashed(match: re.Match[str]) -> str:
    year, month, day = (int(match[number]) for number in (2, 3, 4))
    try:
        date(year, month, day)
    except ValueError:
        return match[0]
    return f"-{year:04d}-{month:02d}-{day:02d}"


def compile_catalog(document: Any) -> Catalog:
    """Return the catalog of a price book; ``ValueError`` says where it is not one."""
    if not isinstance(document, Mapping):
        raise ValueError("catalog: must be an object.")
    entries = [read_entry(item, f"catalog.rates.{i}") for i, item in enumerate(_list(document, "rates", "catalog"))]
    providers = [
        _provider(item, f"catalog.providers.{i}", len(entries))
        for i, item in enumerate(_list(document, "providers", "catalog"))
    ]
    return Catalog(entries, providers, [str(place) for place in document.get("resorts", [])])


def read_entry(item: Any, where: str) -> Entry:
    """Return one entry: its classes, and beside them ``variants`` and ``least``."""
    rates = read_rates(item, where)
    variants = []
    for number, variant in enumerate(item.get("variants", [])):
        when, inside = variant if isinstance(variant, list) and len(variant) == 2 else (None, None)
        if not isinstance(when, Mapping) or not when:
            raise ValueError(f"{where}.variants.{number}: must be [when, rates].")
        variants.append(Variant(dict(when), read_rates(inside, f"{where}.variants.{number}")))
    least = item.get("least", {})
    if not isinstance(least, Mapping):
        raise ValueError(f"{where}.least: must be an object of classes.")
    counts = {name: whole(count, f"{where}.least.{name}") for name, count in least.items()}
    return Entry(rates, tuple(variants), counts, _hours(item.get("hours", []), f"{where}.hours"))


def _hours(value: Any, where: str) -> tuple[Hours, ...]:
    if not isinstance(value, list) or not all(isinstance(part, list) and len(part) == 3 for part in value):
        raise ValueError(f"{where}: must be a list of [from, to, rates].")
    made = tuple(Hours(whole(start, where), whole(end, where), read_rates(rates, where)) for start, end, rates in value)
    if any(each.start_s >= DAY_S or each.end_s > DAY_S for each in made):
        raise ValueError(f"{where}: a day has {DAY_S} seconds.")
    return made


def _provider(item: Any, where: str, entries: int) -> Provider:
    if not isinstance(item, Mapping) or not isinstance(item.get("id"), str):
        raise ValueError(f"{where}: must be an object with an id.")
    models = []
    for number, pair in enumerate(_list(item, "models", where)):
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or not (pair[1] is None or 0 <= whole(pair[1], where) < entries)
        ):
            raise ValueError(f"{where}.models.{number}: must be [clause, number of the rates].")
        models.append((compile_clause(pair[0], f"{where}.models.{number}"), pair[1]))
    serves, known_as = (
        compile_clause(item[name], f"{where}.{name}") if item.get(name) is not None else None
        for name in ("serves", "known_as")
    )
    return Provider(item["id"], serves, known_as, models, [str(place) for place in item.get("beyond", [])])


def _list(value: Mapping[str, Any], name: str, where: str) -> list[Any]:
    found = value.get(name)
    if not isinstance(found, list):
        raise ValueError(f"{where}.{name}: must be a list.")
    return found

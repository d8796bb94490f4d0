"""What a call costs: exact integer arithmetic over a compiled price book, and dollars as text.

Money is integer nano-USD; prices are nano-USD per million tokens. docs/protocol.md, "Price book", is the format.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any, NamedTuple

from tidegate.core.catalog import Catalog, Context, Entry, Found, compile_catalog, read_entry
from tidegate.core.matching import Matcher, compile_clause
from tidegate.core.rates import Priced, Rate, Rates, multiply_out, read_rates, tiers_of, whole

FORMAT = 1
NUSD_PER_USD = 1_000_000_000
MAX_USD = 1_000_000_000
PLAIN_CLASSES = ("input", "cached_input", "output")  # what ``models`` may name, so that the first SDKs can read it
UNKNOWN_POLICIES = ("estimate", "refuse", "allow")
# What a model without a price costs when no book says so: dearer than all but a few models ever were.
DEFAULT_RATES = {"input": Rate(15, (), 0), "output": Rate(75, (), 0)}
FREE = multiply_out({})
MAX_REMEMBERED = 10_000
_DECIMAL = re.compile(r"([0-9]+)(?:\.([0-9]+))?", re.ASCII)


class Unknown(NamedTuple):
    """What is done with a call whose model has no price: ``estimate`` charges ``default`` (or the rates of the first family whose
    pattern matches), ``refuse`` does not let it through, ``allow`` lets it cost nothing."""

    policy: str = "estimate"
    default: Priced = multiply_out(DEFAULT_RATES)
    families: tuple[tuple[Matcher, Priced], ...] = ()

    def cost_nusd(self, model: str, usage: Mapping[str, int]) -> int:
        return self.priced(model).cost_nusd(usage)

    def priced(self, model: str) -> Priced:
        """Return what calls of ``model`` are multiplied with."""
        if self.policy == "allow":
            return FREE
        name = model.lower()
        return next((priced for matches, priced in self.families if matches(name)), self.default)


class PriceBook:
    """Prices by model, ready to be asked. Model names are compared without regard to case.

    ``own`` are the operators' prices; then the catalog decides by its patterns; then the names that are spelled out.
    """

    __slots__ = ("_catalog", "_found", "_models", "_own", "_second", "_turns", "etag", "unknown")

    def __init__(
        self,
        models: Mapping[str, Rates],
        *,
        own: Mapping[str, Entry] | None = None,
        catalog: Catalog | None = None,
        unknown: Unknown | None = None,
        etag: str = "",
    ) -> None:
        self.etag = etag
        self._models = {name.lower(): rates for name, rates in models.items()}
        self._own = {name.lower(): entry for name, entry in (own or {}).items()}
        self._catalog = catalog
        self._found: dict[str | tuple[str, str | None, Context], Priced | None] = {}
        self.unknown = unknown or Unknown()
        entries = [*self._own.values(), *(catalog.entries if catalog is not None else ())]
        hours = [each for entry in entries for each in entry.hours]
        self._turns = sorted({0, *(each.start_s for each in hours), *(each.end_s for each in hours)})
        self._second = 0

    def turn(self, second: int) -> None:
        """Go by the prices that hold at a second of the UTC day. To be called now and then: some prices depend on the hour."""
        if bisect_right(self._turns, second) != bisect_right(self._turns, self._second):
            self._found = {}
        self._second = second

    def __len__(self) -> int:
        return len(self._models.keys() | self._own.keys())

    def __contains__(self, model: str) -> bool:
        return self.priced(model) is not None

    def priced(self, model: str, *, provider: str | None = None, context: Context = ()) -> Priced | None:
        """Return what calls of ``model`` are multiplied with, ``None`` when it has no price. What was found is remembered."""
        key = model if provider is None and not context else (model, provider, context)
        try:
            return self._found[key]
        except KeyError:
            pass
        if len(self._found) >= MAX_REMEMBERED:
            self._found = {}
        priced = self._found[key] = self._search(model.lower(), provider, context)
        return priced

    def look_up(self, model: str, *, provider: str | None = None, own: bool = True) -> Found | None:
        """Return where the price of ``model`` comes from and what it is; ``None`` for a name that nobody knows.

        Without ``own`` the operators' own prices are passed over. A price of theirs, and one that is only spelled out, has no
        provider.
        """
        name = model.lower()
        if own and name in self._own:
            return Found(self._own[name], own=True)
        found = self._catalog.find(name, provider) if self._catalog is not None else None
        if found is None and provider is None:
            if name in self._models and (own or name not in self._own):
                return Found(Entry(self._models[name]), own=True)
            found = self._catalog.find_anywhere(name) if self._catalog is not None else None
        return found

    def _search(self, name: str, provider: str | None, context: Context) -> Priced | None:
        found = self.look_up(name, provider=provider)
        if found is None or found.entry is None:
            return None
        return found.entry.priced(context if found.own else (), self._second)

    def cost_nusd(
        self, model: str, *, input_tokens: int, output_tokens: int, cached_input_tokens: int = 0
    ) -> int | None:
        """Return what the call costs in nano-USD, rounded half up once, or ``None`` for a model that has no price.

        ``input_tokens`` include the cached ones. Raises ``ValueError`` for counts that no call can have.
        """
        if not 0 <= cached_input_tokens <= input_tokens or output_tokens < 0:
            raise ValueError(
                f"Token counts must not be negative, and cached input is part of input: got input {input_tokens}, "
                f"cached input {cached_input_tokens}, output {output_tokens}."
            )
        try:
            priced = self._found[model]
        except KeyError:
            priced = self.priced(model)
        if priced is None:
            return None
        weights = priced.at(input_tokens) if priced.tiers else priced.flat
        return (
            (input_tokens - cached_input_tokens) * weights.input
            + cached_input_tokens * weights.cached_input
            + output_tokens * weights.output
            + weights.plus
        ) // weights.unit

    def usage_cost_nusd(
        self, model: str, usage: Mapping[str, int], *, provider: str | None = None, context: Context = ()
    ) -> int | None:
        """Return what disjoint ``usage`` (``core.usage``) costs, or ``None`` for a model that has no price."""
        try:
            priced = (
                self._found[model]
                if provider is None and not context
                else self.priced(model, provider=provider, context=context)
            )
        except KeyError:
            priced = self.priced(model)
        return None if priced is None else priced.cost_nusd(usage)


def compile_price_book(document: Mapping[str, Any], *, etag: str = "") -> PriceBook:
    """Return the price book of a document as it was served under ``etag``; ``ValueError`` says where it is not one."""
    if document.get("format") != FORMAT:
        raise ValueError(f"format: this is version {document.get('format')!r}, known is {FORMAT}.")
    models = document.get("models")
    if not isinstance(models, Mapping):
        raise ValueError("models: must be an object.")
    own = document.get("own", {})
    if not isinstance(own, Mapping):
        raise ValueError("own: must be an object.")
    return PriceBook(
        {str(name): _model_rates(rates, f"models.{name}") for name, rates in models.items()},
        own={str(name): read_entry(item, f"own.{name}") for name, item in own.items()},
        catalog=compile_catalog(document["catalog"]) if "catalog" in document else None,
        unknown=_unknown(document["unknown"]) if "unknown" in document else None,
        etag=etag,
    )


def _unknown(document: Any) -> Unknown:
    if not isinstance(document, Mapping) or document.get("policy") not in UNKNOWN_POLICIES:
        raise ValueError(f"unknown.policy: must be one of {', '.join(UNKNOWN_POLICIES)}.")
    families = document.get("families", [])
    if not isinstance(families, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in families):
        raise ValueError("unknown.families: must be a list of [clause, rates].")
    return Unknown(
        document["policy"],
        multiply_out(read_rates(document.get("rates", {}), "unknown.rates") or DEFAULT_RATES),
        tuple(
            (compile_clause(clause, "unknown.families"), multiply_out(read_rates(rates, "unknown.families")))
            for clause, rates in families
        ),
    )


def _model_rates(rates: Any, where: str) -> dict[str, Rate]:
    if not isinstance(rates, Mapping) or "input" not in rates:
        raise ValueError(f"{where}: must be an object with the class input.")
    unknown = set(rates) - set(PLAIN_CLASSES)
    if unknown:
        raise ValueError(f"{where}: unknown class {min(unknown)!r}.")
    read = {name: _rate(value, f"{where}.{name}") for name, value in rates.items()}
    read.setdefault("output", read["input"])
    return read


def _rate(value: Any, where: str) -> Rate:
    if not isinstance(value, Mapping):
        return Rate(whole(value, where))
    pairs = tuple((threshold, whole(price, f"{where}.tiers")) for threshold, price in tiers_of(value, where))
    return Rate(whole(value.get("base"), f"{where}.base"), pairs)


def parse_usd(text: str) -> int:
    """Return decimal dollars like ``"12.50"`` as nano-USD; ``ValueError`` says what is wrong with the text."""
    match = _DECIMAL.fullmatch(text.strip())
    if match is None:
        if text.strip().startswith("-"):
            raise ValueError(f"An amount of dollars can't be negative, got {text.strip()[:40]!r}.")
        raise ValueError(f'An amount of dollars is written like "12.50", got {text.strip()[:40]!r}.')
    dollars, decimals = match[1].lstrip("0") or "0", (match[2] or "").rstrip("0")
    if len(decimals) > 9:
        raise ValueError("An amount of dollars has at most 9 decimals (one nano-dollar).")
    if len(dollars) > 10 or int(dollars) > MAX_USD or (int(dollars) == MAX_USD and decimals):
        raise ValueError(f"An amount of dollars is at most {MAX_USD:,}.")
    return int(dollars) * NUSD_PER_USD + int(decimals.ljust(9, "0"))


def format_usd(nusd: int) -> str:
    """Return nano-USD as exact decimal dollars with at least two decimals: ``"12.50"``, ``"0.000321"``, ``"-3.00"``."""
    dollars, rest = divmod(abs(nusd), NUSD_PER_USD)
    decimals = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if nusd < 0 else ''}{dollars}.{decimals}"

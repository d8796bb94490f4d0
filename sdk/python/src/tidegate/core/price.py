"""What a call costs: exact integer arithmetic over a compiled price book, and dollars as text.

Money is integer nano-USD; prices are nano-USD per million tokens. docs/protocol.md, "Price book", is the format.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

FORMAT = 1
NUSD_PER_USD = 1_000_000_000
MAX_USD = 1_000_000_000
_PER_TOKENS = 1_000_000
_DECIMAL = re.compile(r"([0-9]+)(?:\.([0-9]+))?", re.ASCII)


class Rate(NamedTuple):
    """The price of one class of tokens: ``base``, or the last tier whose threshold the call's input tokens exceed."""

    base: int
    tiers: tuple[tuple[int, int], ...] = ()  # (threshold, price), by rising threshold

    def at(self, input_tokens: int) -> int:
        price = self.base
        for threshold, tier_price in self.tiers:
            if input_tokens <= threshold:
                break
            price = tier_price
        return price


class ModelPrice(NamedTuple):
    input: Rate
    cached_input: Rate
    output: Rate


class PriceBook:
    """Prices by model, ready to be asked. Model names are compared without regard to case."""

    __slots__ = ("_models",)

    def __init__(self, models: Mapping[str, ModelPrice]) -> None:
        self._models = {name.lower(): price for name, price in models.items()}

    def __len__(self) -> int:
        return len(self._models)

    def __contains__(self, model: str) -> bool:
        return model.lower() in self._models

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
        price = self._models.get(model.lower())
        if price is None:
            return None
        exact = (
            (input_tokens - cached_input_tokens) * price.input.at(input_tokens)
            + cached_input_tokens * price.cached_input.at(input_tokens)
            + output_tokens * price.output.at(input_tokens)
        )
        return (exact + _PER_TOKENS // 2) // _PER_TOKENS


def compile_price_book(document: Mapping[str, Any]) -> PriceBook:
    """Return the price book of a document as it was served; ``ValueError`` says where it is not one."""
    if document.get("format") != FORMAT:
        raise ValueError(f"format: this is version {document.get('format')!r}, known is {FORMAT}.")
    models = document.get("models")
    if not isinstance(models, Mapping):
        raise ValueError("models: must be an object.")
    return PriceBook({str(name): _model_price(rates, f"models.{name}") for name, rates in models.items()})


def _model_price(rates: Any, where: str) -> ModelPrice:
    if not isinstance(rates, Mapping) or "input" not in rates:
        raise ValueError(f"{where}: must be an object with the class input.")
    unknown = set(rates) - set(ModelPrice._fields)
    if unknown:
        raise ValueError(f"{where}: unknown class {min(unknown)!r}.")
    whole = _rate(rates["input"], f"{where}.input")
    cached, output = (
        _rate(rates[name], f"{where}.{name}") if name in rates else whole for name in ("cached_input", "output")
    )
    return ModelPrice(whole, cached, output)


def _rate(value: Any, where: str) -> Rate:
    if not isinstance(value, Mapping):
        return Rate(_whole(value, where))
    tiers = value.get("tiers", [])
    if not isinstance(tiers, list) or not all(isinstance(tier, list) and len(tier) == 2 for tier in tiers):
        raise ValueError(f"{where}.tiers: must be a list of [threshold, price].")
    pairs = tuple((_whole(tier[0], f"{where}.tiers"), _whole(tier[1], f"{where}.tiers")) for tier in tiers)
    thresholds = [threshold for threshold, _ in pairs]
    if sorted(set(thresholds)) != thresholds:
        raise ValueError(f"{where}.tiers: thresholds must rise.")
    return Rate(_whole(value.get("base"), f"{where}.base"), pairs)


def _whole(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{where}: must be a whole number that is not negative, got {value!r}.")
    return value


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

"""The list prices of model providers, out of the package ``genai-prices``, in the form of a price book."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

from genai_prices.data_snapshot import get_snapshot

# Nano-USD per USD, for prices that are said per million tokens on both sides.
_NUSD = 10**9
_CLASSES = {"input": "input_mtok", "cached_input": "cache_read_mtok", "output": "output_mtok"}
# Many providers resell the same models. Whoever made a model sets its price; then the large clouds; then the rest.
_MAKERS = (
    "openai",
    "anthropic",
    "google",
    "mistral",
    "cohere",
    "deepseek",
    "x-ai",
    "meta",
    "moonshotai",
    "minimax",
    "zai",
)
_CLOUDS = ("azure", "aws", "groq", "together", "fireworks")


def source() -> str:
    """Return the name and version of the list."""
    return f"genai-prices {importlib.metadata.version('genai-prices')}"


def listed(now: datetime) -> dict[str, dict[str, Any]]:
    """Return the rates of every model that is priced by tokens, by its lower-case name."""
    models: dict[str, dict[str, Any]] = {}
    for provider in sorted(get_snapshot().providers, key=lambda provider: _rank(provider.id)):
        for model in provider.models:
            rates = _rates(model.get_prices(now))
            if "input" in rates:
                for name in _names(model):
                    models.setdefault(name.lower(), rates)
    return models


def _rank(provider: str) -> int:
    known = (*_MAKERS, *_CLOUDS)
    return known.index(provider) if provider in known else len(known)


def _names(model: Any) -> Iterator[str]:
    yield model.id
    yield from _equals(model.match)


def _equals(clause: Any) -> Iterator[str]:
    """Yield the names that a matching clause spells out; patterns can't be listed."""
    if hasattr(clause, "equals"):
        yield clause.equals
    for part in getattr(clause, "or_", ()):
        yield from _equals(part)


def _rates(prices: Any) -> dict[str, Any]:
    found = {name: getattr(prices, field, None) for name, field in _CLASSES.items()}
    return {name: _rate(price) for name, price in found.items() if price is not None}


def _rate(price: Any) -> int | dict[str, Any]:
    if isinstance(price, Decimal | int | float):
        return _nusd(price)
    tiers = sorted((int(tier.start), _nusd(tier.price)) for tier in price.tiers)
    return {"base": _nusd(price.base), "tiers": [list(tier) for tier in tiers]}


def _nusd(usd: Decimal | float) -> int:
    return int((Decimal(str(usd)) * _NUSD).to_integral_value())

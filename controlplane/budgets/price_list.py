"""The list prices of model providers, out of the package ``genai-prices``, in the form of a price book.

``compiled`` has the whole list: every class of usage, tiers, variants, and the patterns by which names are matched. ``listed`` has the
names that are spelled out with the three classes that the first SDKs know.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any

import structlog
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import TimeOfDateConstraint

from tidegate.core.catalog import Catalog, compile_catalog
from tidegate.core.matching import regex_fault
from tidegate.core.price import PLAIN_CLASSES
from tidegate.core.rates import Rate, Rates, dearest, high, read_rates

log = structlog.get_logger(__name__)

# What genai-prices calls a price, and the class of usage that it is the price of (tidegate.core.usage).
CLASS_OF = {
    "input_mtok": "input",
    "cache_read_mtok": "cached_input",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "input_audio",
    "input_image_mtok": "input_image",
    "input_video_mtok": "input_video",
    "cache_audio_read_mtok": "cached_input_audio",
    "cache_image_read_mtok": "cached_input_image",
    "cache_video_read_mtok": "cached_input_video",
    "output_mtok": "output",
    "output_reasoning_mtok": "reasoning",
    "output_citation_mtok": "citation",
    "output_audio_mtok": "output_audio",
    "output_image_mtok": "output_image",
    "output_video_mtok": "output_video",
    "input_mchars": "input_characters",
    "input_text_messages_kcount": "input_messages",
    "audio_hours": "audio_seconds",
    "input_audio_hours": "input_audio_seconds",
    "output_audio_hours": "output_audio_seconds",
    "input_gpixels": "input_pixels",
    "input_document_kpages": "input_pages",
    "input_annotated_document_kpages": "input_annotated_pages",
    "rerank_searches_kcount": "rerank_searches",
    "web_searches_kcount": "web_searches",
    "social_searches_kcount": "social_searches",
    "storage_searches_kcount": "storage_searches",
    "code_executions_kcount": "code_executions",
    "requests_kcount": "requests",
}
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
_RESORTS = ("aws", *_MAKERS, "azure")  # whose patterns are tried for names that nobody serves
# Groq bills speech by the second, ten at least; the list has it in code.
_LEAST = {
    ("groq", name): {"audio_seconds": 10, "input_audio_seconds": 10}
    for name in ("whisper-large-v3", "whisper-large-v3-turbo")
}


def source() -> str:
    """Return the name and version of the list."""
    return f"genai-prices {importlib.metadata.version('genai-prices')}"


def compiled(now: datetime) -> dict[str, Any]:
    """Return the list as the ``catalog`` of a price book, with the prices that hold at ``now``."""
    entries: dict[str, int] = {}
    rates: list[dict[str, Any]] = []
    providers = []
    for provider in get_snapshot().providers:
        models: list[list[Any]] = []
        for model in provider.models:
            clause = _clause(model.match)
            if clause is None:
                continue
            entry = _entry(provider.id, model, now)
            text = json.dumps(entry, sort_keys=True)
            if entry and text not in entries:
                entries[text] = len(rates)
                rates.append(entry)
            models.append([clause, entries[text] if entry else None])
        about: dict[str, Any] = {"id": provider.id, "models": models}
        for name, match in (("serves", provider.model_match), ("known_as", provider.provider_match)):
            if match is not None:
                about[name] = _clause(match)
        if provider.fallback_model_providers:
            about["beyond"] = list(provider.fallback_model_providers)
        providers.append(about)
    return {"rates": rates, "providers": providers, "resorts": list(_RESORTS)}


def listed(catalog: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the plain rates of every name that the list spells out, as the catalog prices it or else as its maker does."""
    searched = compile_catalog(catalog)
    models: dict[str, dict[str, Any]] = {}
    for provider in sorted(searched.providers, key=lambda provider: _rank(provider.id)):
        for name in _spelled(next(each for each in catalog["providers"] if each["id"] == provider.id)):
            if name not in models:
                rates = _rates_of(searched, name, provider.id)
                if rates is not None and "input" in rates:
                    models[name] = plain(rates)
    return models


def conservative(catalog: dict[str, Any]) -> dict[str, Any]:
    """Return what a model of which nothing is known may cost, as ``rates`` and ``families`` of a price book.

    Of every class the price that 95 % of the makers' models stay below; embeddings the dearest of their own kind.
    """
    searched = compile_catalog(catalog)
    made = [
        searched.entries[index].rates
        for provider in searched.providers
        if provider.id in _MAKERS
        for _, index in provider.models
        if index is not None
    ]
    embeddings = [
        catalog["rates"][index]
        for provider in catalog["providers"]
        if provider["id"] in _MAKERS
        for clause, index in provider["models"]
        if index is not None and "embed" in json.dumps(clause)
    ]
    dear = dearest(read_rates(each, "embeddings") for each in embeddings)
    kinds = [[{"contains": "embed"}, _told(dear)]] if dear else []
    return {"rates": _told(high(made, share=0.95)), "families": kinds}


def _told(rates: Rates) -> dict[str, str]:
    return {name: _text(Decimal(rate.base).scaleb(-rate.decimals)) for name, rate in rates.items()}


def plain(rates: Rates) -> dict[str, Any]:
    """Return the rates of the three classes that ``models`` may name, in nano-USD per million tokens.

    There, what has no price of its own costs what input does; so that output which has none says 0.
    """
    return {"output": 0, **{name: _nusd(rates[name]) for name in PLAIN_CLASSES if name in rates}}


def _rates_of(searched: Catalog, name: str, provider: str) -> Rates | None:
    found = searched.find(name) or searched.find(name, provider)
    return found.entry.rates if found is not None and found.entry is not None else None


def _rank(provider: str) -> int:
    known = (*_MAKERS, *_CLOUDS)
    return known.index(provider) if provider in known else len(known)


def _spelled(provider: dict[str, Any]) -> Iterator[str]:
    for clause, _ in provider["models"]:
        yield from _equals(clause)


def _equals(clause: Any) -> Iterator[str]:
    """Yield the names that a clause spells out; patterns can't be listed."""
    if isinstance(clause, str):
        yield clause
    elif "or" in clause:
        for part in clause["or"]:
            yield from _equals(part)


def _entry(provider: str, model: Any, now: datetime) -> dict[str, Any]:
    """Return the rates of a model, empty when the list has none for it."""
    prices, hours = _prices(model, now)
    entry: dict[str, Any] = _rates(prices)
    if not entry:
        return {}
    if hours:
        entry["hours"] = hours
    variants = [
        [dict(variant.when), _rates(variant.prices)]
        for variant in model.price_variants or ()
        if variant.constraint is None or variant.constraint.active(now)
    ]
    if variants:
        entry["variants"] = variants
    least = _LEAST.get((provider, model.id))
    if least is not None:
        entry["least"] = least
    return entry


def _prices(model: Any, now: datetime) -> tuple[Any, list[Any]]:
    """Return the prices that hold at ``now`` whatever the hour, and those of some hours of the day: ``[from, to, rates]``."""
    if not isinstance(model.prices, list):
        return model.prices, []
    hours = []
    for each in reversed(model.prices):  # later ones go before
        if isinstance(each.constraint, TimeOfDateConstraint):
            spans = (each.constraint.start_time, each.constraint.end_time)
            hours.append([*map(_second, spans), _rates(each.prices)])
        elif each.constraint is None or each.constraint.active(now):
            return each.prices, hours[::-1]
    return model.prices[0].prices, hours[::-1]


def _second(at: time) -> int:
    """Return the second of the UTC day; times without a zone are UTC."""
    offset = at.utcoffset() or timedelta()
    return int((timedelta(hours=at.hour, minutes=at.minute, seconds=at.second) - offset).total_seconds()) % 86_400


def _rates(prices: Any) -> dict[str, Any]:
    found = {}
    for key, price in prices.__dict__.items():
        if price is None or key.startswith("_"):
            continue
        if key in CLASS_OF:
            found[CLASS_OF[key]] = _rate(price)
        else:
            log.warning("prices.unknown_class", key=key)
    return found


def _rate(price: Any) -> str | dict[str, Any]:
    if isinstance(price, Decimal):
        return _text(price)
    tiers = sorted((int(tier.start), tier.price) for tier in price.tiers)
    return {"base": _text(price.base), "tiers": [[start, _text(higher)] for start, higher in tiers]}


def _text(usd: Decimal) -> str:
    return f"{usd.normalize():f}"


def _nusd(rate: Rate) -> int | dict[str, Any]:
    """Return a rate in whole nano-USD: that of the first SDKs, a billionth of a dollar per million tokens off at most."""

    def rounded(price: int) -> int:
        scale: int = 10**rate.decimals
        return (2 * price * 10**9 + scale) // (2 * scale)

    if not rate.tiers:
        return rounded(rate.base)
    return {"base": rounded(rate.base), "tiers": [[threshold, rounded(price)] for threshold, price in rate.tiers]}


def _clause(match: Any) -> Any:
    """Return a matching clause as a price book carries it; ``None`` for a pattern that is not safe to run."""
    for kind in ("starts_with", "ends_with", "contains"):
        if hasattr(match, kind):
            return {kind: getattr(match, kind).lower()}
    if hasattr(match, "equals"):
        return match.equals.lower()
    if hasattr(match, "regex"):
        fault = regex_fault(match.regex)
        if fault is not None:
            log.warning("prices.unsafe_pattern", pattern=match.regex, fault=fault)
            return None
        return {"regex": match.regex}
    return _many("or", match.or_) if hasattr(match, "or_") else _many("and", match.and_)


def _many(kind: str, matches: Any) -> Any:
    parts = [_clause(match) for match in matches]
    if kind == "and" and None in parts:
        return None
    kept = [part for part in parts if part is not None]
    return {kind: kept} if kept else None

"""The compiled price list against the package it came from: the same model found, the same cost to the last nano-USD."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from typing import Any

import orjson
import pytest
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot
from genai_prices.data_units import unit_data
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.budgets import price_list
from tidegate.core.price import PriceBook, compile_price_book
from tidegate.core.usage import CLASSES

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
GENAI_OF = {name: key for key, name in price_list.CLASS_OF.items()}
# The aggregates that a genai usage must state beside its parts, by our class.
TOTALS = {
    name: [
        usage_key
        for usage_key, unit in unit_data.items()
        if unit["dimensions"].items() <= unit_data[own]["dimensions"].items()
    ]
    for name, key in GENAI_OF.items()
    for own in [next(usage_key for usage_key, unit in unit_data.items() if unit["price_key"] == key)]
}
tokens = st.integers(0, 3_000_000)


@cache
def book() -> PriceBook:
    """Return a book that has the catalog and no names of its own, as it was served."""
    document = {"format": 1, "models": {}, "catalog": price_list.compiled(NOW)}
    return compile_price_book(orjson.loads(orjson.dumps(document)))


def names(clause: Any) -> Iterator[str]:
    """Yield names that a clause matches, or may match."""
    for part in (*getattr(clause, "or_", ()), *getattr(clause, "and_", ())):
        yield from names(part)
    for kind in ("equals", "starts_with", "ends_with", "contains"):
        if hasattr(clause, kind):
            yield getattr(clause, kind)


@cache
def references() -> list[tuple[str, str]]:
    """Return provider and name of everything on the list, dated and capitalised names too."""
    found = []
    for provider in get_snapshot().providers:
        for model in provider.models:
            for name in {model.id, *names(model.match)}:
                found += [
                    (provider.id, each) for each in (name, name.upper(), f"{name}-20260131", f"{name}-2026-01-31")
                ]
    return found


def genai_usage(usage: dict[str, int]) -> Usage:
    """Return disjoint usage as genai-prices wants it: every total that includes a part, stated."""
    totals: dict[str, Any] = dict.fromkeys(unit_data, 0)
    for name, count in usage.items():
        for key in TOTALS[name]:
            totals[key] += count
    del totals["requests"]
    return Usage(**totals)


def theirs(
    name: str, usage: dict[str, int], provider: str | None, context: dict[str, str] | None = None, now: datetime = NOW
) -> int | None:
    """Return what genai-prices says in nano-USD, ``None`` when it does not know the model or has no price for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            said = calc_price(
                genai_usage(usage), name, provider_id=provider, genai_request_timestamp=now, price_context=context
            )
        except LookupError:
            return None
    if all(price is None for price in said.model_price.__dict__.values()):
        return None
    return int((said.total_price * 10**9).quantize(Decimal(1), ROUND_HALF_UP))


def test_price_list__every_kind_of_price_on_it__has_a_class() -> None:
    keys = {key for provider in get_snapshot().providers for model in provider.models for key in _priced(model)}

    assert keys <= set(price_list.CLASS_OF)
    assert set(price_list.CLASS_OF.values()) == set(CLASSES)


def _priced(model: Any) -> set[str]:
    prices = [model.prices] if not isinstance(model.prices, list) else [each.prices for each in model.prices]
    return {key for each in prices for key, price in each.__dict__.items() if price is not None}


@pytest.mark.slow
def test_cost__every_name_on_the_list__to_the_nano_dollar_as_genai_prices() -> None:
    book().turn(12 * 3600)
    counts = itertools.count(199_000)
    differing = []
    for provider, name in references():
        usage = {"input": next(counts), "cached_input": 311, "output": 1_237, "reasoning": 17}
        ours = book().usage_cost_nusd(name, usage, provider=provider)
        if ours != theirs(name, usage, provider):
            differing.append((provider, name, ours, theirs(name, usage, provider)))

    assert differing == []


@pytest.mark.slow
@given(
    reference=st.deferred(lambda: st.sampled_from(references())),
    qualified=st.booleans(),
    usage=st.dictionaries(st.sampled_from(sorted(set(CLASSES) - {"requests"})), tokens, max_size=6),
    hour=st.integers(0, 23),
    context=st.sampled_from(
        [
            None,
            *(
                {key: value}
                for key, value in (
                    ("service_tier", "flex"),
                    ("service_tier", "priority"),
                    ("processing", "batch"),
                    ("speed", "fast"),
                )
            ),
        ]
    ),
)
@settings(max_examples=1500, deadline=None)
def test_cost__any_usage_of_any_model__to_the_nano_dollar_as_genai_prices(
    reference: tuple[str, str], qualified: bool, usage: dict[str, int], context: dict[str, str] | None, hour: int
) -> None:
    provider, name = reference
    at = provider if qualified else None

    now = NOW.replace(hour=hour)
    book().turn(hour * 3600)

    expected = theirs(name, usage, at, context, now)

    if expected is not None or qualified:  # without a provider we go on where they give up
        ours = book().usage_cost_nusd(name, usage, provider=at, context=tuple((context or {}).items()))
        assert ours == expected


@pytest.mark.parametrize("hour", range(24))
def test_cost__model_that_is_cheaper_at_night__by_the_hour(hour: int) -> None:
    usage = {"input": 1000, "cached_input": 10, "output": 100}
    book().turn(hour * 3600)

    costs = [book().usage_cost_nusd(name, usage) for name in ("deepseek-chat", "deepseek-reasoner", "deepseek-v4-pro")]

    now = NOW.replace(hour=hour)
    assert costs == [
        theirs(name, usage, None, None, now) for name in ("deepseek-chat", "deepseek-reasoner", "deepseek-v4-pro")
    ]


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("GPT-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("openai/gpt-4o", "gpt-4o"),
        ("anthropic/claude-sonnet-4-5", "claude-sonnet-4-5"),
    ],
)
def test_priced__dated_or_qualified_name__the_model_it_is_of(name: str, listed: str) -> None:
    assert book().priced(name) is not None
    assert book().priced(name) == book().priced(listed)


def test_listed__every_plain_name__costs_what_the_catalog_says_within_the_first_format() -> None:
    catalog = price_list.compiled(NOW)
    listed = price_list.listed(catalog)
    first_sdks = compile_price_book({"format": 1, "models": listed})
    whole = compile_price_book({"format": 1, "models": listed, "catalog": catalog})

    assert len(listed) > 2000
    for name in listed:
        priced = whole.priced(name)
        assert priced is not None
        if priced.flat.plus != priced.flat.unit // 2:
            continue  # there is a price per request, which the first format has no room for
        asked = {"input_tokens": 1_000_000, "cached_input_tokens": 1_000, "output_tokens": 1_000}
        told, exact = first_sdks.cost_nusd(name, **asked), whole.cost_nusd(name, **asked)
        assert told is not None
        assert exact is not None
        assert abs(told - exact) <= 1, name


def test_priced__name_of_a_cloud_that_no_maker_lists__found_by_the_clouds_patterns() -> None:
    found = book().priced("eu.anthropic.claude-sonnet-4-5-20250929-v1:0")

    assert found is not None
    assert found == book().priced("eu.anthropic.claude-sonnet-4-5-20250929-v1:0", provider="aws")

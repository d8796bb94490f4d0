"""The conformance vectors of sdk/conformance/price.json, and the laws behind them."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.price import PriceBook, compile_price_book, format_usd, parse_usd
from tidegate.core.rates import Rate, multiply_out

VECTORS = json.loads((Path(__file__).resolve().parents[3] / "conformance" / "price.json").read_text())
CALLS = [
    pytest.param(book["book"], call, id=f"{call['model']}-{number}")
    for book in VECTORS["books"]
    for number, call in enumerate(book["calls"])
]
prices = st.integers(0, 10**12)
tokens = st.integers(0, 10**7)
rates = st.builds(
    Rate,
    prices,
    st.dictionaries(tokens, prices, max_size=3).map(lambda tiers: tuple(sorted(tiers.items()))),
    st.just(9),
)


@pytest.mark.parametrize(("book", "call"), CALLS)
def test_cost__vector__as_every_sdk(book: dict[str, Any], call: dict[str, Any]) -> None:
    expected, asked = call["cost_nusd"], {key: value for key, value in call.items() if key != "cost_nusd"}

    assert compile_price_book(book).cost_nusd(**asked) == expected


@pytest.mark.parametrize("call", VECTORS["catalog"]["calls"], ids=lambda call: f"{call['model']} {call['usage']}")
def test_usage_cost__vector_of_a_catalog__as_every_sdk(call: dict[str, Any]) -> None:
    book = compile_price_book(VECTORS["catalog"]["book"])
    context = tuple(call.get("context", {}).items())
    book.turn(call.get("second", 0))

    cost = book.usage_cost_nusd(call["model"], call["usage"], provider=call.get("provider"), context=context)

    assert cost == call["cost_nusd"]
    if "unknown_nusd" in call:
        assert book.unknown.cost_nusd(call["model"], call["usage"]) == call["unknown_nusd"]


@pytest.mark.parametrize("given", VECTORS["free"], ids=str)
def test_free__vector__as_every_sdk(given: dict[str, Any]) -> None:
    """Free is what the book says costs nothing, whatever is used of it, and not what it does not know."""
    book = compile_price_book({"format": 1, "models": {}, "own": {"m": given["rates"]}, "unknown": {"policy": "allow"}})

    priced = book.priced(given["model"])

    assert (priced is not None and priced.free) is given["free"]


def test_free__at_some_times_of_the_day_alone__is_not() -> None:
    book = compile_price_book(VECTORS["catalog"]["book"])
    owl = book.priced("owl")

    assert owl is not None
    assert not owl._replace(flat=multiply_out({}).flat).free


def test_turn__the_hour_changes__what_was_found_is_looked_up_anew() -> None:
    book = compile_price_book(VECTORS["catalog"]["book"])

    costs = []
    for second in (0, 3600, 3601, 7200, 86_399, 3600):
        book.turn(second)
        costs.append(book.cost_nusd("owl", input_tokens=1, output_tokens=1))

    assert costs == [3000, 7000, 7000, 2000, 3000, 7000]


@pytest.mark.parametrize("part", VECTORS["catalog"]["refused"], ids=str)
def test_compile__malformed_catalog__refused(part: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^(catalog|own|unknown)"):
        compile_price_book({"format": 1, "models": {}, **part})


@pytest.mark.parametrize("counts", VECTORS["refused_calls"], ids=str)
@pytest.mark.parametrize("model", ["gpt-4o-mini", "no-such-model"])
def test_cost__counts_that_no_call_has__refused(model: str, counts: dict[str, int]) -> None:
    book = compile_price_book(VECTORS["books"][0]["book"])

    with pytest.raises(ValueError, match="Token counts"):
        book.cost_nusd(model, **counts)


@pytest.mark.parametrize("document", VECTORS["refused_books"], ids=str)
def test_compile__malformed_book__refused(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^(format|models)"):
        compile_price_book(document)


@given(whole=rates, cached=rates, output=rates, counts=st.tuples(tokens, tokens, tokens))
def test_cost__any_call__exact_sum_rounded_half_up_once(
    whole: Rate, cached: Rate, output: Rate, counts: tuple[int, int, int]
) -> None:
    fresh, from_cache, out = counts
    book = PriceBook({"m": {"input": whole, "cached_input": cached, "output": output}})

    cost = book.cost_nusd("m", input_tokens=fresh + from_cache, cached_input_tokens=from_cache, output_tokens=out)

    assert cost is not None
    at = fresh + from_cache
    exact = Fraction(fresh * whole.at(at) + from_cache * cached.at(at) + out * output.at(at), 10**6)
    assert -Fraction(1, 2) < cost - exact <= Fraction(1, 2)


@pytest.mark.parametrize("vector", VECTORS["usd"], ids=lambda vector: repr(vector["text"]))
def test_parse_usd__decimal_text__nano_dollars(vector: dict[str, Any]) -> None:
    assert parse_usd(vector["text"]) == vector["nusd"]


@pytest.mark.parametrize("text", [*VECTORS["refused_usd"], "9" * 10_000])
def test_parse_usd__not_an_amount__refused_with_the_reason(text: str) -> None:
    with pytest.raises(ValueError, match="An amount of dollars"):
        parse_usd(text)


@pytest.mark.parametrize("vector", VECTORS["formatted"], ids=lambda vector: vector["text"])
def test_format_usd__nano_dollars__shortest_exact_text(vector: dict[str, Any]) -> None:
    assert format_usd(vector["nusd"]) == vector["text"]


@given(st.integers(0, 10**18))
def test_format_usd__any_amount__parses_to_itself(nusd: int) -> None:
    assert parse_usd(format_usd(nusd)) == nusd

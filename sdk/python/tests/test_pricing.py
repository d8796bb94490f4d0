"""What calls are charged: by classes of usage, and when their model has no price."""

from __future__ import annotations

from typing import Any

import pytest

from sdk.python.tests.bench import Bench
from tidegate import Unpriced
from tidegate.core.price import compile_price_book
from tidegate.describing import nusd_of

CATALOG: dict[str, Any] = {
    "rates": [
        {
            "input": "1",
            "cached_input": "0.1",
            "cache_write": "1.25",
            "output": "5",
            "requests": "2",
            "variants": [[{"service_tier": "flex"}, {"output": "2.5"}]],
        }
    ],
    "providers": [{"id": "maker", "serves": {"starts_with": "chat-"}, "models": [[{"starts_with": "chat-9"}, 0]]}],
}
USAGE = {"input": 100, "cached_input": 50, "cache_write": 20, "output": 10, "reasoning": 7}
COST = 100_000 + 5_000 + 25_000 + 85_000 + 2_000_000


@pytest.fixture
def priced(bench: Bench) -> Bench:
    return _with(bench, {"policy": "estimate", "rates": {"input": "3", "output": "4"}})


def _with(bench: Bench, unknown: dict[str, Any], etag: str = "b1") -> Bench:
    document = {"format": 1, "models": {}, "catalog": CATALOG, "unknown": unknown}
    bench.book = compile_price_book(document, etag=etag)
    bench.publish()
    return bench


def test_record_usage__many_classes__priced_and_told_apart(priced: Bench) -> None:
    with priced.call(model="chat-9-20260101") as call:
        call.record_usage(USAGE)

    row = priced.row()
    assert row.cost_nusd == COST
    assert (row.input_tokens, row.cached_input_tokens, row.output_tokens) == (170, 50, 17)
    assert row.usage == {"cache_write": 20, "reasoning": 7}


def test_record_usage__context__selects_the_variant(priced: Bench) -> None:
    with priced.call(model="chat-9") as call:
        call.record_usage(USAGE, context=(("service_tier", "flex"),))

    assert priced.row().cost_nusd == COST - 17 * 2_500


def test_record_usage__what_no_call_uses__ignored(priced: Bench) -> None:
    with priced.call(model="chat-9") as call:
        call.record_usage({"inputs": 5})
        call.record_usage({"input": -1})

        assert call.usage is None


def test_record_usage__said_twice__the_last_word_counts(priced: Bench) -> None:
    with priced.call(model="chat-9") as call:
        call.record_usage(USAGE)
        call.record(input_tokens=1, output_tokens=0)

    assert priced.row().usage == {}
    assert priced.row().cost_nusd == 2_001_000


def test_windows__the_book_changes__costs_stay_with_the_prices_they_were_reckoned_by(priced: Bench) -> None:
    with priced.call(model="chat-9") as call:
        call.record(input_tokens=1)
    _with(priced, {"policy": "estimate", "rates": {"input": "3", "output": "4"}}, etag="b2")
    with priced.call(model="chat-9") as call:
        call.record(input_tokens=2)

    windows = priced.sync()[0]["windows"]

    assert [(window["book"], window["rows"][0]["input_tokens"]) for window in windows] == [("b1", 1), ("b2", 2)]


def test_unknown_model__estimate__charged_the_default_and_counted(priced: Bench) -> None:
    with priced.call(model="nobody-knows") as call:
        call.record_usage({"input": 10, "output": 10})

    assert priced.row().cost_nusd == 70_000
    assert priced.guard.unpriced_calls == 1
    assert priced.row().kinds["unpriced"] == 1


def test_unknown_model__allow__nothing_but_counted(bench: Bench) -> None:
    with _with(bench, {"policy": "allow"}).call(model="nobody-knows") as call:
        call.record(input_tokens=10, output_tokens=10)

    assert bench.row().cost_nusd == 0
    assert bench.guard.unpriced_calls == 1


def test_unknown_model__refuse__refused_unless_the_call_declares_its_cost(bench: Bench) -> None:
    _with(bench, {"policy": "refuse"})

    with pytest.raises(Unpriced) as refused, bench.call(model="nobody-knows"):
        pass
    with bench.call(model="nobody-knows", cost_usd="0.5") as declared, bench.call(model="chat-9"), bench.call():
        pass

    assert refused.value.blocked_by == "nobody-knows"
    assert bench.row().kinds["refused.unpriced"] == 1
    assert declared.total_cost == 500_000_000


def test_unknown_model__with_a_budget__held_at_the_default_price(priced: Bench) -> None:
    priced.budget("all")
    priced.fund(10**9, model="nobody-knows", input_tokens=10, max_output_tokens=100)

    with priced.call(model="nobody-knows", input_tokens=10, max_output_tokens=100) as call:
        assert call.bound == 30_000 + 400_000


@pytest.mark.parametrize(
    ("said", "nusd"), [("5e-05", 50_000), ("1.5E-3", 1_500_000), (5e-05, 50_000), ("0.25", 250_000_000)], ids=repr
)
def test_cost__as_python_writes_small_numbers__is_what_it_says(said: Any, nusd: int) -> None:
    assert nusd_of(said) == nusd


@pytest.mark.parametrize("said", ["1e400", "1e30", "-1e-3", "e5", "1e", "nan", float("inf"), "5e-10e"], ids=repr)
def test_cost__that_is_none__is_refused(said: Any) -> None:
    with pytest.raises(ValueError, match="dollars"):
        nusd_of(said)

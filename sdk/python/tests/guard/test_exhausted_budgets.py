"""Budgets that are used up: who is refused, who passes all the same, and when it is asked again."""

from __future__ import annotations

import pytest

import tidegate
from sdk.python.tests.bench import Bench
from sdk.python.tests.guard.spending import BOUND, COST, PRICED
from tidegate.core.price import compile_price_book
from tidegate.testing import DEFAULT_PRICES

FREE = compile_price_book({"format": 1, "models": {**DEFAULT_PRICES, "small": {"input": 0, "output": 0}}})


def exhausted(bench: Bench) -> None:
    """Have the budget of all calls be used up, and the free model known."""
    bench.book = FREE
    bench.budget("all")
    call = bench.call(**PRICED)
    bench.guard.advance(call)
    bench.sync(grant=0, denied="exhausted", blocked_by="acme/all", retry_after_ms=60_000)
    with pytest.raises(tidegate.BudgetExhausted):
        bench.guard.advance(call)


def test_budget__exhausted__refused_by_its_name_and_at_once_for_a_while(bench: Bench) -> None:
    bench.budget("all")
    call = bench.call(**PRICED)
    bench.guard.advance(call)
    bench.sync(grant=0, denied="exhausted", blocked_by="acme/all", retry_after_ms=60_000)

    with pytest.raises(tidegate.BudgetExhausted) as refused:
        bench.guard.advance(call)
    with pytest.raises(tidegate.BudgetExhausted):
        bench.guard.advance(bench.call(**PRICED))

    assert refused.value.blocked_by == "acme/all"
    assert refused.value.retry_after_s == pytest.approx(60)
    assert bench.sync()[0]["leases"][0]["denied"] == 2


def test_budget__exhausted__calls_of_a_model_that_the_book_has_for_nothing_pass(bench: Bench) -> None:
    exhausted(bench)

    with bench.call(model="small", input_tokens=400) as call:
        call.record(input_tokens=400, output_tokens=100)
    with pytest.raises(tidegate.BudgetExhausted):
        bench.guard.advance(bench.call(**PRICED))

    line = bench.sync()[0]["leases"][0]
    assert (line["settled"], line["held"], line["denied"]) == (0, 0, 2)


def test_budget__exhausted_and_the_model_unknown__refused_also_where_such_calls_cost_nothing(bench: Bench) -> None:
    bench.book = compile_price_book({"format": 1, "models": DEFAULT_PRICES, "unknown": {"policy": "allow"}})
    bench.budget("all")
    call = bench.call(model="never-heard-of", input_tokens=400)
    bench.guard.advance(call)
    bench.sync(grant=0, denied="exhausted", blocked_by="acme/all")

    with pytest.raises(tidegate.BudgetExhausted):
        bench.guard.advance(call)


def test_budget__free_call_that_another_model_has_answered__is_charged_what_that_costs(bench: Bench) -> None:
    exhausted(bench)

    with bench.call(model="small", input_tokens=400) as call:
        call.record(input_tokens=400, output_tokens=100, model="gpt-4o-mini")

    assert bench.sync()[0]["leases"][0]["settled"] == COST


def test_budget__never_funded__a_free_call_does_not_wait(bench: Bench) -> None:
    bench.book = FREE
    bench.budget("all")

    assert bench.guard.advance(bench.call(model="small", input_tokens=400)) is None


def test_budget__exhausted_but_others_give_back__asks_again_in_a_while_and_is_served(bench: Bench) -> None:
    bench.budget("all")
    call = bench.call(**PRICED)
    bench.guard.advance(call)
    bench.sync(grant=0, denied="exhausted", blocked_by="acme/all", recalling=True)
    pokes = bench.pokes

    assert bench.guard.advance(call) is not None  # it waits on, and does not ask at once
    assert bench.pokes == pokes
    bench.clock.advance(0.25)
    assert bench.guard.advance(call) is not None
    assert bench.pokes == pokes + 1
    bench.sync()

    assert bench.guard.advance(call) is None


def test_budget__exhausted_and_nothing_comes_back__is_refused_when_its_time_is_over(bench: Bench) -> None:
    bench.budget("all")
    call = bench.call(**PRICED)
    bench.guard.advance(call)
    for _ in range(5):
        bench.sync(grant=0, denied="exhausted", blocked_by="acme/all", recalling=True)
        assert bench.guard.advance(call) is not None
        bench.clock.advance(0.21)
    bench.sync(grant=0, denied="exhausted", blocked_by="acme/all", recalling=True)

    with pytest.raises(tidegate.BudgetExhausted):
        bench.guard.advance(call)


def test_sync__others_wait_for_what_calls_in_flight_hold__comes_sooner_until_nothing_is_left(bench: Bench) -> None:
    bench.budget("all")
    bench.fund(2 * BOUND, **PRICED)
    call = bench.call(**PRICED)
    bench.guard.advance(call)
    before = bench.guard.link.interval_s

    bench.sync(grant=0, cap=0)
    pressed = bench.guard.link.interval_s
    bench.guard.settle(call, None)
    bench.sync(grant=0, cap=0)

    assert (before, pressed) == (1.0, 0.25)
    assert bench.guard.link.interval_s == 1.0


def test_budget__exhausted_for_large_calls__small_ones_still_ask(bench: Bench) -> None:
    bench.budget("all")
    large = bench.call(**PRICED)
    bench.guard.advance(large)
    bench.sync(grant=0, denied="exhausted", blocked_by="acme/all")
    small = bench.call(cost_usd="0.0001")

    assert bench.guard.advance(small) is not None
    bench.sync()

    assert bench.guard.advance(small) is None


def test_budget__same_call_denied_again_and_again__asks_for_some_calls_not_for_everything(bench: Bench) -> None:
    bench.budget("all")
    bench.guard.advance(bench.call(**PRICED))
    bench.sync(grant=0, denied="exhausted", blocked_by="acme/all")

    for _ in range(1000):
        with pytest.raises(tidegate.BudgetExhausted):
            bench.guard.advance(bench.call(**PRICED))

    assert 32 * BOUND <= bench.sync(grant=0)[0]["leases"][0]["want"] <= 34 * BOUND

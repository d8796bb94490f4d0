"""Budgets in a guard: which calls they are of, what calls hold of them and what is settled."""

from __future__ import annotations

import pytest

import tidegate
from sdk.python.tests.bench import Bench
from sdk.python.tests.guard.spending import BOUND, COST, PRICED, Turned, fail, spend
from tidegate.caller import Caller


def test_budget__never_asked__waits_and_asks_at_once(bench: Bench) -> None:
    bench.budget("all")
    call = bench.call(**PRICED)

    assert bench.guard.advance(call) is not None
    assert bench.pokes == 1
    request, _ = bench.sync()

    assert request["leases"][0]["min_useful"] == BOUND
    assert request["leases"][0]["want"] >= BOUND
    assert bench.guard.advance(call) is None


def test_budget__held_and_settled__to_the_nano_dollar(bench: Bench) -> None:
    bench.budget("all")
    bench.fund(10 * BOUND, **PRICED)

    with bench.call(**PRICED) as call:
        assert call.slip is not None
        assert call.slip.lease.held == BOUND
        call.record(input_tokens=400, output_tokens=100)
    request, _ = bench.sync()

    line = request["leases"][0]
    assert (line["settled"], line["held"]) == (COST, 0)
    assert request["windows"][0]["rows"][0]["cost_nusd"] == COST


@pytest.mark.parametrize(
    ("error", "cost"),
    [(RuntimeError(), BOUND), (TimeoutError(), BOUND), (KeyboardInterrupt(), BOUND), (Turned(500), BOUND), (Turned(429), 0),
     (Turned(400), 0), (tidegate.RateLimited("nested"), 0)],
    ids=repr,
)  # fmt: skip
def test_budget__call_failed_without_a_record__presumed_billed_unless_it_was_turned_down(
    bench: Bench, error: BaseException, cost: int
) -> None:
    bench.budget("all")
    bench.fund(BOUND, **PRICED)

    fail(bench, error, **PRICED)

    request, _ = bench.sync()
    assert request["leases"][0]["settled"] == request["windows"][0]["rows"][0]["cost_nusd"] == cost


def test_budget__recorded_and_then_failed__the_record_counts(bench: Bench) -> None:
    def body() -> None:
        with bench.call(**PRICED) as call:
            call.record(cost_usd="0.000000007")
            raise RuntimeError

    bench.budget("all")
    bench.fund(BOUND, **PRICED)

    with pytest.raises(RuntimeError):
        body()

    assert bench.sync()[0]["leases"][0]["settled"] == 7


@pytest.mark.parametrize("part", ["session", "user"])
def test_budget__of_one_session_or_user__touched_by_its_calls_alone(bench: Bench, part: str) -> None:
    bench.budget("run", match={part: "one"})

    spend(bench, **{part: "two"})

    assert bench.guard.advance(bench.call(**{part: "one"})) is not None


@pytest.mark.parametrize("part", ["session", "user"])
def test_budget__of_one_session_or_user__does_not_pay_for_others_that_call_alike(bench: Bench, part: str) -> None:
    bench.budget("run", match={part: "one"})
    caller = Caller(bench.guard, bench.tracer)
    bench.fund(1000 * BOUND, **{part: "one"}, **PRICED)
    for who in [*["one"] * 40, "two"]:
        with caller.call("chat", **{part: who}, **PRICED) as call:
            call.record(input_tokens=400, output_tokens=100)
    bench.clock.advance(2)

    assert bench.sync()[0]["leases"][0]["settled"] == 40 * COST


def test_budget__only_warns__never_denies(bench: Bench) -> None:
    bench.budget("soft", on_exhausted="warn")

    for _ in range(3):
        spend(bench)

    assert bench.sync()[0]["leases"][0]["settled"] == 3 * COST


def test_budget__match__touched_by_the_calls_that_equal_it(bench: Bench) -> None:
    bench.budget("support", match={"category": "support"})

    spend(bench, category="sales")

    assert bench.guard.advance(bench.call(category="support")) is not None


def test_budget__cost_unknown__held_at_what_calls_here_did_cost_lately(bench: Bench) -> None:
    bench.budget("all")
    bench.fund(10 * BOUND)
    with bench.call() as unknown:
        assert unknown.bound == 1
        unknown.record(cost_usd="0.000300")

    with bench.call() as learned:
        assert learned.bound == 300_000
        learned.record(cost_usd="0.000001")

    bench.clock.advance(601)
    bench.fund(1)
    with bench.call() as forgotten:
        assert forgotten.bound == 1


def test_cost__model_without_a_price__a_high_price_and_counted(bench: Bench) -> None:
    bench.publish()
    with bench.call(model="nobody-knows") as call:
        call.record(input_tokens=1, output_tokens=1)
    with bench.call():
        pass

    assert bench.guard.unpriced_calls == 2
    assert bench.row().cost_nusd == 15_000 + 75_000

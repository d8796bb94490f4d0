"""Budgets in a guard: what is held, asked for and settled. No network, no sleeping: the clock is the test's."""

from __future__ import annotations

import pytest

import tidegate
from sdk.python.tests.bench import Bench
from sdk.python.tests.guard.spending import BOUND, COST, PRICED, Turned, fail, spend
from tidegate.call import Call
from tidegate.caller import Caller
from tidegate.core.price import compile_price_book
from tidegate.testing import DEFAULT_PRICES


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


def test_budget__server_unreachable__stale(bench: Bench) -> None:
    bench.budget("all")
    call = bench.call(**PRICED)
    bench.guard.advance(call)
    bench.exchange.request({}, {}, dropped_spans=0, closing=False)
    bench.exchange.failed(next_try_s=8)

    with pytest.raises(tidegate.Stale) as refused:
        bench.guard.advance(call)

    assert refused.value.retry_after_s == pytest.approx(8)
    assert refused.value.blocked_by == "acme/all"


def test_budget__no_answer_in_time__stale(bench: Bench) -> None:
    bench.budget("all")
    call = bench.call(**PRICED)
    assert bench.guard.advance(call) is not None
    bench.clock.advance(1.01)

    with pytest.raises(tidegate.Stale):
        bench.guard.advance(call)


def test_budget__lease_expired__not_spent_from_until_it_is_renewed(bench: Bench) -> None:
    bench.budget("all")
    bench.fund(10 * BOUND, **PRICED)
    bench.clock.advance(15.1)
    call = bench.call(**PRICED)

    assert bench.guard.advance(call) is not None
    bench.sync()

    assert bench.guard.advance(call) is None
    assert call.slip is not None
    assert call.slip.number == 1


def test_budget__period_over__a_new_lease_and_the_old_one_is_finished(bench: Bench) -> None:
    bench.budget("all")
    asking = bench.call(**PRICED)
    bench.guard.advance(asking)
    bench.sync(period_ms=5000)
    assert bench.guard.advance(asking) is None
    bench.clock.advance(5)

    late = bench.call(**PRICED)
    assert bench.guard.advance(late) is not None
    request, _ = bench.sync()
    assert [(line["number"], line["want"] > 0, line["final"]) for line in request["leases"]] == [
        (1, False, False),
        (2, True, False),
    ]
    assert bench.guard.advance(late) is None
    asking.settle(None, last=True)
    request, _ = bench.sync()
    assert [(line["number"], line["final"]) for line in request["leases"]] == [(1, True), (2, False)]
    request, _ = bench.sync()

    assert [line["number"] for line in request["leases"]] == [2]


def test_budget__server_closed_the_lease__a_new_one_and_costs_still_reach_the_old(bench: Bench) -> None:
    bench.budget("all")
    first = bench.call(**PRICED)
    bench.guard.advance(first)
    bench.sync()
    assert bench.guard.advance(first) is None
    bench.sync(closed=True, denied="closed")

    second = bench.call(**PRICED)
    assert bench.guard.advance(second) is not None
    first.record(input_tokens=400, output_tokens=100)
    first.settle(None, last=True)
    request, _ = bench.sync()

    assert [(line["number"], line["settled"], line["final"]) for line in request["leases"]] == [
        (1, COST, True),
        (2, 0, False),
    ]


def test_budget__cap__idle_rights_go_back_at_once(bench: Bench) -> None:
    bench.budget("all")
    bench.fund(10 * BOUND, **PRICED)

    _, answer = bench.sync(cap=0)
    request, _ = bench.sync(grant=0)

    assert answer.hurry
    assert request["leases"][0]["returned"] == 10 * BOUND


def test_budget__same_call_denied_again_and_again__asks_for_some_calls_not_for_everything(bench: Bench) -> None:
    bench.budget("all")
    bench.guard.advance(bench.call(**PRICED))
    bench.sync(grant=0, denied="exhausted", blocked_by="acme/all")

    for _ in range(1000):
        with pytest.raises(tidegate.BudgetExhausted):
            bench.guard.advance(bench.call(**PRICED))

    assert 32 * BOUND <= bench.sync(grant=0)[0]["leases"][0]["want"] <= 34 * BOUND


@pytest.mark.parametrize(
    ("one", "two", "goes_on"),
    [
        ({"on_disconnect": "finish_lease"}, {"on_disconnect": "finish_lease"}, True),
        ({"on_disconnect": "finish_lease"}, {"on_exhausted": "warn"}, True),
        ({"on_disconnect": "finish_lease"}, {"on_disconnect": "stop"}, False),
        ({"on_disconnect": "finish_lease"}, {}, False),
    ],
)
def test_budget__lease_expired__spent_to_its_end_where_every_budget_lets_it(
    bench: Bench, one: dict[str, str], two: dict[str, str], goes_on: bool
) -> None:
    bench.budget("one", **one)
    bench.budget("two", **two)
    bench.fund(2 * BOUND, **PRICED)
    bench.exchange.failed(next_try_s=3600)
    bench.clock.advance(600)

    for _ in range(2 if goes_on else 0):
        assert bench.guard.advance(bench.call(**PRICED)) is None
    with pytest.raises(tidegate.Stale):
        bench.guard.advance(bench.call(**PRICED))


def test_budget__never_funded__is_not_finished(bench: Bench) -> None:
    bench.budget("one", on_disconnect="finish_lease")
    bench.exchange.failed(next_try_s=3600)

    with pytest.raises(tidegate.Stale):
        bench.guard.advance(bench.call(**PRICED))


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


def test_budget__unused_for_long__lease_goes_back_and_is_closed(bench: Bench) -> None:
    bench.budget("all")
    bench.fund(10 * BOUND, **PRICED)
    bench.clock.advance(301)

    request, _ = bench.sync()

    assert request["leases"][0]["final"]
    assert not bench.guard.leases.slips


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


def waiting(bench: Bench) -> Call:
    """Return a call that waits for a budget of which the lease has a nano-dollar too little."""
    bench.budget("all")
    bench.fund(BOUND - 1, **PRICED)
    bench.clock.advance(0.1)
    call = bench.call(**PRICED)
    assert bench.guard.advance(call) is not None
    return call


def test_budget__slow_server__who_waits_is_not_refused_before_it_answers(bench: Bench) -> None:
    call = waiting(bench)

    bench.clock.advance(1.5)
    assert bench.guard.advance(call) is not None
    bench.clock.advance(2.0)
    bench.sync()

    assert bench.guard.advance(call) is None
    assert bench.row().kinds == {}


def test_budget__slow_server_answers_an_older_question__who_waits_is_not_refused_for_it(bench: Bench) -> None:
    bench.budget("all")
    bench.fund(BOUND - 1, **PRICED)
    bench.clock.advance(0.1)
    request, sent = bench.exchange.request({}, {}, dropped_spans=0, closing=False)
    bench.clock.advance(0.1)
    call = bench.call(**PRICED)
    assert bench.guard.advance(call) is not None

    bench.clock.advance(1.5)
    bench.exchange.answered(sent, bench.answer(request, grant=0))

    assert bench.guard.advance(call) is not None
    bench.sync()
    assert bench.guard.advance(call) is None


def test_budget__no_answer_for_long__stale_and_not_counted_as_denied_by_the_budget(bench: Bench) -> None:
    call = waiting(bench)
    bench.clock.advance(4.9)
    assert bench.guard.advance(call) is not None
    bench.clock.advance(0.2)

    with pytest.raises(tidegate.Stale, match="did not answer in time"):
        bench.guard.advance(call)
    request, _ = bench.sync()

    assert request["leases"][0]["denied"] == 0


def test_budget__no_answer_until_the_deadline__not_waited_for_longer(bench: Bench) -> None:
    bench.policy({"timeout_ms": 1200})
    call = waiting(bench)
    bench.clock.advance(1.3)

    with pytest.raises(tidegate.Stale):
        bench.guard.advance(call)


def test_budget__answered_without_room__refused_after_a_second(bench: Bench) -> None:
    call = waiting(bench)
    bench.clock.advance(0.5)
    bench.sync(grant=0)
    assert bench.guard.advance(call) is not None
    bench.clock.advance(0.6)

    with pytest.raises(tidegate.BudgetExhausted, match="no room for this call"):
        bench.guard.advance(call)

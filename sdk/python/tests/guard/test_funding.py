"""Calls that wait for a budget to be funded: how long, for which answer, and what ends it. The clock is the test's."""

from __future__ import annotations

import pytest

import tidegate
from sdk.python.tests.bench import Bench
from sdk.python.tests.guard.spending import BOUND, PRICED
from tidegate.call import Call


def waiting(bench: Bench) -> Call:
    """Return a call that waits for a budget of which the lease has a nano-dollar too little."""
    bench.budget("all")
    bench.fund(BOUND - 1, **PRICED)
    bench.clock.advance(0.1)
    call = bench.call(**PRICED)
    assert bench.guard.advance(call) is not None
    return call


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

"""What calls hold of budgets: the worst case where they are strict, what such calls used to need where not, more as they stream."""

from __future__ import annotations

from typing import Any

import pytest

from sdk.python.tests.bench import Bench
from tidegate import BudgetExhausted, Call
from tidegate.caller import Caller
from tidegate.core.outputs import LEAST
from tidegate.swift import SwiftCall

# $0.15 and $0.60 per million tokens: 150 and 600 nano-USD each.
INPUT, OUTPUT = 150, 600
MOST = 16_384
OPTIONS: dict[str, Any] = {"model": "gpt-4o-mini", "input_tokens": 100, "max_output_tokens": MOST}


@pytest.fixture
def lenient(bench: Bench) -> Bench:
    """A bench whose budget lets calls hold what such calls used to need; it has seen enough that needed 100 tokens."""
    bench.guard.warm_calls = 10**9
    bench.budget("all", strict=False)
    return _experienced(bench)


@pytest.fixture
def cutting(bench: Bench) -> Bench:
    bench.guard.warm_calls = 10**9
    bench.budget("all", strict=False, on_overrun="cut")
    return _experienced(bench)


def _experienced(bench: Bench) -> Bench:
    bench.fund(10**9, **OPTIONS)
    for _ in range(LEAST):
        with bench.call(**OPTIONS) as call:
            call.record(input_tokens=100, output_tokens=100)
    return bench


def _leave(bench: Bench, nusd: int) -> None:
    """Have the lease of the budget leave room for so much."""
    slip = next(iter(bench.guard.leases.slips.values()))
    lease = slip.lease
    slip.lease = lease._replace(returned=lease.returned + lease.room - nusd)


def _room(bench: Bench) -> int:
    return sum(slip.lease.room for slip in bench.guard.leases.slips.values())


def stream(call: Call, tokens: int, step: int = 10) -> int:
    """Say how a stream comes along until it has ``tokens``; return how far it got."""
    for seen in range(step, tokens + 1, step):
        try:
            call.progress(output_tokens=seen)
        except BudgetExhausted:
            return seen
    return tokens


def test_bound__strict_budget__the_worst_case_however_much_is_known(bench: Bench) -> None:
    bench.guard.warm_calls = 10**9
    bench.budget("all")
    _experienced(bench)

    with bench.call(**OPTIONS) as call:
        assert call.bound == 100 * INPUT + MOST * OUTPUT


def test_bound__one_strict_budget_of_two__the_worst_case(lenient: Bench) -> None:
    lenient.budget("strict")
    lenient.fund(10**9, **OPTIONS)

    with lenient.call(**OPTIONS) as call:
        assert call.bound == 100 * INPUT + MOST * OUTPUT


def test_bound__not_strict__what_such_calls_used_to_need(lenient: Bench) -> None:
    with lenient.call(**OPTIONS) as call:
        assert 100 * INPUT + 100 * OUTPUT <= call.bound <= 100 * INPUT + 102 * OUTPUT
    with lenient.call(model="gpt-4o-mini", input_tokens=100) as unbounded:
        assert unbounded.bound == call.bound
    with lenient.call(**{**OPTIONS, "max_output_tokens": 7}) as short:
        assert short.bound == 100 * INPUT + 7 * OUTPUT


def test_bound__not_strict_and_another_route__the_worst_case_until_enough_is_known(lenient: Bench) -> None:
    with lenient.call("other", **OPTIONS) as call:
        assert call.bound == 100 * INPUT + MOST * OUTPUT


def test_bound__swift_calls__hold_and_learn_the_same(bench: Bench) -> None:
    bench.budget("all", strict=False)
    bench.fund(10**12, **OPTIONS)
    caller = Caller(bench.guard, bench.tracer)
    swift = 0
    for number in range(500):
        bench.clock.advance(0.001)
        with caller.call("chat", **OPTIONS) as call:
            swift += isinstance(call, SwiftCall) and call.cell is not None
            call.record(input_tokens=100, output_tokens=100)
        if number == 400:
            call = caller.call("chat", **OPTIONS)
            with call:
                assert stream(call, 50) == 50
    assert swift > 100
    with caller.call("chat", **OPTIONS) as call:
        assert 100 * INPUT + 100 * OUTPUT <= call.bound <= 100 * INPUT + 102 * OUTPUT


def test_progress__more_than_it_holds__holds_more_before_it_comes(lenient: Bench) -> None:
    with lenient.call(**OPTIONS) as call:
        for seen in range(10, 2000, 10):
            call.progress(output_tokens=seen)
            assert call.bound >= 100 * INPUT + seen * OUTPUT
        call.record(input_tokens=100, output_tokens=1990)

    lease = next(iter(lenient.guard.leases.slips.values())).lease
    assert lease.held == 0
    assert call.total_cost == 100 * INPUT + 1990 * OUTPUT


def test_progress__nothing_left_and_the_budget_cuts__cut_before_it_costs_more(cutting: Bench) -> None:
    call = cutting.call(**OPTIONS)

    def run() -> None:
        with call:
            _leave(cutting, 50 * OUTPUT)
            for seen in range(10, MOST, 10):
                call.progress(output_tokens=seen)

    with pytest.raises(BudgetExhausted) as cut:
        run()

    assert cut.value.blocked_by == "acme/all"
    assert _room(cutting) >= 0
    assert 100 * INPUT + 100 * OUTPUT < call.total_cost <= 100 * INPUT + 152 * OUTPUT


def test_progress__nothing_left_and_the_budget_lets_finish__goes_on_in_debt(lenient: Bench) -> None:
    with lenient.call(**OPTIONS) as call:
        _leave(lenient, 50 * OUTPUT)
        assert stream(call, 1000) == 1000

    assert call.total_cost == 100 * INPUT + 1000 * OUTPUT
    assert _room(lenient) < 0


def test_progress__little_left__the_control_plane_is_asked_before_it_is_used_up(cutting: Bench) -> None:
    with cutting.call(**OPTIONS) as call:
        _leave(cutting, 0)
        pokes = cutting.pokes
        assert stream(call, 80) == 80
        assert cutting.pokes > pokes
        cutting.sync()
        assert stream(call, 200) == 200


@pytest.mark.parametrize("error", [GeneratorExit(), KeyboardInterrupt(), ConnectionError()])
def test_progress__caller_gives_up__charged_what_came(lenient: Bench, error: BaseException) -> None:
    call = lenient.call(**OPTIONS)
    call.__enter__()
    call.progress(output_tokens=30)

    call.__exit__(type(error), error, None)

    assert call.total_cost == 100 * INPUT + 30 * OUTPUT
    assert lenient.row().kinds["estimated"] == 1


def test_progress__and_then_recorded__the_record_counts(lenient: Bench) -> None:
    with lenient.call(**OPTIONS) as call:
        call.progress(output_tokens=30)
        call.record(input_tokens=100, output_tokens=25)

    assert call.total_cost == 100 * INPUT + 25 * OUTPUT
    assert "estimated" not in lenient.row().kinds


def test_progress__input_unknown__presumed_to_have_cost_all_it_may(lenient: Bench) -> None:
    call = lenient.call(model="gpt-4o-mini")
    call.__enter__()
    call.progress(output_tokens=30)

    call.__exit__(ConnectionError, ConnectionError(), None)

    assert call.total_cost == call.estimate


@pytest.mark.parametrize("said", [-1, 5, 10**10, True, "many"])
def test_progress__what_can_not_be__is_ignored(lenient: Bench, said: Any) -> None:
    with lenient.call(**OPTIONS) as call:
        call.progress(output_tokens=10)
        call.progress(output_tokens=said)

        assert call.seen == 10


def test_progress__no_budget_at_all__nothing_to_hold(bench: Bench) -> None:
    bench.publish()
    with bench.call(**OPTIONS) as call:
        assert stream(call, 1000) == 1000

    assert call.total_cost == 100 * INPUT + 1000 * OUTPUT


def test_progress__policy_only_watches__never_cut(cutting: Bench) -> None:
    cutting.policy({"enforcement": "shadow"})

    with cutting.call(**OPTIONS) as call:
        _leave(cutting, 0)
        assert stream(call, 1000) == 1000


def test_progress__no_room_for_more__the_next_sync_asks_as_for_a_call_that_waits(cutting: Bench) -> None:
    leases, times = cutting.guard.leases, {"now": cutting.clock.now(), "interval_s": 1.0}
    told = []
    with cutting.call(**OPTIONS) as call:
        _leave(cutting, 30 * OUTPUT)
        assert stream(call, 80) == 80
        for _ in range(2):
            lines = leases.lines(**times, boot=cutting.clock.boot(), closing=False)
            (line,) = leases.as_sent(lines, **times)
            told.append((line["waiting"], line["min_useful"]))

    assert 5 * OUTPUT < told[0][1] <= 20 * OUTPUT < told[0][0] <= 100 * OUTPUT
    assert told[1][0] == 0
    assert told[1][1] > 1000 * OUTPUT  # what such calls hold as a rule

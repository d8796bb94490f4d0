"""Usage that is said after its call has ended: nothing that was spent is lost, and nothing counts twice."""

from __future__ import annotations

from typing import Any

import pytest

import tidegate
from sdk.python.tests.bench import Bench
from sdk.python.tests.guard.spending import BOUND, COST, PRICED, Turned, fail
from tidegate.core.budget import Lease
from tidegate.early import EARLY_S
from tidegate.errors import Closed

PLENTY = 10 * BOUND


def lease_of(bench: Bench) -> Lease:
    (slip,) = bench.guard.leases.slips.values()
    return slip.lease


def ended(bench: Bench, output_tokens: int | None = None, **options: Any) -> tidegate.Call:
    """Return a call that is over, recorded or not."""
    with bench.call(**PRICED, **options) as call:
        if output_tokens is not None:
            call.record(input_tokens=400, output_tokens=output_tokens)
    return call


@pytest.fixture
def funded(bench: Bench) -> Bench:
    bench.budget("all")
    bench.fund(PLENTY, **PRICED)
    return bench


def test_record__more_after_the_call_has_ended__settled_as_well(funded: Bench) -> None:
    call = ended(funded, 100, user="u-1")
    room = lease_of(funded).room

    call.record(input_tokens=400, output_tokens=800)

    lease = lease_of(funded)
    assert (lease.settled, lease.corrected, lease.held) == (BOUND, 0, 0)
    assert lease.room == room - (BOUND - COST)
    row = funded.row()
    assert (row.calls, row.cost_nusd, row.input_tokens, row.output_tokens) == (1, BOUND, 400, 800)
    assert row.kinds == {"late": 1}
    window = funded.guard.report.window(funded.clock.wall_ms())
    assert window.users["acme", "u-1"] == (1, 1200, BOUND)


def test_record__less_than_was_presumed__corrected_and_no_room_for_what_may_be_spent_already(funded: Bench) -> None:
    call = ended(funded)
    room = lease_of(funded).room

    call.record(input_tokens=400, output_tokens=100)

    lease = lease_of(funded)
    assert (lease.settled, lease.corrected, lease.room) == (BOUND, BOUND - COST, room)
    row = funded.row()
    assert (row.cost_nusd, row.input_tokens, row.output_tokens) == (BOUND, 400, 100)
    assert row.kinds == {"late": 1, "late.corrected_nusd": BOUND - COST}
    request, _ = funded.sync()
    assert request["leases"][0]["corrected"] == BOUND - COST


def test_record__said_again_and_again__only_what_is_new_counts(funded: Bench) -> None:
    call = ended(funded)

    for output_tokens in (100, 100, 800, 800, 0, 100):
        call.record(input_tokens=400, output_tokens=output_tokens)
        lease = lease_of(funded)
        assert 0 <= lease.settled - lease.corrected == call.charged
    assert lease_of(funded).settled - lease_of(funded).corrected == COST


def test_record__a_provider_that_turned_the_call_down_bills_it_after_all__settled(funded: Bench) -> None:
    call = funded.call(**PRICED)
    with pytest.raises(Turned), call:
        raise Turned(400)
    assert lease_of(funded).settled == 0

    call.record_usage({"input": 400, "output": 60, "reasoning": 40})

    assert lease_of(funded).settled == COST
    assert funded.row().usage == {"reasoning": 40}


def test_record__each_attempt_settles_by_itself__the_last_one_is_amended(funded: Bench) -> None:
    call = funded.call(**PRICED)
    call.admit()
    call.settle(ConnectionError(), last=False)
    call.renew()
    call.admit()
    call.record(input_tokens=400, output_tokens=0)
    call.settle(None, last=True)

    call.record(input_tokens=400, output_tokens=100)

    assert lease_of(funded).settled == BOUND + COST
    assert call.total_cost == BOUND + COST


def test_record__lease_is_closed__more_is_settled_on_the_next_and_less_stays_charged(
    funded: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    dearer, cheaper = ended(funded, 100), ended(funded)
    first = lease_of(funded)
    funded.clock.advance(400)
    funded.sync()
    assert not funded.guard.leases.slips

    dearer.record(input_tokens=400, output_tokens=800)
    cheaper.record(input_tokens=400, output_tokens=100)
    request, _ = funded.sync()

    (line,) = request["leases"]
    assert first.settled == COST + BOUND
    assert (line["number"], line["settled"], line["corrected"], line["final"]) == (2, BOUND - COST, 0, True)
    assert "came too late" in caplog.text
    assert not funded.guard.leases.slips


def test_record__while_the_last_word_on_the_lease_is_on_its_way__it_is_said_once_more(funded: Bench) -> None:
    call = ended(funded, 100)
    request, sent = funded.exchange.request({}, {}, dropped_spans=0, closing=True)
    assert request["leases"][0]["final"]

    call.record(input_tokens=400, output_tokens=800)
    funded.exchange.answered(sent, funded.answer(request))
    request, _ = funded.sync(closing=True)

    assert (request["leases"][0]["settled"], request["leases"][0]["final"]) == (BOUND, True)
    assert not funded.guard.leases.slips


def test_record__gate_is_closed_and_everything_said__too_late(funded: Bench, caplog: pytest.LogCaptureFixture) -> None:
    call = ended(funded, 100)
    funded.guard.stop()
    funded.guard.presume()
    funded.sync(closing=True)

    call.record(input_tokens=400, output_tokens=800)

    assert "came too late" in caplog.text
    assert not funded.guard.leases.slips
    assert call.usage is not None
    assert call.usage.output_tokens == 100


def test_record__call_was_refused__ignored(funded: Bench, caplog: pytest.LogCaptureFixture) -> None:
    call = funded.call(**PRICED)
    funded.guard.stop()
    with pytest.raises(Closed):
        call.admit()

    call.record(input_tokens=400, output_tokens=100)

    assert "came too late" in caplog.text
    assert funded.row().cost_nusd == lease_of(funded).settled == 0


def test_record__in_a_forked_child__says_nothing_of_the_parents_call(
    funded: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    call = ended(funded, 100)
    funded.guard.reborn()

    call.record(input_tokens=400, output_tokens=800)

    assert "came too late" in caplog.text
    assert not funded.guard.leases.slips


def test_record__call_of_the_time_before_the_first_policy__booked_with_it(bench: Bench) -> None:
    call = ended(bench)
    assert bench.row().cost_nusd == 0

    call.record(input_tokens=400, output_tokens=100)
    bench.clock.advance(EARLY_S / 2)
    bench.budget("all")

    assert lease_of(bench).settled == bench.row().cost_nusd == COST
    call.record(input_tokens=400, output_tokens=800)
    assert lease_of(bench).settled == bench.row().cost_nusd == BOUND


def test_record__no_budget__counted_where_it_was_not_yet(bench: Bench) -> None:
    bench.policy({})
    call = ended(bench, 100)

    call.record(input_tokens=400, output_tokens=800)

    assert bench.row().cost_nusd == BOUND


def test_record__nobody_knew_what_such_calls_cost__the_next_ones_hold_that(bench: Bench) -> None:
    bench.budget("all")
    bench.fund(PLENTY)
    with bench.call() as call:
        pass

    call.record(cost_usd="0.002")

    with bench.call() as after:
        assert after.bound == 2_000_000


def test_fail__not_recorded_at_all__stays_presumed(funded: Bench) -> None:
    fail(funded, ConnectionError(), **PRICED)

    assert (lease_of(funded).settled, lease_of(funded).corrected) == (BOUND, 0)

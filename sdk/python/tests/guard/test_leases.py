"""Leases in a guard: how they expire, end, are closed and given back. The clock is the test's."""

from __future__ import annotations

import pytest

import tidegate
from sdk.python.tests.bench import Bench
from sdk.python.tests.guard.spending import BOUND, COST, PRICED


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


def test_budget__unused_for_long__lease_goes_back_and_is_closed(bench: Bench) -> None:
    bench.budget("all")
    bench.fund(10 * BOUND, **PRICED)
    bench.clock.advance(301)

    request, _ = bench.sync()

    assert request["leases"][0]["final"]
    assert not bench.guard.leases.slips

"""Credit comes to an end, and calls that are refused again and again."""

from __future__ import annotations

from typing import Any

import pytest

import tidegate
from sdk.python.tests.bench import Bench
from sdk.python.tests.lending.lender import BOUND, LIMIT, PRICED, Lender, books, in_threads
from tidegate import lending
from tidegate.swift import SwiftCall


def test_breaker__opens_while_there_is_credit__nobody_passes(lender: Lender) -> None:
    lender.policy({"breaker": {"min_calls": 4, "open_s": 20}})
    for _ in range(10):
        with lender.call():
            pass

    for _ in range(10):
        with pytest.raises(TimeoutError), lender.call():
            raise TimeoutError

    with pytest.raises(tidegate.BreakerOpen):
        lender.call().admit()
    assert lender.guard.breakers["chat", ""].provider.recent.tally()[:2] == (20, 10)


def test_policy__changes_while_there_is_credit__the_next_call_heeds_it(lender: Lender) -> None:
    lender.policy({})
    lender.swift().settle(None, last=True)

    lender.policy({"limits": [{**LIMIT, "amount": 1}]})
    with lender.call():
        pass

    with pytest.raises(tidegate.RateLimited):
        lender.call().admit()


def test_credit__older_than_it_may_be__asked_for_anew(lender: Lender) -> None:
    lender.policy({})
    decorated = lender.guarded(lambda: 1)
    for _ in range(5):
        decorated()
    lender.swift().settle(None, last=True)
    lender.clock.advance(1.5)

    assert decorated() == 1
    with lender.call():
        pass

    request, _ = lender.sync()
    assert sum(row["calls"] for window in request["windows"] for row in window["rows"]) == 5 + 2 + 2
    assert books(lender)["in flight"] == 0


@pytest.mark.usefixtures("few_at_a_time", "plenty")
def test_credit__many_calls_ended__counted_while_the_loan_lasts(lender: Lender) -> None:
    lender.policy({"limits": [{**LIMIT, "amount": 10**6, "burst": 10**6}]})
    lender.budget("all")
    lender.fund(10**6 * BOUND, **PRICED)
    decorated = lender.guarded(lambda: 1, **PRICED)
    while not lender.guard.active or max(cell.reserve for cell in lender.guard.active) < 100:
        decorated()
    (cell,) = [cell for cell in lender.guard.active if cell.reserve >= 100]
    counted, given = cell.harvested, cell.given

    for _ in range(90):
        decorated()

    assert cell.harvested >= counted + 40
    assert cell.given == given + 2 * lending.STEP
    assert cell.in_flight == cell.credit + len(cell.loan.times)  # no call is under way, and all was paid by one loan
    assert books(lender)["in flight"] == 0


def test_credit__called_back_before_anybody_used_it__half_as_much_is_lent_next(lender: Lender) -> None:
    lender.policy({})
    lender.swift().settle(None, last=True)
    (cell,) = lender.guard.active
    lent = cell.chunk
    lender.clock.advance(0.02)
    with lender.guard.lock:
        cell.used = 0
        lender.guard.gather()
    cell.used = 0

    lender.call().admit()
    assert cell.chunk == lent // 2

    lender.clock.advance(0.2)
    with lender.guard.lock:
        lender.guard.gather()
    cell.used = 0
    lender.call().admit()
    assert cell.chunk == 0  # in so long a time somebody would have come


def test_lease__expires_while_there_is_credit__not_spent_from(lender: Lender) -> None:
    lender.budget("all")
    lender.fund(100 * BOUND, **PRICED)
    lender.clock.advance(14.5)
    lender.swift(**PRICED).settle(None, last=True)
    lender.clock.advance(0.6)

    call = lender.call(**PRICED)

    assert isinstance(call, SwiftCall)
    assert not call._taken()
    assert lender.guard.advance(call.own()) is not None


def test_queue__somebody_waits__a_swift_call_that_ends_lets_him_run(lender: Lender) -> None:
    lender.policy({"queue": {"max_concurrent": 8, "max_waiting": 5, "max_wait_ms": 10_000}})
    running = [lender.swift() for _ in range(8)]
    waiting = lender.call(priority=3)
    assert lender.guard.advance(waiting) is not None

    running[3].settle(None, last=True)

    assert lender.guard.advance(waiting) is None
    assert books(lender)["running"] == {("acme", "chat"): 8}


def test_closed__while_there_is_credit__refused(lender: Lender) -> None:
    lender.policy({})
    lender.swift().settle(None, last=True)

    lender.guard.stop()

    with pytest.raises(tidegate.Refused, match="closed"):
        lender.call().admit()


@pytest.mark.parametrize("options", [{}, PRICED, {"user": "u"}], ids=["plain", "priced", "user"])
def test_presume__swift_calls_in_flight__settled_at_their_bounds_once(lender: Lender, options: dict[str, Any]) -> None:
    lender.budget("all")
    lender.fund(100 * BOUND, **PRICED)
    calls = [lender.swift(**options) for _ in range(3)]

    lender.guard.stop()
    lender.guard.presume()
    for call in calls:
        call.settle(None, last=True)
    found = books(lender)

    (row,) = found["rows"].values()
    assert row["kinds"] == {"cancelled": 3}
    assert row["calls"] == 4
    assert next(iter(found["leases"].values())).held == 0
    assert row["cost_nusd"] == next(iter(found["leases"].values())).settled == (4 * BOUND if "model" in options else 0)


def test_reborn__swift_call_of_the_parent_process__settles_nothing_in_the_child(lender: Lender) -> None:
    lender.policy({})
    call = lender.swift()

    lender.guard.reborn()
    call.settle(None, last=True)
    lender.call().admit()

    assert books(lender)["in flight"] == 1
    assert lender.row().calls == 0


def test_users__with_budgets_of_their_own__each_call_asks(lender: Lender) -> None:
    lender.budget("of-u", match={"user": "u"})

    with lender.call(user="v"):
        pass

    assert not isinstance(lender.call(user="v"), SwiftCall)


def refusals(bench: Bench, times: int, **options: Any) -> list[tidegate.Refused]:
    heard = []
    for _ in range(times):
        try:
            with bench.call(**options):
                pass
        except tidegate.Refused as refusal:
            heard.append(refusal)
    return heard


def test_refused__by_a_limit__said_at_once_and_counted_until_there_is_room(lender: Lender) -> None:
    lender.policy({"limits": [{"unit": "requests", "amount": 2, "per_s": 10}]})
    lender.sync(shares=[{"tenant": "acme", "route": "chat", "unit": "requests", "share": 1.0}])

    heard = refusals(lender, 12)
    lender.clock.advance(2)
    heard += refusals(lender, 1)

    assert [type(each) for each in heard] == [tidegate.RateLimited] * 11
    assert heard[5].blocked_by == "acme/chat requests"
    assert (heard[5].retry_after_s, heard[10].retry_after_s) == (pytest.approx(5), pytest.approx(3))
    books(lender)
    assert lender.guard.lane("acme", "chat").unmet["requests"] == 13
    request, _ = lender.sync()
    assert sum(row["refused"] for window in request["windows"] for row in window["rows"]) == 11
    lender.clock.advance(3)
    assert not refusals(lender, 1)


def test_refused__room_comes_back_early__found_at_once(lender: Lender) -> None:
    lender.policy(
        {"limits": [{**LIMIT, "amount": 1}], "queue": {"max_concurrent": 1, "max_waiting": 1, "max_wait_ms": 5000}}
    )
    waiting = lender.call(priority=1)
    lender.guard.lane("acme", "chat").line.running += 1
    assert lender.guard.advance(waiting) is not None
    assert len(refusals(lender, 3)) == 3
    lender.guard.lane("acme", "chat").line.running -= 1

    lender.guard.abandon(waiting)

    assert not refusals(lender, 1)


def test_refused__by_an_open_breaker__until_it_probes(lender: Lender) -> None:
    lender.policy({"breaker": {"min_calls": 2, "open_s": 5, "half_open_calls": 1}})
    for _ in range(2):
        with pytest.raises(TimeoutError), lender.call():
            raise TimeoutError

    heard = refusals(lender, 10)

    assert {type(each) for each in heard} == {tidegate.BreakerOpen}
    books(lender)
    assert lender.guard.breakers["chat", ""].provider.refused == 10
    lender.clock.advance(5)
    assert not refusals(lender, 3)


def test_refused__budget_exhausted__asked_for_as_if_each_had_asked(lender: Lender) -> None:
    asking = Bench()
    for bench in (asking, lender):
        bench.budget("all")
        bench.guard.advance(bench.call(cost_usd="0.001"))
        bench.sync(grant=0, denied="exhausted", blocked_by="acme/all", retry_after_ms=60_000)
    decorated = lender.guarded(lambda: 1, cost_usd="0.002")

    for _ in range(50):
        with pytest.raises(tidegate.BudgetExhausted):
            decorated()
        with pytest.raises(tidegate.BudgetExhausted):
            asking.guard.advance(asking.call(cost_usd="0.002"))

    lines = [bench.sync(grant=0)[0]["leases"][0] for bench in (asking, lender)]
    assert lines[0] == lines[1]
    assert lines[1]["denied"] == 50


@pytest.mark.usefixtures("switching")
def test_refused__in_threads__each_counted_once(lender: Lender) -> None:
    lender.policy({"limits": [{**LIMIT, "amount": 1}]})

    in_threads(lambda _: refusals(lender, 500) and None)

    (row,) = books(lender)["rows"].values()
    assert (row["calls"], row["refused"], row["kinds"]) == (1, 3999, {"refused.rate_limited": 3999})

"""Limits: what a refusal says and gives back, shares of a fleet. No network, no sleeping: the clock is the test's."""

from __future__ import annotations

import pytest

import tidegate
from sdk.python.tests.bench import Bench
from sdk.python.tests.guard.spending import spend


def test_limit__used_up__refused_with_what_and_when(bench: Bench) -> None:
    bench.policy({"limits": [{"unit": "requests", "amount": 2, "per_s": 10, "scope": "instance"}]})
    for _ in range(2):
        spend(bench)

    with pytest.raises(tidegate.RateLimited) as refused:
        bench.call().admit()

    assert refused.value.blocked_by == "acme/chat requests"
    assert refused.value.retry_after_s == pytest.approx(5.0)
    assert bench.row().refused == 1
    assert bench.row().calls == 2
    bench.clock.advance(5.0)
    spend(bench)


def test_limit__tokens__corrected_when_the_truth_is_known(bench: Bench) -> None:
    bench.policy({"limits": [{"unit": "tokens", "amount": 1500, "per_s": 60, "scope": "instance"}]})

    spend(bench)  # an estimate of 1200 turns out as 500
    with bench.call(input_tokens=500, max_output_tokens=500):
        pass

    with pytest.raises(tidegate.RateLimited):
        bench.call(input_tokens=1, max_output_tokens=0).admit()


def test_limit__two_of_them__the_first_gets_back_what_the_second_refused(bench: Bench) -> None:
    limits = [
        {"unit": "requests", "amount": 2, "scope": "instance"},
        {"unit": "tokens", "amount": 100, "scope": "instance"},
    ]
    bench.policy({"limits": limits})
    with bench.call(input_tokens=99):
        pass
    with pytest.raises(tidegate.RateLimited, match="tokens"):
        bench.call(input_tokens=100).admit()

    with bench.call(input_tokens=1):
        pass

    with pytest.raises(tidegate.RateLimited, match="requests"):
        bench.call().admit()


def test_limit__fleet_without_a_share__a_tenth_of_it(bench: Bench) -> None:
    bench.policy({"limits": [{"unit": "requests", "amount": 100, "scope": "fleet"}]})

    for _ in range(10):
        spend(bench)

    with pytest.raises(tidegate.RateLimited):
        bench.call().admit()


def test_limit__fleet_with_a_share__the_share_of_it_and_demand_is_said(bench: Bench) -> None:
    bench.policy({"limits": [{"unit": "requests", "amount": 100, "per_s": 100, "scope": "fleet"}]})
    bench.call().admit()
    bench.sync(shares=[{"tenant": "acme", "route": "chat", "unit": "requests", "share": 0.5, "ttl_ms": 600_000}])

    bench.clock.advance(100)
    for _ in range(50):
        spend(bench)
    with pytest.raises(tidegate.RateLimited):
        bench.call().admit()
    request, _ = bench.sync()

    assert request["demand"][0]["per_s"] == pytest.approx(0.51, rel=0.05)


def test_limit__fleet_share_grows__nothing_was_earned_under_it_before(bench: Bench) -> None:
    share = {"tenant": "acme", "route": "chat", "unit": "requests", "ttl_ms": 600_000}
    bench.policy({"limits": [{"unit": "requests", "amount": 100, "per_s": 100, "scope": "fleet"}]})
    bench.call().admit()
    bench.sync(shares=[{**share, "share": 0.1}])
    bench.clock.advance(100)

    bench.sync(shares=[{**share, "share": 0.9}])
    for _ in range(10):
        spend(bench)

    with pytest.raises(tidegate.RateLimited):
        bench.call().admit()


@pytest.mark.parametrize(("given", "then"), [(0.02, 0.02), (0.5, 0.1)])
def test_limit__fleet_share_expires__no_more_than_a_tenth(bench: Bench, given: float, then: float) -> None:
    share = {"tenant": "acme", "route": "chat", "unit": "requests", "ttl_ms": 10_000}
    bench.policy({"limits": [{"unit": "requests", "amount": 1000, "per_s": 100, "scope": "fleet"}]})
    bench.call().admit()
    bench.sync(shares=[{**share, "share": given}])
    assert bench.guard.lane("acme", "chat").part("requests") == given

    bench.clock.advance(10)
    bench.call().admit()

    assert bench.guard.lane("acme", "chat").part("requests") == then
    assert bench.sync()[0]["demand"][0]["share"] == 0.0


def test_limit__fleet_share_shrinks__acknowledged_at_once(bench: Bench) -> None:
    share = {"tenant": "acme", "route": "chat", "unit": "requests"}
    bench.policy({"limits": [{"unit": "requests", "amount": 600, "per_s": 60, "scope": "fleet"}]})
    bench.call().admit()
    _, first = bench.sync(shares=[{**share, "share": 1.0}])

    _, second = bench.sync(shares=[{**share, "share": 0.5}])
    request, _ = bench.sync()

    assert (first.hurry, second.hurry) == (False, True)
    assert (request["demand"][0]["share"], request["demand"][0]["capacity"]) == (0.5, 10.0)


def test_limit__fleet_and_never_asked__asks_for_a_share_at_once_and_once(bench: Bench) -> None:
    bench.policy({"limits": [{"unit": "requests", "amount": 600, "per_s": 60, "scope": "fleet"}]})

    spend(bench)
    spend(bench)

    assert bench.pokes == 1

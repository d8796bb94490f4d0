"""Breakers that time calls on credit, and releases that such calls belong to."""

from __future__ import annotations

from typing import Any

import pytest

import tidegate
from sdk.python.tests.lending.lender import LIMIT, PRICED, RELEASED, Lender, books
from tidegate.core.breaker import View
from tidegate.swift import SwiftCall

EXAMPLE: dict[str, Any] = {
    "limits": [{"unit": "requests", "amount": 600, "per_s": 60, "burst": 600, "scope": "fleet"},
               {"unit": "tokens", "amount": 900_000, "per_s": 60, "scope": "fleet"}],
    "queue": {"max_concurrent": 16, "max_waiting": 64, "max_wait_ms": 2000},
    "breaker": {"window_s": 30, "min_calls": 20, "failure_rate": 0.5, "slow_call_ms": 10_000, "slow_call_rate": 0.8,
                "open_s": 20, "half_open_calls": 3, "mode": "auto"},
    "retry": {"max_attempts": 3, "base_ms": 200, "max_ms": 8000, "jitter": "full", "budget_ratio": 0.2},
    "timeout_ms": 30_000,
    "fallbacks": [{"route": "chat-small"}, {"value": {"text": "We are busy, please try again."}}],
    "enforcement": "enforce",
}  # fmt: skip
TIMED = {"min_calls": 4, "failure_rate": 0.5, "slow_call_ms": 1000, "slow_call_rate": 0.5, "open_s": 5}


@pytest.mark.usefixtures("plenty")
def test_policy__with_all_its_parts__calls_pass_on_credit(lender: Lender) -> None:
    lender.policy(EXAMPLE)
    lender.budget("all")
    lender.fund(10**9, **PRICED)
    swift = 0

    for _ in range(40):
        call = lender.call(**PRICED)
        with call:
            call.record(input_tokens=400, output_tokens=100)
            swift += isinstance(call, SwiftCall) and call.cell is not None

    assert swift > 20
    assert sum(row["calls"] for row in books(lender)["rows"].values()) == 40


def test_breaker__slow_calls_on_credit__opens_when_they_end(lender: Lender) -> None:
    lender.policy({"breaker": TIMED})
    calls = [lender.swift() for _ in range(4)]
    lender.clock.advance(1.5)

    for call in calls:
        call.settle(None, last=True)

    provider = lender.guard.breakers["chat", ""].provider
    assert provider.phase == "open"
    assert "calls took longer than 1000 ms" in provider.cause
    with pytest.raises(tidegate.BreakerOpen):
        lender.call().admit()


def test_breaker__calls_on_credit_that_hang__opens_before_any_ends(lender: Lender) -> None:
    lender.policy({"breaker": TIMED})
    calls = [lender.swift() for _ in range(12)]
    lender.clock.advance(1.1)

    with pytest.raises(tidegate.BreakerOpen) as refused:
        lender.call().admit()

    assert "of them still hang" in str(refused.value)
    for call in calls:
        call.settle(None, last=True)  # late, and of no consequence
    assert lender.guard.in_flight == 0
    assert lender.guard.breakers["chat", ""].provider.phase == "open"


def test_breaker__some_hang_while_others_come_and_go__counted_as_slow_until_they_end(lender: Lender) -> None:
    lender.policy({"breaker": {**TIMED, "slow_call_rate": 1.0}})
    hanging = [lender.swift() for _ in range(3)]
    for _ in range(30):
        lender.clock.advance(0.1)
        lender.swift().settle(None, last=True)

    assert view(lender).hung == 3

    for call in hanging:
        call.settle(None, last=True)
    assert (view(lender).hung, view(lender).slow) == (0, 3)


def test_breaker__call_on_credit_asked_for_its_traceparent__hangs_as_any_other(lender: Lender) -> None:
    lender.policy({"breaker": TIMED})
    call = lender.swift()
    lender.clock.advance(0.6)
    assert call.traceparent
    lender.clock.advance(0.6)

    assert view(lender).hung == 1
    call.settle(None, last=True)
    assert (view(lender).hung, view(lender).slow) == (0, 1)


def view(lender: Lender) -> View:
    with lender.guard.lock:
        lender.guard.gather()
    circuit = lender.guard.breakers["chat", ""]
    return circuit.provider.view(circuit.rule, lender.clock.now())


def test_release__the_same_for_every_request__on_credit_and_counted_in_its_arm(lender: Lender) -> None:
    lender.deployments["assistant"] = RELEASED
    lender.publish()
    asked = 0
    call = lender.swift()
    assert (call.release, call.config) == ("1", {"m": "a"})
    call.settle(None, last=True)
    for _ in range(20):
        with lender.call() as call:
            call.record(cost_usd="0.001")
            asked += isinstance(call, SwiftCall) and call.cell is not None
    rated = lender.swift()
    rated.rate(0.5)
    rated.settle(None, last=True)

    (row,) = books(lender)["arms"].values()

    assert asked > 10
    assert row["calls"] == row["units"] == sum(each["calls"] for each in books(lender)["rows"].values())
    assert (row["cost_nusd"], row["scored"], row["loss_ppm"]) == (20 * 1_000_000, 1, 500_000)


def test_release__another_one_is_published_while_there_is_credit__the_next_call_gets_it(lender: Lender) -> None:
    lender.deployments["assistant"] = RELEASED
    lender.publish()
    lender.swift().settle(None, last=True)

    lender.deployments["assistant"] = {**RELEASED, "stable": "new"}
    lender.publish()

    for _ in range(20):
        with lender.call() as call:
            assert call.release == "2"


def test_release__a_rollout_begins__each_call_asks(lender: Lender) -> None:
    rings = [{"share": 500_000, "tenants": [], "users": [], "regions": []}]
    lender.deployments["assistant"] = {**RELEASED, "candidate": "new", "rings": rings}
    lender.publish()

    for _ in range(20):
        with lender.call() as call:
            assert not isinstance(call, SwiftCall)


def test_release__refused_again_and_again__counted_in_its_arm(lender: Lender) -> None:
    lender.deployments["assistant"] = RELEASED
    lender.policy({"limits": [{**LIMIT, "amount": 1, "per_s": 3600}]})
    lender.call().admit()

    for _ in range(10):
        with pytest.raises(tidegate.RateLimited):
            lender.call().admit()

    (row,) = books(lender)["arms"].values()
    assert (row["refused"], row["refusing"], row["asked"]) == (10, 10, 10)
    assert sum(each["refused"] for each in books(lender)["rows"].values()) == 10

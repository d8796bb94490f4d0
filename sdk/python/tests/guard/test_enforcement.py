"""What only watches or is off, and a policy that comes late or changes."""

from __future__ import annotations

from typing import Any

import pytest

import tidegate
from sdk.python.tests.bench import Bench
from sdk.python.tests.guard.spending import COST, fail, spend
from tidegate.running import run


def test_shadow__calls_that_would_have_been_refused__summed_once_with_what_they_cost(bench: Bench) -> None:
    limits = [
        {"unit": "requests", "amount": 1, "scope": "instance"},
        {"unit": "tokens", "amount": 1, "scope": "instance"},
    ]
    bench.policy({"limits": limits, "enforcement": "shadow"})

    spend(bench)
    spend(bench)
    spend(bench)

    kinds = bench.row().kinds
    assert (kinds["shadow.rate_limited"], kinds["shadow.calls"], kinds["shadow.cost_nusd"]) == (2, 2, 2 * COST)
    assert (bench.row().calls, bench.row().refused) == (3, 0)


def test_shadow__one_limit_only_watches__the_others_hold(bench: Bench) -> None:
    watched = {"unit": "requests", "amount": 1, "scope": "instance", "enforcement": "shadow"}
    bench.policy({"limits": [watched, {"unit": "requests", "amount": 2, "scope": "instance"}]})
    spend(bench)
    spend(bench)

    with pytest.raises(tidegate.RateLimited, match="limit of 2"):
        bench.call().admit()

    assert bench.row().kinds == {
        "shadow.rate_limited": 2,
        "shadow.calls": 1,
        "shadow.cost_nusd": COST,
        "refused.rate_limited": 1,
    }


def test_shadow__breaker_only_counts__calls_that_it_would_have_refused_are_told(bench: Bench) -> None:
    bench.policy({"breaker": {"min_calls": 4, "mode": "metrics_only"}})
    for _ in range(4):
        fail(bench, TimeoutError())

    spend(bench, model=None)

    assert bench.row().kinds["shadow.breaker_open"] == bench.row().kinds["shadow.calls"] == 1


def test_shadow__call_is_tried_again__counted_once(bench: Bench) -> None:
    bench.policy(
        {
            "limits": [{"unit": "requests", "amount": 1, "scope": "instance", "enforcement": "shadow"}],
            "retry": {"max_attempts": 3, "base_ms": 0, "max_ms": 0},
        }
    )
    spend(bench)

    def body(call: Any) -> None:
        if call.attempts < 3:
            raise TimeoutError

    run(bench.plan(), "chat", body)

    assert bench.row().kinds["shadow.rate_limited"] == bench.row().kinds["shadow.calls"] == 1


def test_warning_budget__spent__calls_pass_and_are_counted_with_what_they_cost(bench: Bench) -> None:
    bench.budget("all", on_exhausted="warn")
    spend(bench)
    bench.sync()
    spend(bench)
    assert "shadow.calls" not in bench.row().kinds

    bench.sync(warned_by="acme/all")
    spend(bench)
    spend(bench)

    kinds = bench.row().kinds
    assert (kinds["shadow.budget_exhausted"], kinds["shadow.calls"], kinds["shadow.cost_nusd"]) == (2, 2, 2 * COST)
    bench.sync()
    spend(bench)
    assert "shadow.calls" not in bench.row().kinds


def test_warning_budget__spent_and_the_policy_off__nothing_is_counted(bench: Bench) -> None:
    bench.policy({"enforcement": "off"})
    bench.budget("all", on_exhausted="warn")
    spend(bench)
    bench.sync(warned_by="acme/all")

    spend(bench)

    assert bench.row().kinds == {}


def test_shadow__everything_would_refuse__passes_and_is_counted(bench: Bench) -> None:
    bench.budget("all")
    limits = [{"unit": "requests", "amount": 1, "per_s": 1000, "scope": "instance"}]
    bench.policy({"limits": limits, "breaker": {"mode": "forced_open"}, "enforcement": "shadow"})
    spend(bench)
    bench.sync(grant=0, denied="exhausted", blocked_by="acme/all")

    spend(bench)

    assert bench.sync()[0]["windows"][0]["rows"][0]["kinds"] == {
        "shadow.breaker_open": 1,
        "shadow.rate_limited": 1,
        "shadow.budget_exhausted": 1,
        "shadow.calls": 1,
        "shadow.cost_nusd": COST,
    }
    assert next(iter(bench.guard.leases.slips.values())).lease.settled == 2 * COST


def test_off__everything_would_refuse__passes_uncounted_and_accounted(bench: Bench) -> None:
    bench.budget("all")
    limits = [{"unit": "requests", "amount": 1, "scope": "instance"}]
    queue = {"max_concurrent": 1, "max_waiting": 0}
    bench.policy({"limits": limits, "queue": queue, "breaker": {"mode": "forced_open"}, "enforcement": "off"})
    bench.call().admit()

    for _ in range(3):
        spend(bench)

    assert bench.row().kinds == {}
    assert bench.row().calls == 3
    assert next(iter(bench.guard.leases.slips.values())).lease.settled == 3 * COST


def test_no_policy_yet__passes_ungoverned_and_is_counted_in_time(bench: Bench) -> None:
    spend(bench)
    assert bench.sync()[0]["windows"] == []

    bench.clock.advance(61)
    request, _ = bench.sync()

    assert [row["calls"] for window in request["windows"] for row in window["rows"]] == [1]


def test_first_policy__calls_of_the_time_before__counted_at_its_prices_and_owed(bench: Bench) -> None:
    spend(bench, tenant=None)
    bench.budget("all")

    request, _ = bench.sync()

    rows = [row for window in request["windows"] for row in window["rows"]]
    assert [(row["tenant"], row["cost_nusd"]) for row in rows] == [("acme", COST)]
    assert [(line["settled"], line["held"]) for line in request["leases"]] == [(COST, 0)]


def test_follow__a_new_snapshot__windows_buckets_and_permits_stay(bench: Bench) -> None:
    policy: dict[str, Any] = {
        "limits": [{"unit": "requests", "amount": 6, "per_s": 60, "scope": "instance"}],
        "queue": {"max_concurrent": 2, "max_waiting": 0, "max_wait_ms": 0},
        "breaker": {"min_calls": 4, "failure_rate": 0.5},
    }
    bench.policy(policy)
    with pytest.raises(RuntimeError), bench.call():
        raise RuntimeError
    one, other = bench.call(), bench.call()
    one.admit()
    other.admit()

    bench.policy({**policy, "timeout_ms": 7000})

    with pytest.raises(tidegate.QueueFull):  # both places are taken still
        bench.call().admit()
    one.settle(None, last=True)
    other.settle(None, last=True)
    circuit = bench.guard.breakers["chat", ""]
    assert (circuit.provider.recent.calls, circuit.provider.recent.failures) == (3, 1)
    for _ in range(2):
        with bench.call() as call:
            assert call.timeout_s == 7.0
    bench.call().admit()  # the sixth of six: who found no place gave his back
    with pytest.raises(tidegate.RateLimited):
        bench.call().admit()

"""Calls on credit in threads: never more than is allowed, every nano-dollar counted once."""

from __future__ import annotations

import threading

import pytest

import tidegate
from sdk.python.tests.lending.lender import BOUND, COST, LIMIT, PLENTY, PRICED, Lender, books, in_threads


class Peak:
    """The most that ran at the same time. What is counted is exact: it is under a lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = self.most = self.ever = 0

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.ever += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.now -= 1


@pytest.mark.usefixtures("switching", "plenty")
@pytest.mark.parametrize("size", ["whole loans", "few at a time"])
def test_threads__every_kind_of_call__every_call_and_nano_dollar_counted_once(
    request: pytest.FixtureRequest, lender: Lender, size: str
) -> None:
    if size == "few at a time":
        request.getfixturevalue("few_at_a_time")
    times = 400
    lender.policy({"breaker": {}, "retry": {}, "limits": [{**LIMIT, "amount": 10**6, "burst": 10**6}]})
    lender.budget("all")
    lender.fund(PLENTY, **PRICED)
    decorated = lender.guarded(lambda: 1, cost_usd="0.000001")

    def work(number: int) -> None:
        for _ in range(times):
            decorated()
            with lender.call("embed"):
                pass
            with lender.call(user=f"u-{number}", **PRICED) as call:
                call.record(input_tokens=400, output_tokens=100)

    in_threads(work)
    lender.guard.warm_calls = 10**9
    found = books(lender)

    rows = found["rows"].values()
    assert sum(row["calls"] for row in rows) == 3 * 8 * times
    assert sum(row["latency_us"][0] for row in rows) == 3 * 8 * times
    assert sum(row["cost_nusd"] for row in rows) == 8 * times * (COST + 1000)
    assert [(lease.settled, lease.held) for lease in found["leases"].values()] == [(8 * times * (COST + 1000), 0)]
    assert {user: spent.calls for (_, user), spent in found["users"].items()} == {f"u-{n}": times for n in range(8)}
    assert set(found["running"].values()) == {0}
    assert found["requests"]["acme", "chat"] == [10.0**6 - 2 * 8 * times]
    assert found["in flight"] == 0


@pytest.mark.usefixtures("switching")
def test_threads__more_than_the_limit__never_more_than_its_burst(lender: Lender) -> None:
    lender.policy({"limits": [{**LIMIT, "amount": 5000, "burst": 5000}]})
    passed = Peak()

    def work(_: int) -> None:
        for _ in range(1000):
            try:
                with lender.call(), passed:
                    pass
            except tidegate.RateLimited:
                pass

    in_threads(work)

    assert passed.ever == 5000
    assert books(lender)["requests"] == {("acme", "chat"): [0.0]}


@pytest.mark.usefixtures("switching")
def test_threads__more_than_may_run_at_once__never_more_run(lender: Lender) -> None:
    lender.policy({"queue": {"max_concurrent": 4, "max_waiting": 100, "max_wait_ms": 60_000}})
    running = Peak()
    decorated = lender.guarded(lambda: running.__enter__() or running.__exit__())

    def work(number: int) -> None:
        for _ in range(300):
            decorated()
            with lender.call(category=f"c-{number % 2}"), running:
                pass

    in_threads(work)

    assert running.most <= 4
    assert running.ever == 8 * 600
    assert books(lender)["running"] == {("acme", "chat"): 0}


@pytest.mark.usefixtures("switching", "plenty")
@pytest.mark.parametrize("kind", ["decorator", "with"])
def test_threads__more_than_the_budget_allows__never_a_nano_dollar_over(lender: Lender, kind: str) -> None:
    lender.budget("all")
    lender.fund(1000 * BOUND + 7, **PRICED)
    lender.sync(grant=0, denied="exhausted", blocked_by="acme/all")
    lender.guard.link.interval_s = 1e9
    decorated = lender.guarded(lambda: 1, **PRICED)

    def work(_: int) -> None:
        for _ in range(400):
            try:
                if kind == "decorator":
                    decorated()
                else:
                    with lender.call(**PRICED):
                        pass
            except (tidegate.BudgetExhausted, tidegate.Stale):
                pass

    in_threads(work)
    found = books(lender)

    (lease,) = found["leases"].values()
    assert lease.settled == 1000 * BOUND
    assert lease.held == 0
    assert sum(row["cost_nusd"] for row in found["rows"].values()) == lease.settled

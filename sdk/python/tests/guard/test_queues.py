"""Queues in a guard: who waits, who runs first, who is turned away."""

from __future__ import annotations

import threading

import pytest

import tidegate
from sdk.python.tests.bench import Bench
from sdk.python.tests.guard.spending import Turned, fail


def test_queue__full__refused_with_an_estimate(bench: Bench) -> None:
    bench.policy({"queue": {"max_concurrent": 1, "max_waiting": 0, "max_wait_ms": 1000}})
    first = bench.call()
    with first:
        bench.clock.advance(2)
    running = bench.call()
    running.admit()

    with pytest.raises(tidegate.QueueFull) as refused:
        bench.call().admit()

    assert refused.value.retry_after_s == pytest.approx(2.0)
    assert refused.value.blocked_by == "acme/chat queue"


def test_queue__slot_comes_free__the_one_with_priority_goes_first(bench: Bench) -> None:
    bench.policy({"queue": {"max_concurrent": 1, "max_waiting": 8, "max_wait_ms": 5000}})
    running, low, high = bench.call(), bench.call(), bench.call(priority=5)
    running.admit()
    assert bench.guard.advance(low) is not None
    assert bench.guard.advance(high) is not None

    running.settle(None, last=True)

    assert bench.guard.advance(high) is None
    assert bench.guard.advance(low) is not None


def test_queue__waited_as_long_as_allowed__refused(bench: Bench) -> None:
    bench.policy({"queue": {"max_concurrent": 1, "max_wait_ms": 1000}})
    bench.call().admit()
    heard: list[BaseException] = []

    def wait() -> None:
        try:
            bench.call().admit()
        except tidegate.QueueTimeout as error:
            heard.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while not bench.guard.waiting:
        pass
    bench.clock.advance(0.9)
    assert thread.is_alive()
    bench.clock.advance(0.2)
    thread.join(5)

    assert len(heard) == 1
    assert bench.guard.lane("acme", "chat").line.waiting == 0


def test_queue__operator_raises_the_limit__those_who_wait_run(bench: Bench) -> None:
    bench.policy({"queue": {"max_concurrent": 1, "max_wait_ms": 1000}})
    bench.call().admit()
    waiting = bench.call()
    assert bench.guard.advance(waiting) is not None

    bench.policy({"queue": {"max_concurrent": 2, "max_wait_ms": 1000}})

    assert bench.guard.advance(waiting) is None


def test_queue__depth__sampled_when_calls_arrive(bench: Bench) -> None:
    bench.policy({"queue": {"max_concurrent": 1, "max_wait_ms": 1000}})
    calls = [bench.call() for _ in range(3)]

    for call in calls:
        bench.guard.advance(call)

    assert bench.row().queue_depth.packed()[:4] == [3, 1, 0, 1]


def test_queue__line_moves_too_slowly_for_the_deadline__refused_at_once(bench: Bench) -> None:
    bench.policy({"queue": {"max_concurrent": 1, "max_wait_ms": 60_000}, "timeout_ms": 3000})
    with bench.call():
        bench.clock.advance(10)
    bench.call().admit()

    with pytest.raises(tidegate.QueueTimeout) as refused:
        bench.guard.advance(bench.call())

    assert refused.value.retry_after_s == pytest.approx(10.0)
    assert bench.guard.lane("acme", "chat").line.waiting == 0


def test_queue__fleet_with_a_share__its_slots_of_it(bench: Bench) -> None:
    bench.policy({"queue": {"max_concurrent": 20, "max_waiting": 0, "scope": "fleet"}})
    first = [bench.call() for _ in range(2)]
    for call in first:
        call.admit()
    with pytest.raises(tidegate.QueueFull):
        bench.call().admit()
    request, _ = bench.sync(shares=[{"tenant": "acme", "route": "chat", "unit": "calls", "share": 0.25}])

    for call in [bench.call() for _ in range(3)]:
        call.admit()
    with pytest.raises(tidegate.QueueFull):
        bench.call().admit()

    assert request["demand"][0]["unit"] == "calls"
    assert request["demand"][0]["capacity"] == 20.0
    assert bench.pokes == 1


def test_queue__fleet_share_comes__those_who_wait_run(bench: Bench) -> None:
    bench.policy({"queue": {"max_concurrent": 10, "scope": "fleet"}})
    bench.call().admit()
    waiting = bench.call()
    assert bench.guard.advance(waiting) is not None

    bench.sync(shares=[{"tenant": "acme", "route": "chat", "unit": "calls", "share": 0.2}])

    assert bench.guard.advance(waiting) is None


def test_queue__adaptive_and_the_provider_throttles__fewer_run(bench: Bench) -> None:
    bench.policy({"queue": {"max_concurrent": 10, "max_waiting": 0, "adaptive": "gradient", "min_concurrent": 2}})
    for _ in range(3):
        bench.clock.advance(1)
        fail(bench, Turned(429))

    running = [bench.call() for _ in range(7)]
    for call in running:
        call.admit()

    with pytest.raises(tidegate.QueueFull):
        bench.call().admit()


def test_queue__adaptive__goes_by_the_first_token_where_it_is_told(bench: Bench) -> None:
    bench.policy({"queue": {"max_concurrent": 10, "adaptive": "gradient"}})

    with bench.call() as call:
        bench.clock.advance(0.5)
        call.progress()
        bench.clock.advance(30)
        call.progress()
    with bench.call() as call:
        bench.clock.advance(10)
        call.record(output_tokens=100)

    adaptive = bench.guard.lane("acme", "chat").adaptive
    assert adaptive is not None
    assert (adaptive.best("first"), adaptive.best("token"), adaptive.best("whole")) == (0.5, 0.1, None)

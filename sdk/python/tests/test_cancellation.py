"""A call that is cancelled at any await gives back all that it took: places, permits, holds."""

from __future__ import annotations

import asyncio

import pytest

from sdk.python.tests.bench import Bench
from tidegate.call import Call
from tidegate.running import arun

COST = {"cost_usd": "0.10"}
POLICY = {
    "breaker": {"min_calls": 2, "open_s": 1, "half_open_calls": 1},
    "queue": {"max_concurrent": 1, "max_waiting": 8, "max_wait_ms": 60_000},
    "limits": [{"unit": "requests", "amount": 1000, "scope": "instance"}],
    "retry": {"max_attempts": 2, "base_ms": 0, "max_ms": 0},
}


async def answer(call: Call) -> str:
    for _ in range(3):
        await asyncio.sleep(0)
    if call.attempts == 1 and call.user == "fails once":
        raise TimeoutError
    return "answered"


def half_open(bench: Bench) -> None:
    """Open the breaker and let its time pass: one probe may go out."""
    for _ in range(2):
        call = bench.call(**COST)
        call.admit()
        call.settle(TimeoutError(), last=True)
    bench.clock.advance(2)


async def turns(count: int, bench: Bench) -> None:
    """Let everybody go on ``count`` times, and have a budget funded in the meantime."""
    for turn in range(count):
        await asyncio.sleep(0)
        if turn % 4 == 3:
            bench.sync(grant=200_000_000)


@pytest.mark.parametrize("step", range(30))
def test_cancelled__at_any_turn_of_the_loop__everything_goes_back(bench: Bench, step: int) -> None:
    async def scenario() -> None:
        plans = [bench.plan(user=user, **COST) for user in ("fails once", "waits", "waits too")]
        tasks = [asyncio.ensure_future(arun(plan, "chat", answer)) for plan in plans]
        await turns(step, bench)
        for task in tasks[: 1 + step % 3]:
            task.cancel()
        await turns(40, bench)
        assert all(task.done() for task in tasks)
        await asyncio.gather(*tasks, return_exceptions=True)

    bench.budget("all")
    bench.policy(POLICY)
    bench.fund(10**9, **COST)
    half_open(bench)

    asyncio.run(scenario())

    guard = bench.guard
    line = guard.lane("acme", "chat").line
    assert (line.running, line.waiting) == (0, 0)
    assert not guard.running
    assert not guard.waiting
    assert all(lease["held"] == 0 for lease in bench.sync()[0]["leases"])
    bench.clock.advance(5)
    probe = bench.call(**COST)
    probe.admit()  # nobody else holds the permit
    probe.settle(None, last=True)
    assert guard.breakers["chat", ""].provider.phase == "closed"

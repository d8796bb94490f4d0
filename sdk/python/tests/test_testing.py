"""The tools for people's own tests."""

from __future__ import annotations

import asyncio

import pytest

import tidegate
from tidegate.testing import FakeControlPlane, FrozenClock


def test_frozen_clock__limit_refills__when_the_test_says_so() -> None:
    clock = FrozenClock()
    with FakeControlPlane() as plane:
        plane.put_policy({"limits": [{"unit": "requests", "amount": 1, "per_s": 60, "scope": "instance"}]})
        gate = plane.connect(clock=clock)
        gate.run("chat", lambda call: None)
        with pytest.raises(tidegate.RateLimited) as refused:
            gate.run("chat", lambda call: None)

        clock.advance(refused.value.retry_after_s or 0)

        gate.run("chat", lambda call: None)
        gate.close()


async def test_frozen_clock__task_waits_in_line__until_the_clock_is_moved() -> None:
    clock = FrozenClock()
    with FakeControlPlane() as plane:
        plane.put_policy({"queue": {"max_concurrent": 1, "max_wait_ms": 1000}})
        gate = plane.connect(clock=clock)

        async def answer(call: tidegate.Call) -> None:
            """Answers at once."""

        async with gate.call("chat"):
            task = asyncio.create_task(gate.arun("chat", answer))
            await asyncio.sleep(0)
            clock.advance(1.1)
            with pytest.raises(tidegate.QueueTimeout):
                await task
        gate.close()


def test_fake__installation_key__calls_belong_to_nobody_or_whom_they_name() -> None:
    with FakeControlPlane(scope=None) as plane:
        gate = plane.connect()
        for tenant in (None, "acme"):
            with gate.call("chat", tenant=tenant):
                pass
        gate.close()

        assert {row["tenant"] for window in plane.windows.values() for row in window["rows"]} == {"", "acme"}


def test_fake__two_processes_share_a_budget__neither_gets_what_the_other_holds() -> None:
    with FakeControlPlane() as plane:
        plane.put_budget("all", "0.10")
        first, second = plane.connect(), plane.connect()
        with first.call("chat", cost_usd="0.09"), pytest.raises(tidegate.BudgetExhausted):
            second.run("chat", lambda call: None, cost_usd="0.02")

        first.close()
        second.close()

        assert plane.settled_nusd("all") == 90_000_000


def test_fake__a_release__every_call_gets_it_and_the_next_one_after_it() -> None:
    with FakeControlPlane() as plane:
        plane.put_release("assistant", {"temperature": 0.2}, routes=["chat"])
        with plane.connect() as gate:
            with gate.call("chat") as call:
                assert (call.release, call.config) == ("1", {"temperature": 0.2})
            with gate.call("embed") as call:
                assert call.release is None

"""Deadlines of calls in event loops: who is late is cancelled, and nobody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from sdk.python.tests.lending.lender import cancelling
from tidegate.clock import SystemClock
from tidegate.deadlines import Deadlines
from tidegate.testing import FrozenClock


def test_deadlines__real_clock_and_many_tasks__those_that_are_late_are_cancelled() -> None:
    deadlines = Deadlines(SystemClock())
    now = time.monotonic()

    async def wait(until: float, seconds: float) -> str:
        flight = deadlines.watch(until)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError as error:
            return "late" if deadlines.ended(flight, error) is not None else "cancelled"
        deadlines.ended(flight, None)
        return "in time"

    async def main() -> list[str]:
        return await asyncio.gather(
            *(wait(now + 3600, 0) for _ in range(20)), *(wait(now + 0.05, 60) for _ in range(20))
        )

    assert asyncio.run(main()) == ["in time"] * 20 + ["late"] * 20
    deadlines.close()


async def test_deadlines__a_call_within_a_call__each_has_its_own() -> None:
    clock = FrozenClock()
    deadlines = Deadlines(clock)

    async def work(inner_s: float) -> tuple[bool, bool]:
        outer = deadlines.watch(clock.now() + 1.0)
        inner = deadlines.watch(clock.now() + inner_s)
        assert outer is not None
        assert inner is not None
        ends: list[bool] = []
        for flight in (inner, outer):
            error: BaseException | None = None
            if not any(ends):
                clock.advance(0.6)
                try:
                    await asyncio.sleep(0.05)
                except asyncio.CancelledError as cancelled:
                    error = cancelled
            ends.append(deadlines.ended(flight, error) is not None)
        assert not cancelling()
        return ends[0], ends[1]

    assert await asyncio.create_task(work(0.5)) == (True, False)
    assert await asyncio.create_task(work(5.0)) == (False, True)
    assert not deadlines.under_way
    deadlines.close()


async def test_deadlines__task_that_was_cancelled_before__its_cancellation_is_not_taken_for_a_timeout() -> None:
    clock = FrozenClock()
    deadlines = Deadlines(clock)

    async def work() -> TimeoutError | None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            flight = deadlines.watch(clock.now() + 1.0)  # something to do before it goes
        assert flight is not None
        clock.advance(1.1)
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError as error:
            late = deadlines.ended(flight, error)
        assert cancelling() == 1
        return late

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()

    assert isinstance(await task, TimeoutError)  # what cancelled it before is none of this flight's business
    assert not deadlines.under_way
    deadlines.close()


async def test_deadlines__one_call_after_the_other__share_a_flight_and_a_late_one_leaves_no_trace() -> None:
    deadlines = Deadlines(SystemClock())
    flight = deadlines.watch(time.monotonic() + 0.001)
    assert flight is not None
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await asyncio.sleep(60)
    assert deadlines.ended(flight, cancelled.value) is not None

    second = deadlines.watch(time.monotonic() + 60)
    await asyncio.sleep(0)

    assert second is flight
    assert (second.late, deadlines.under_way) == (False, 1)
    assert deadlines.ended(second, None) is None
    assert deadlines.ended(second, None) is None  # and it is not to be had twice
    assert deadlines.watch(time.monotonic() + 60) is not deadlines.watch(time.monotonic() + 60)
    deadlines.close()


async def test_deadlines__begun_anew_in_a_fork__flights_of_before_are_not_used_again() -> None:
    deadlines = Deadlines(SystemClock())
    before = deadlines.watch(time.monotonic() + 60)
    assert before is not None

    deadlines.close()
    assert deadlines._thread is not None
    deadlines._thread.join(10)  # no thread lives on in a fork
    deadlines.renew()
    deadlines.ended(before, None)
    after = deadlines.watch(time.monotonic() + 60)

    assert after is not before
    assert deadlines.under_way == 1
    deadlines.close()


def test_deadlines__loop_closed_under_its_calls__their_flights_are_forgotten_when_due_and_never_used_again() -> None:
    clock = FrozenClock()
    deadlines = Deadlines(clock)
    ends: list[object] = []

    async def hang() -> None:
        flight = deadlines.watch(clock.now() + 1.0)
        assert flight is not None
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            ends.append(deadlines.ended(flight, error))
            raise

    async def begin() -> list[Coroutine[Any, Any, None]]:
        calls = [hang() for _ in range(3)]
        tasks = [asyncio.create_task(call) for call in calls]
        await asyncio.sleep(0)
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is what they are here for
        return calls

    loop = asyncio.new_event_loop()
    calls = loop.run_until_complete(begin())
    loop.close()
    assert deadlines.under_way == 3

    clock.advance(1.1)
    with deadlines._lock:
        deadlines._pass({})

    assert deadlines._flights == []
    for call in calls:
        call.close()  # as the garbage collection does
    assert ends == [None] * 3
    assert deadlines._ended.top is None
    deadlines.close()

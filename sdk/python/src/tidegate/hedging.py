"""A second attempt beside one that has not answered for a while: the first answer is the call's.

The second passes every gate for itself: the breaker, the limits, the queue, and the budgets, which must have room for all that it
may cost. It takes one from the same budget as retries. Who loses is cancelled in an event loop; a thread can't be stopped, so there
it goes on and is settled when it ends. What was cancelled may have been billed: it settles at its bound.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tidegate.call import Call

T = TypeVar("T")


def hedges(call: Call) -> bool:
    """Whether the policy of ``call`` wants a second attempt beside a slow one."""
    rule = call.policy.retry
    return rule is not None and rule.hedge_ms is not None


def _hedge_s(call: Call) -> float:
    rule = call.policy.retry
    assert rule is not None  # noqa: S101  hedges has looked
    assert rule.hedge_ms is not None  # noqa: S101
    return rule.hedge_ms / 1000


def _may_hedge(call: Call) -> bool:
    left = call.timeout_s
    return not call.final and (left is None or left > 0) and call._guard.may_retry(call)


def _won(call: Call, twin: Call, error: BaseException | None) -> None:
    """End ``call``, whose twin has answered; ``error`` is what became of its own attempt."""
    call.absorb(twin, won=True)
    call.settle(error, last=False)
    call.end()


# In an event loop


async def race_async(call: Call, fn: Callable[[Call], Awaitable[T]]) -> tuple[T, Call]:
    """Return the answer and the call that it is of. The caller settles its own ``call``, unless the twin has won."""
    first = asyncio.ensure_future(_attempt(call, fn))
    try:
        await asyncio.wait({first}, timeout=_hedge_s(call))
        if first.done() or not _may_hedge(call):
            return await first, call
        return await _beside(call, fn, first)
    finally:
        await _gone(first)


async def _attempt(call: Call, fn: Callable[[Call], Awaitable[T]]) -> T:
    return await fn(call)


async def _beside(call: Call, fn: Callable[[Call], Awaitable[T]], first: asyncio.Future[T]) -> tuple[T, Call]:
    twin = call.twin()
    second = asyncio.ensure_future(_attempt_of_twin(twin, fn))
    try:
        await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
        if not _went_well(first) and not _went_well(second):
            await asyncio.wait({first, second})
        if _went_well(first) or not _went_well(second):
            await _gone(second)
            call.absorb(twin, won=False)
            return first.result(), call
        await _gone(first)
        _won(call, twin, asyncio.CancelledError() if first.cancelled() else first.exception())
        return second.result(), twin
    finally:
        await _gone(second)


async def _attempt_of_twin(twin: Call, fn: Callable[[Call], Awaitable[T]]) -> T:
    await twin.admit_async()
    twin.become_current()
    try:
        answer = await fn(twin)
    except BaseException as error:
        twin.settle(error, last=False)
        raise
    twin.settle(None, last=False)
    return answer


def _went_well(task: asyncio.Future[T]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


async def _gone(task: asyncio.Future[T]) -> None:
    """Have ``task`` end, whatever comes of it."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # so that nobody complains that it was not looked at


# In threads


class _Attempt(threading.Thread):
    """Runs ``fn(call)`` in a thread of its own, in the context of the one who starts it."""

    def __init__(self, call: Call, fn: Callable[[Call], T], done: queue.SimpleQueue[_Attempt]) -> None:
        super().__init__(name=f"tidegate {call.route}", daemon=True)
        self.call, self.done = call, done
        self._fn, self._context = fn, contextvars.copy_context()
        self.answer: object = None
        self.error: BaseException | None = None
        self._lock = threading.Lock()
        self._over = self._given_up = False

    def run(self) -> None:
        try:
            self.answer = self._context.run(self.body)
        except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
            self.error = error
        with self._lock:
            self._over = True
            given_up = self._given_up
        if given_up:
            self.settle()
        else:
            self.done.put(self)

    def body(self) -> object:
        return self._fn(self.call)

    def settle(self) -> None:
        """End the attempt for which nobody waits any more."""
        self.call.settle(self.error, last=False)

    def give_up(self) -> bool:
        """Wait no more; whether the attempt goes on and settles itself when it ends."""
        with self._lock:
            self._given_up = True
            return not self._over


class _AttemptOfTwin(_Attempt):
    def body(self) -> object:
        self.call.admit()
        self.call.become_current()
        try:
            answer = super().body()
        except BaseException as error:
            self.call.settle(error, last=False)
            raise
        self.call.settle(None, last=False)
        return answer

    def settle(self) -> None:
        """It has settled itself."""


def race(call: Call, fn: Callable[[Call], T]) -> tuple[T, Call]:
    """Return the answer and the call that it is of. The caller settles its own ``call``, unless the twin has won."""
    done: queue.SimpleQueue[_Attempt] = queue.SimpleQueue()
    first = _Attempt(call, fn, done)
    first.start()
    try:
        ended = done.get(timeout=_hedge_s(call))
    except queue.Empty:
        ended = _beside_in_threads(call, fn, first, done) if _may_hedge(call) else done.get()
    if ended.error is not None:
        raise ended.error
    return ended.answer, ended.call  # type: ignore[return-value]  # what fn returned


def _beside_in_threads(
    call: Call, fn: Callable[[Call], T], first: _Attempt, done: queue.SimpleQueue[_Attempt]
) -> _Attempt:
    second = _AttemptOfTwin(call.twin(), fn, done)
    second.start()
    ended = done.get()
    if ended.error is not None:
        ended = done.get()  # the other one decides
    if ended is second and ended.error is None:
        call.absorb(second.call, won=True)
        if not first.give_up():
            first.settle()
        call.end()
        return second
    second.give_up()
    call.absorb(second.call, won=False)
    return first

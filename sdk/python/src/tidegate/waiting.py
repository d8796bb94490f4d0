"""One call that waits, in a thread or in an event loop: it is woken once, by whoever changed what it waits for."""

from __future__ import annotations

import asyncio
import threading
import types
from collections.abc import Awaitable, Generator
from typing import Protocol, cast

from tidegate.clock import Clock


@types.coroutine
def _done() -> Generator[None, None, None]:
    """Be over as soon as it begins."""
    yield from ()


DONE: Awaitable[None] = _done()
"""What is awaited and is over already, as often as anybody likes and in every loop: a generator that has ended says so each time it is
asked. A coroutine that does nothing costs six times as much."""
for _ in cast("Generator[None, None, None]", DONE):
    pass


class Waiter(Protocol):
    until: float

    def wake(self) -> None:
        """Let the waiting go on. Called under the guard's lock, from any thread; more than once does no harm."""


class ThreadWaiter:
    __slots__ = ("_lock", "_woken", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self._woken = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def wake(self) -> None:
        if not self._woken:
            self._woken = True
            self._lock.release()

    def block(self, clock: Clock) -> None:
        patience = clock.patience(self.until)
        self._lock.acquire(timeout=-1 if patience is None else min(patience, threading.TIMEOUT_MAX))


class LoopWaiter:
    __slots__ = ("_future", "_loop", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()

    def wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._resolve)
        except RuntimeError:  # the loop was closed under the call; nobody is left to wake
            return

    def _resolve(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self, clock: Clock) -> None:
        patience = clock.patience(self.until)
        try:
            async with asyncio.timeout(patience):
                await self._future
        except TimeoutError:
            return

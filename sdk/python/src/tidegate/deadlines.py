"""Deadlines of calls that pass on credit in event loops: one thread watches them all, where a timer for each would cost more than the
call's own guard.

What it does is what ``asyncio.timeout`` does: it cancels the task, and the cancellation comes out as a ``TimeoutError`` unless somebody
else has cancelled the task as well.
"""

from __future__ import annotations

import asyncio
import math
import threading
from asyncio import current_task
from typing import Any

from tidegate.clock import Clock

Flight = tuple[float, asyncio.Task[Any] | None]  # until when on the guard's clock, and who


class Deadlines:
    """Who is under way until when. Safe for threads and event loops."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.renew()
        clock.subscribe(self._look)

    def renew(self) -> None:
        """Begin anew: at first, and in a forked child."""
        self._flights: dict[Flight, int] = {}  # with how often the task had been cancelled before
        self._late: set[Flight] = set()  # whose tasks were cancelled
        self._next = math.inf  # when the thread looks again
        self._lock = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def close(self) -> None:
        """Watch no more."""
        with self._lock:
            self._closed = True
            self._lock.notify()

    def watch(self, until: float) -> Flight:
        """Cancel the running task at ``until`` unless the flight has ended by then."""
        task = current_task()
        flight = (until, task)
        self._flights[flight] = task.cancelling() if task is not None else 0
        if until < self._next:
            self._wake(until)
        return flight

    def ended(self, flight: Flight, error: BaseException | None) -> TimeoutError | None:
        """End a flight, with what came of it; return what to raise instead when it was the deadline that ended it."""
        cancelled_before = self._flights.pop(flight, 0)
        if not self._late or flight not in self._late:
            return None
        self._late.discard(flight)
        task = flight[1]
        if task is None or task.uncancel() > cancelled_before or not isinstance(error, asyncio.CancelledError):
            return None
        late = TimeoutError()
        late.__cause__ = error
        return late

    def _wake(self, until: float) -> None:
        with self._lock:
            self._next = min(self._next, until)
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._work, name="tidegate deadlines", daemon=True)
                self._thread.start()
            self._lock.notify()

    def _look(self) -> None:
        with self._lock:
            self._lock.notify()

    def _work(self) -> None:
        told: set[Flight] = set()
        with self._lock:
            while not self._closed:
                if self._clock.now() >= self._next:
                    told = self._pass(told)
                else:
                    self._lock.wait(None if self._next == math.inf else self._clock.patience(self._next))

    def _pass(self, told: set[Flight]) -> set[Flight]:
        """Tell the event loops of those that are due, but for those ``told`` before; return whom they know of now."""
        self._next = math.inf  # from here on who comes says so
        now = self._clock.now()
        flights = list(self._flights)
        due = {flight for flight in flights if flight[0] <= now}
        for flight in due - told:
            self._tell(flight)
        self._next = min((flight[0] for flight in flights if flight[0] > now), default=math.inf)
        return due

    def _tell(self, flight: Flight) -> None:
        task = flight[1]
        if task is None:
            return
        try:
            task.get_loop().call_soon_threadsafe(self._cancel, flight)
        except RuntimeError:  # the loop was closed, and the task will never go on
            self._flights.pop(flight, None)

    def _cancel(self, flight: Flight) -> None:
        """Cancel a task that is under way still, in its loop."""
        task = flight[1]
        if flight in self._flights and task is not None:
            self._late.add(flight)
            task.cancel()

"""Deadlines of calls that pass on credit in event loops: one thread watches them all, where a timer for each would cost more than the
call's own guard.

What it does is what ``asyncio.timeout`` does: it cancels the task, and the cancellation comes out as a ``TimeoutError`` unless somebody
else has cancelled the task as well.
"""

from __future__ import annotations

import asyncio
import math
import sys
import threading
from threading import get_ident
from typing import Any

from tidegate.clock import Clock

Task = asyncio.Task[Any]
# In 3.11 asyncio.current_task asks the kernel which process this is, each time; later ones are quick.
REMEMBERS = sys.version_info < (3, 12)
_current_tasks: dict[Any, Task] = vars(asyncio.tasks)["_current_tasks"] if REMEMBERS else {}  # by loop


class Pile:
    """Flights that have ended, to be used again: the last one is on top. Who takes or adds one makes no call meanwhile."""

    __slots__ = ("top",)

    def __init__(self) -> None:
        self.top: Flight | None = None


class Flight:
    """A call under way in a task. Who ends it well sees that it is not ``late``, and puts it on its pile."""

    __slots__ = ("before", "late", "pile", "task", "under", "until")

    def __init__(self, pile: Pile) -> None:
        self.pile = pile
        self.under: Flight | None = None  # on the pile
        self.task: Task | None = None  # None: it has ended
        self.until = math.inf  # on the guard's clock
        self.before = 0  # how often the task had been cancelled when it began
        self.late = False  # its task was cancelled, or will never go on


class _NoLoop:
    _thread_id = -1


class Deadlines:
    """Who is under way until when. Safe for threads and event loops."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.renew()
        clock.subscribe(self._look)

    def renew(self) -> None:
        """Begin anew: at first, and in a forked child."""
        self._flights: list[Flight] = []  # all that were ever needed at a time
        self._ended = Pile()  # of these, the ones to be used again
        self._next = math.inf  # when the thread looks again
        self._lock = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._loop: Any = _NoLoop  # that watched last

    @property
    def under_way(self) -> int:
        """How many calls are watched."""
        return sum([flight.task is not None for flight in self._flights])

    def close(self) -> None:
        """Watch no more."""
        with self._lock:
            self._closed = True
            self._lock.notify()

    def watch(self, until: float) -> Flight | None:
        """Cancel the running task at ``until`` unless the flight has ended by then; return it, ``None`` where no task runs."""
        loop = self._loop
        try:
            task = _current_tasks[loop] if loop._thread_id == get_ident() else self._running()
        except KeyError:
            return None
        pile = self._ended
        flight = pile.top  # ATOMIC from here
        if flight is None:
            flight = Flight(pile)
            self._flights.append(flight)
        else:
            pile.top = flight.under  # to here
        flight.until = until
        flight.before = task.cancelling()
        flight.task = task
        if until < self._next:
            self._wake(until)
        return flight

    def _running(self) -> Task:
        """Return the running task, and remember its loop where that says which thread it runs in; ``KeyError``: there is none."""
        loop = asyncio.get_running_loop()
        if REMEMBERS and hasattr(loop, "_thread_id"):
            self._loop = loop
        task = asyncio.current_task(loop)
        if task is None:
            raise KeyError(loop)
        return task

    def ended(self, flight: Flight, error: BaseException | None) -> TimeoutError | None:
        """End a flight, with what came of it; return what to raise instead when it was the deadline that ended it."""
        task, was_late = flight.task, flight.late
        if task is None:
            return None
        flight.task, flight.late = None, False
        cancelled = task.uncancel() if was_late else 0
        before = flight.before
        flight.under, flight.pile.top = flight.pile.top, flight  # ATOMIC
        if not was_late or cancelled > before or not isinstance(error, asyncio.CancelledError):
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
        told: dict[Flight, float] = {}
        with self._lock:
            while not self._closed:
                if self._clock.now() >= self._next:
                    told = self._pass(told)
                else:
                    self._lock.wait(None if self._next == math.inf else self._clock.patience(self._next))

    def _pass(self, told: dict[Flight, float]) -> dict[Flight, float]:
        """Tell the event loops of those that are due, but for those ``told`` before; return whom they know of now."""
        self._next = math.inf  # from here on who comes says so
        now = self._clock.now()
        seen = {flight: flight.until for flight in self._flights.copy() if flight.task is not None}
        due = {flight: until for flight, until in seen.items() if until <= now}
        for flight, until in due.items():
            if told.get(flight) is not until:
                self._tell(flight, until)
        self._next = min((until for until in seen.values() if until > now), default=math.inf)
        return due

    def _tell(self, flight: Flight, until: float) -> None:
        task = flight.task
        if task is None:
            return
        try:
            task.get_loop().call_soon_threadsafe(self._cancel, flight, until)
        except RuntimeError:  # the loop was closed, and the task will never go on
            if flight.task is task:  # ATOMIC from here
                flight.task, flight.late = None, True  # to here
                self._flights.remove(flight)  # and is not used again: who began it may end it yet

    def _cancel(self, flight: Flight, until: float) -> None:
        """Cancel a task that is under way still, in its loop."""
        task = flight.task
        if flight.until is until and task is not None:
            flight.late = True
            task.cancel()

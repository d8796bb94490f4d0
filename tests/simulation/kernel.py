"""Virtual time: one heap of events, one order, no threads."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import Any

REMEMBERED = 60


class Broken(AssertionError):
    """An invariant does not hold. ``invariant`` is its name in docs/proof.md."""

    def __init__(self, invariant: str, text: str) -> None:
        super().__init__(f"{invariant}: {text}")
        self.invariant = invariant


class Kernel:
    """Events in the order of their times; of equal times, in the order in which they were asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self.busy = 0.0  # the same, without the time in which nothing at all happened
        self.events = 0
        self.notes: deque[tuple[float, str, tuple[Any, ...]]] = deque(maxlen=REMEMBERED)
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self._skipped = 0.0

    def after(self, delay: float, act: Callable[..., None], *args: Any) -> None:
        """Have ``act(*args)`` done in ``delay`` seconds."""
        self._number += 1
        heapq.heappush(self._heap, (self.busy + max(0.0, delay), self._number, act, args))

    def skip(self, seconds: float) -> None:
        """Let time pass in which nothing at all happens: everything that was to come comes that much later."""
        self._skipped += seconds
        self.now += seconds

    def run(self, until: float) -> None:
        """Do everything that is due before ``until``, which grows with what is skipped meanwhile."""
        limit = until - self._skipped
        heap = self._heap
        while heap and heap[0][0] <= limit:
            due, _, act, args = heapq.heappop(heap)
            self.busy, self.now = due, due + self._skipped
            self.events += 1
            act(*args)
        self.busy, self.now = limit, limit + self._skipped

    def note(self, text: str, *args: Any) -> None:
        """Remember what happened, for the report of a failure."""
        self.notes.append((self.now, text, args))

    def told(self) -> list[str]:
        """Return what was noted last, oldest first."""
        return [f"{at:10.3f}  {text.format(*args)}" for at, text, args in self.notes]


class ProcessClock:
    """The clocks of one machine, as wrong as its crystal: ``rate`` is how fast they go."""

    def __init__(self, kernel: Kernel, *, rate: float, epoch: float, wall_skew: float) -> None:
        self._kernel = kernel
        self.rate = rate
        self.epoch = epoch
        self.wall_skew = wall_skew
        self.asleep = 0.0  # seconds that the machine was suspended

    def now(self) -> float:
        return 1000.0 + (self._kernel.now - self.asleep) * self.rate

    def boot(self) -> float:
        return 5000.0 + self._kernel.now * self.rate

    def wall_ms(self) -> int:
        return int((self.epoch + self._kernel.now + self.wall_skew) * 1000)

    def real(self, seconds: float) -> float:
        """Return how long ``seconds`` of this clock really take."""
        return seconds / self.rate

    def patience(self, until: float) -> float | None:
        """Nobody blocks in a simulation."""

    def subscribe(self, moved: Callable[[], None]) -> None:
        """Nobody moves this clock by hand."""

"""Who runs and who waits: at most so many calls at once, the rest in line by priority and age.

One level of priority is worth ``LEVEL_S`` seconds of waiting. The order of two waiting calls therefore never changes, and no
call waits for ever behind more important ones that came later.
"""

from __future__ import annotations

import heapq
from typing import Literal

from tidegate.core.policy import QueueRule

LEVEL_S = 1.0
MAX_PRIORITY = 1000

State = Literal["waiting", "running", "gone"]


class Entry:
    """One call's place. Only its ``Line`` changes the state, so that a place is claimed, or left, once."""

    __slots__ = ("at", "owner", "state")

    def __init__(self, owner: object, at: float, state: State) -> None:
        self.owner = owner
        self.at = at
        self.state: State = state


class Line:
    """The calls of one tenant and route. Not safe for threads by itself: its guard holds the lock."""

    __slots__ = ("_heap", "_number", "running", "typical_s", "waiting")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Entry]] = []
        self._number = 0
        self.running = 0
        self.waiting = 0
        self.typical_s = 0.0

    def enter(self, rule: QueueRule | None, owner: object, *, now: float, priority: int) -> Entry | None:
        """Return a place that is running or waiting, or ``None`` when the line is full."""
        if rule is None or (self.running < rule.max_concurrent and not self.waiting):
            self.running += 1
            return Entry(owner, now, "running")
        if self.waiting >= rule.max_waiting:
            return None
        entry = Entry(owner, now, "waiting")
        self._number += 1
        self.waiting += 1
        heapq.heappush(self._heap, (now - priority * LEVEL_S, self._number, entry))
        return entry

    def push_in(self, owner: object, *, now: float) -> Entry:
        """Run whatever the rule says: for enforcement that only watches."""
        self.running += 1
        return Entry(owner, now, "running")

    def leave(self, entry: Entry) -> None:
        """Give the place up, running or waiting. Leaving twice changes nothing."""
        if entry.state == "running":
            self.running -= 1
        elif entry.state == "waiting":
            self.waiting -= 1
            if len(self._heap) > 2 * self.waiting + 16:
                self._heap = [item for item in self._heap if item[2].state == "waiting" and item[2] is not entry]
                heapq.heapify(self._heap)
        entry.state = "gone"

    def promote(self, rule: QueueRule | None) -> list[Entry]:
        """Let those run for whom there is room now, and return them: after a call left, or the rule changed."""
        promoted: list[Entry] = []
        while self._heap and (rule is None or self.running < rule.max_concurrent):
            entry = heapq.heappop(self._heap)[2]
            if entry.state == "waiting":
                entry.state = "running"
                self.waiting -= 1
                self.running += 1
                promoted.append(entry)
        return promoted

    def took(self, seconds: float) -> None:
        self.typical_s += 0.1 * (seconds - self.typical_s) if self.typical_s else seconds

    def estimate_s(self, rule: QueueRule) -> float | None:
        """Return how long a newcomer would wait, from how long calls took; ``None`` before any has ended."""
        if not self.typical_s:
            return None
        return self.typical_s * (self.waiting + 1) / max(1, rule.max_concurrent)

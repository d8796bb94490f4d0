"""Who runs and who waits: at most so many calls at once, the rest in line by priority and age.

One level of priority is worth ``LEVEL_S`` seconds of waiting. The order of two waiting calls therefore never changes, and no
call waits for ever behind more important ones that came later. Under congestion, when the line has not been empty for
half of ``max_wait_ms``, a rule may choose otherwise: ``lifo`` serves the newest of a priority first, because the oldest will
time out anyway; ``codel`` lets newcomers wait for a tenth of the time only, so that the line stays short.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

from tidegate.core.policy import QueueRule

LEVEL_S = 1.0
MAX_PRIORITY = 1000
CONGESTED_PART = 0.5
CODEL_PART = 0.1
HOPELESS = 2.0  # estimates are rough: only who would wait for twice as long as it may can't make it

State = Literal["waiting", "running", "gone"]


class Entry:
    """One call's place. Only its ``Line`` changes the state, so that a place is claimed, or left, once."""

    __slots__ = ("at", "owner", "state")

    def __init__(self, owner: object, at: float, state: State) -> None:
        self.owner = owner
        self.at = at
        self.state: State = state


class Line:
    """The calls of one tenant and route. Not safe for threads by itself: its guard holds the lock.

    ``slots`` is how many may run now where that is less than the rule's ``max_concurrent``.
    """

    __slots__ = ("_busy_since", "_ranks", "peak", "running", "typical_s", "waiting")

    def __init__(self) -> None:
        self._ranks: dict[
            int, deque[Entry]
        ] = {}  # by priority, in order of arrival; those that are gone stay for a while
        self._busy_since = 0.0  # the line has not been empty since
        self.running = 0
        self.waiting = 0
        self.peak = 0  # the most that ran and waited since somebody reset it
        self.typical_s = 0.0

    def enter(
        self, rule: QueueRule | None, owner: object, *, now: float, priority: int, slots: int | None = None
    ) -> Entry | None:
        """Return a place that is running or waiting, or ``None`` when the line is full."""
        if rule is None or (not self.waiting and self.running < (rule.max_concurrent if slots is None else slots)):
            return self.push_in(owner, now=now)
        if self.waiting >= rule.max_waiting:
            return None
        if not self.waiting:
            self._busy_since = now
        entry = Entry(owner, now, "waiting")
        self.waiting += 1
        self._note_peak()
        rank = self._ranks.get(priority)
        if rank is None:
            rank = self._ranks[priority] = deque()
        rank.append(entry)
        return entry

    def push_in(self, owner: object, *, now: float) -> Entry:
        """Run whatever the rule says: for enforcement that only watches."""
        self.running += 1
        self._note_peak()
        return Entry(owner, now, "running")

    def _note_peak(self) -> None:
        present = self.running + self.waiting
        if present > self.peak:
            self.peak = present

    def leave(self, entry: Entry) -> None:
        """Give the place up, running or waiting. Leaving twice changes nothing."""
        if entry.state == "running":
            self.running -= 1
            entry.state = "gone"
        elif entry.state == "waiting":
            self.waiting -= 1
            entry.state = "gone"
            if sum(map(len, self._ranks.values())) > 2 * self.waiting + 16:
                self._compact()

    def _compact(self) -> None:
        ranks = {p: deque(e for e in rank if e.state == "waiting") for p, rank in self._ranks.items()}
        self._ranks = {priority: rank for priority, rank in ranks.items() if rank}

    def promote(self, rule: QueueRule | None, *, now: float = 0.0, slots: int | None = None) -> list[Entry]:
        """Let those run for whom there is room now, and return them: after a call left, or the rule changed."""
        promoted: list[Entry] = []
        most = self.running + self.waiting if rule is None else rule.max_concurrent if slots is None else slots
        while self.waiting and self.running < most:
            entry = self._next(newest=rule is not None and rule.congestion == "lifo" and self.congested(rule, now))
            entry.state = "running"
            self.waiting -= 1
            self.running += 1
            promoted.append(entry)
        return promoted

    def _next(self, *, newest: bool) -> Entry:
        """Take out the one whose turn it is: of the rank whose first is the most important with its age, the first or the newest."""
        best: deque[Entry] | None = None
        best_key = 0.0
        for priority, rank in list(self._ranks.items()):
            while rank and rank[0].state != "waiting":
                rank.popleft()
            if not rank:
                del self._ranks[priority]
                continue
            key = rank[0].at - priority * LEVEL_S
            if best is None or key < best_key:
                best, best_key = rank, key
        if best is None:
            raise LookupError("nobody waits")
        if not newest:
            return best.popleft()
        while best[-1].state != "waiting":
            best.pop()
        return best.pop()

    def congested(self, rule: QueueRule, now: float) -> bool:
        """Whether calls come faster than they go: the line has not been empty for half of the time that one may wait."""
        return self.waiting > 0 and (now - self._busy_since) * 1000 >= rule.max_wait_ms * CONGESTED_PART

    def patience_s(self, rule: QueueRule, now: float) -> float:
        """Return how long a newcomer may wait."""
        if rule.congestion == "codel" and self.congested(rule, now):
            return rule.max_wait_ms * CODEL_PART / 1000
        return rule.max_wait_ms / 1000

    def took(self, seconds: float) -> None:
        self.typical_s += 0.1 * (seconds - self.typical_s) if self.typical_s else seconds

    def estimate_s(self, rule: QueueRule, *, slots: int | None = None, priority: int = -MAX_PRIORITY) -> float | None:
        """Return how long a newcomer would wait, from how long calls took; ``None`` before any has ended."""
        if not self.typical_s:
            return None
        ahead = min(self.waiting, sum(len(rank) for p, rank in self._ranks.items() if p >= priority))
        return self.typical_s * (ahead + 1) / max(1, rule.max_concurrent if slots is None else slots)

    def hopeless(self, rule: QueueRule, *, slots: int, priority: int, patience_s: float) -> bool:
        """Whether a newcomer that may wait for ``patience_s`` had better be told at once that its turn won't come in time."""
        if self.running < slots and not self.waiting:
            return False
        estimate = self.estimate_s(rule, slots=slots, priority=priority)
        return estimate is not None and estimate > HOPELESS * patience_s

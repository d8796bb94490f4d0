"""What the last calls came to: over a window of time in slots, or over a number of calls.

Sums are kept as calls come and go, so that asking costs the same for any window.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final, NamedTuple

from tidegate.core.policy import BreakerRule

LEAST_SLOTS: Final = 10
MOST_SLOTS: Final = 60
_FAILED: Final = 1
_SLOW: Final = 2


class Tally(NamedTuple):
    """``neutral`` outcomes are in no other count."""

    calls: int = 0
    failures: int = 0
    slow: int = 0
    neutral: int = 0


class Recent:
    """Counts of the window that a rule asks for. A slot is about a second long, so a window of time is that much too short at most.

    A tumbling window is one slot, which begins with its first call.
    """

    __slots__ = ("_ends", "_slots", "_tumbling", "_window_calls", "_window_s", "calls", "failures", "neutral", "slow")

    def __init__(self) -> None:
        self._window_calls: int | None = None
        self._window_s = 0.0
        self._tumbling = False
        self.clear()

    def clear(self) -> None:
        self.calls = self.failures = self.slow = self.neutral = 0
        self._slots: deque[list[float]] = deque()  # [start, calls, failures, slow, neutral]; of calls: [flags]
        self._ends = -math.inf  # of the last slot

    def tally(self) -> Tally:
        return Tally(self.calls, self.failures, self.slow, self.neutral)

    def add(self, rule: BreakerRule, now: float, *, failed: bool, slow: bool) -> None:
        """Count a call that ended at ``now``."""
        self._follow(rule)
        self.calls += 1
        self.failures += failed
        self.slow += slow
        if rule.window_calls is not None:
            self._slots.append([_FAILED * failed + _SLOW * slow])
            self._trim(rule.window_calls)
            return
        slot = self._slot(now)
        slot[1] += 1
        slot[2] += failed
        slot[3] += slow

    def add_good(self, rule: BreakerRule, now: float, calls: int) -> None:
        """Count so many calls that neither failed nor were slow, all of which ended at ``now``."""
        self._follow(rule)
        self.calls += calls
        if rule.window_calls is None:
            self._slot(now)[1] += calls
            return
        self._slots.extend([0.0] for _ in range(calls))
        self._trim(rule.window_calls)

    def add_neutral(self, rule: BreakerRule, now: float) -> None:
        """Count a call that says nothing about whom it called."""
        self._follow(rule)
        self.neutral += 1
        if rule.window_calls is None:
            self._slot(now)[4] += 1

    def forget(self, rule: BreakerRule, now: float) -> None:
        """Drop what is too old at ``now``."""
        self._follow(rule)
        if rule.window_calls is not None:
            self._trim(rule.window_calls)
            return
        width = _width(rule.window_s)
        oldest = math.floor(now / width) * width - rule.window_s + width / 2
        if self._tumbling:
            oldest = now - rule.window_s
        slots = self._slots
        while slots and slots[0][0] <= oldest:
            _, calls, failures, slow, neutral = slots.popleft()
            self.calls -= int(calls)
            self.failures -= int(failures)
            self.slow -= int(slow)
            self.neutral -= int(neutral)

    def _follow(self, rule: BreakerRule) -> None:
        """Keep what was counted when a window only changed its length; begin anew when it changed its kind."""
        tumbling = rule.window == "tumbling"
        if (rule.window_calls is None) is not (self._window_calls is None) or tumbling is not self._tumbling:
            self.clear()
            self._tumbling = tumbling
        if rule.window_s != self._window_s:
            self._window_s, self._ends = rule.window_s, -math.inf
        self._window_calls = rule.window_calls

    def _slot(self, now: float) -> list[float]:
        if now >= self._ends:
            width = self._window_s if self._tumbling else _width(self._window_s)
            start = now if self._tumbling else math.floor(now / width) * width
            self._ends = start + width
            self._slots.append([start, 0, 0, 0, 0])
        return self._slots[-1]

    def _trim(self, most: int) -> None:
        while len(self._slots) > most:
            flags = int(self._slots.popleft()[0])
            self.calls -= 1
            self.failures -= flags & _FAILED
            self.slow -= (flags & _SLOW) >> 1


def _width(window_s: float) -> float:
    return window_s / max(LEAST_SLOTS, min(MOST_SLOTS, math.ceil(window_s)))

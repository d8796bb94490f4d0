"""How many tokens calls of one kind put out, as far as the last thousand or two tell: what a reservation may go by.

Two generations of counts in buckets that grow by 2^(1/64): the older one is forgotten when the younger one is full.
"""

from __future__ import annotations

import math

from tidegate.core.window import BUCKETS_PER_OCTAVE, index_of

LEAST = 30  # calls of which less is known are bounded by the worst case
GENERATION = 1000
SHARE = 0.99
_A_HAIR = 1 + 1e-12  # an edge of buckets is not to come out below the whole number that it is
ANEW = 16  # so many calls are learned before the bound is reckoned anew


class Outputs:
    """Learns what calls put out, and bounds the next one."""

    __slots__ = ("_before", "_bound", "_now", "_seen", "_stale")

    def __init__(self) -> None:
        self._before: dict[int, int] = {}
        self._now: dict[int, int] = {}
        self._seen = [0, 0]  # calls of the generation before and of this one
        self._bound: int | None = None
        self._stale = 0

    def learn(self, tokens: int) -> None:
        """Remember that a call put out so many tokens."""
        if self._seen[1] >= GENERATION:
            self._before, self._now = self._now, {}
            self._seen = [self._seen[1], 0]
        index = index_of(tokens)
        self._now[index] = self._now.get(index, 0) + 1
        self._seen[1] += 1
        self._stale += 1

    def bound(self) -> int | None:
        """Return what 99 % of the calls stay at or below (of fewer than a hundred: all), within 1.1 % above; ``None`` while too
        few are known."""
        seen = sum(self._seen)
        if seen < LEAST:
            return None
        if self._bound is None or self._stale >= ANEW:
            self._bound, self._stale = self._quantile(seen), 0
        return self._bound

    def _quantile(self, seen: int) -> int:
        above = seen - math.ceil(SHARE * seen)
        for index in sorted(self._before.keys() | self._now.keys(), reverse=True):
            above -= self._before.get(index, 0) + self._now.get(index, 0)
            if above < 0:
                return int(math.exp2(index / BUCKETS_PER_OCTAVE) * _A_HAIR)
        return 0

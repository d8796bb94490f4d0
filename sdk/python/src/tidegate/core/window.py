"""Mergeable distributions of whole numbers: what a window of calls knows of latencies, tokens, costs and queue depths.

Buckets grow by 2^(1/64), so a quantile read from them is off by less than 0.6 %. The packed form, ``[count, sum, min, max,
index << 40 | count, …]`` in order of index, is the one of docs/protocol.md and of the tables.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence

BUCKETS_PER_OCTAVE = 64
_SHIFT = 40
_COUNT = (1 << _SHIFT) - 1
_HEAD = 4
_LAST = 63 * BUCKETS_PER_OCTAVE  # the bucket of the greatest whole number of 64 bits
MOST = (1 << 62) - 1  # counts and sums stop here: two of them together fit into 64 bits


def index_of(value: int) -> int:
    """Return the bucket of ``value``: ⌈64·log₂ value⌉, or 0 for values under 1."""
    return math.ceil(BUCKETS_PER_OCTAVE * math.log2(value)) if value > 1 else 0


def _middle_of(index: int) -> float:
    return 2.0 ** ((index - 0.5) / BUCKETS_PER_OCTAVE) if index > 0 else 1.0


class Distribution:
    """Count, sum, least, greatest and buckets of the values added. Negative values are not defined."""

    __slots__ = ("buckets", "count", "greatest", "least", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self.least = 0
        self.greatest = 0
        self.buckets: dict[int, int] = {}

    def add(self, value: int) -> None:
        """Add one value."""
        if not self.count or value < self.least:
            self.least = value
        if value > self.greatest:
            self.greatest = value
        self.count += 1
        self.total += value
        index = index_of(value)
        self.buckets[index] = self.buckets.get(index, 0) + 1

    def add_all(self, values: Sequence[int]) -> None:
        """Add many values."""
        if not values:
            return
        self._widen(len(values), sum(values), min(values), max(values))
        ceil, log2 = math.ceil, math.log2
        for value, times in Counter(values).items():  # counts of tokens and what they cost are often the same
            index = ceil(BUCKETS_PER_OCTAVE * log2(value)) if value > 1 else 0
            self.buckets[index] = self.buckets.get(index, 0) + times

    def add_seconds(self, times: list[float]) -> float:
        """Add many durations as microseconds, without making a whole number of each. Sorts them; returns their sum."""
        if not times:
            return 0.0
        times.sort()
        least, greatest, count, seconds = times[0], times[-1], len(times), sum(times)
        if least <= 0:  # a clock that stood still, or was moved by hand
            self.add_all([max(0, int(took * 1_000_000)) for took in times])
            return seconds
        whole_least, whole_greatest = int(least * 1_000_000), int(greatest * 1_000_000)
        total = min(whole_greatest * count, max(whole_least * count, int(seconds * 1_000_000)))
        self._widen(count, total, whole_least, whole_greatest)
        begins = 0
        while begins < count:  # a bucket at a time
            place = max(0, math.ceil(BUCKETS_PER_OCTAVE * math.log2(times[begins] * 1_000_000)))
            ends = bisect_right(times, 2.0 ** (place / BUCKETS_PER_OCTAVE) / 1_000_000, begins + 1)
            self.buckets[place] = self.buckets.get(place, 0) + ends - begins
            begins = ends
        return seconds

    def _widen(self, count: int, total: int, least: int, greatest: int) -> None:
        self.least = min(self.least, least) if self.count else least
        self.greatest = max(self.greatest, greatest)
        self.count += count
        self.total += total

    def add_same(self, value: int, times: int) -> None:
        """Add one value so many times."""
        if times <= 0:
            return
        self.least = min(self.least, value) if self.count else value
        self.greatest = max(self.greatest, value)
        self.count += times
        self.total += value * times
        index = index_of(value)
        self.buckets[index] = self.buckets.get(index, 0) + times

    def merge(self, other: Distribution) -> None:
        """Add all values of ``other``."""
        if not other.count:
            return
        self.least = min(self.least, other.least) if self.count else other.least
        self.greatest = max(self.greatest, other.greatest)
        self.count += other.count
        self.total += other.total
        for index, amount in other.buckets.items():
            self.buckets[index] = self.buckets.get(index, 0) + amount

    def packed(self) -> list[int]:
        """Return the packed form; empty for no values. What is too much for its place stops at the most that fits."""
        if not self.count:
            return []
        if self.count > _COUNT:
            buckets = [index << _SHIFT | min(_COUNT, amount) for index, amount in sorted(self.buckets.items())]
        else:
            buckets = [index << _SHIFT | amount for index, amount in sorted(self.buckets.items())]
        return [min(MOST, self.count), min(MOST, self.total), self.least, self.greatest, *buckets]

    @classmethod
    def from_packed(cls, packed: Sequence[int]) -> Distribution:
        """Return the distribution of a packed form; ``ValueError`` when ``check`` finds fault with it."""
        fault = check(packed)
        if fault:
            raise ValueError(fault)
        made = cls()
        if packed:
            made.count, made.total, made.least, made.greatest = packed[:_HEAD]
            made.buckets = {entry >> _SHIFT: entry & _COUNT for entry in packed[_HEAD:]}
        return made


def check(packed: Sequence[int]) -> str | None:
    """Return what is wrong with a packed form that somebody sent, or ``None``."""
    if not packed:
        return None
    if len(packed) <= _HEAD:
        return "a distribution has count, sum, min, max and at least one bucket"
    count, total, least, greatest = packed[:_HEAD]
    fits = least * count <= total <= greatest * count or total >= MOST
    if count < 1 or least < 0 or greatest < least or not fits:
        return "count, sum, min and max of a distribution don't fit each other"
    before = -1
    seen = 0
    for entry in packed[_HEAD:]:
        if entry >> _SHIFT <= before:
            return "the buckets of a distribution must be in rising order"
        before = entry >> _SHIFT
        seen += entry & _COUNT
    if before > _LAST:
        return "a bucket of a distribution is beyond all whole numbers"
    return (
        None
        if seen == count or (seen >= _COUNT and count >= _COUNT)
        else "the buckets of a distribution don't add up to its count"
    )


def quantile(packed: Sequence[int], q: float) -> int:
    """Return the value at rank ⌈q·count⌉ of a packed form, within 0.6 %; 0 for no values. ``q`` is from 0 to 1."""
    if not packed:
        return 0
    count, _, least, greatest = packed[:_HEAD]
    rank = max(1, math.ceil(q * count))
    if rank >= count:
        return greatest
    for entry in packed[_HEAD:]:
        rank -= entry & _COUNT
        if rank <= 0:
            return min(greatest, max(least, round(_middle_of(entry >> _SHIFT))))
    return greatest

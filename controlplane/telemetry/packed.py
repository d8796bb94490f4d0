"""Packed buckets of many rows together, and the buckets that their quantiles lie in, without a merged distribution being made of them."""

from __future__ import annotations

import math
import struct
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format
from psycopg.types.array import ArrayBinaryLoader

QUANTILES = (0.5, 0.9, 0.95, 0.99)
RULE_QUANTILES = (0.5, 0.95, 0.99)  # those that rules look at
BIGINTS = 1016  # PostgreSQL's number for the type bigint[]
SHIFT = 40
_COUNT = (1 << SHIFT) - 1
_HEAD = 20  # bytes of an array before its first element, each of which is 4 bytes of its length and 8 of its value
_EACH = 12
_FIGURES = 4  # elements of a distribution before its buckets
_MANY = 2048  # buckets; layouts of as many are not kept
_ONE = struct.Struct(">4xq")
_NONE = (None,) * len(QUANTILES)
_LONG_ROW = 128  # buckets; of rows that are as long on average nothing is sorted


class Packed:
    """Packed buckets of one row, in their order, read out of what PostgreSQL sent when they are asked for."""

    __slots__ = ("_entries", "_seen", "_sent")

    def __init__(self, entries: Sequence[int], sent: bytes = b"", seen: list[int] | None = None) -> None:
        self._entries = entries
        self._sent = sent
        self._seen = seen or []

    @classmethod
    def of(cls, sent: bytes) -> Packed:
        """Read a ``bigint[]`` without nulls in its binary form."""
        return cls((), sent if len(sent) > _HEAD else b"")

    @classmethod
    def together(cls, sent: bytes) -> Packed:
        """Read what ``sent_buckets`` tells of many rows; buckets may be there more than once."""
        count = len(sent) // _EACH
        entries = _layout("4xq", count).unpack(sent) if count < _MANY else [each for (each,) in _ONE.iter_unpack(sent)]
        return cls(sorted(entries))

    def __bool__(self) -> bool:
        return bool(self._sent or self._entries)

    def __len__(self) -> int:
        return (len(self._sent) - _HEAD) // _EACH if self._sent else len(self._entries)

    @property
    def entries(self) -> Sequence[int]:
        if not self._entries and self._sent:
            self._entries = _layout("4xq", len(self)).unpack_from(self._sent, _HEAD)
        return self._entries

    @property
    def seen(self) -> list[int]:
        """How many values there are before each bucket, and in all of them at the end."""
        if not self._seen:
            self._seen = list(accumulate(self._amounts(), initial=0))
        return self._seen

    def _amounts(self) -> Sequence[int]:
        # Where no amount has more than 32 bits they are taken out of what was sent: a third of what masking costs.
        if self._sent and not self._sent[_HEAD + 7 :: _EACH].strip(b"\0"):
            found: Sequence[int] = _layout("8xI", len(self)).unpack_from(self._sent, _HEAD)
            return found
        return [entry & _COUNT for entry in self.entries]

    def tails(self) -> list[int]:
        """Return the buckets that the quantiles lie in."""
        seen = self.seen
        total, entries = seen[-1], self._entries
        places = [bisect_left(seen, math.ceil(total * share)) - 1 for share in QUANTILES]
        return [entries[place] >> SHIFT for place in places] if entries else [self._bucket(place) for place in places]

    def _bucket(self, place: int) -> int:
        begins = _HEAD + place * _EACH + 4
        return int.from_bytes(self._sent[begins : begins + 3], "big", signed=True)


def sent_buckets(column: str) -> str:
    """Return SQL for the packed buckets of a distribution in all rows of a group, as one string of bytes."""
    return f"string_agg(substr(array_send({column}), {_HEAD + _FIGURES * _EACH + 1}), ''::bytea)"


@lru_cache(maxsize=512)
def _layout(each: str, count: int) -> struct.Struct:
    return struct.Struct(">" + each * count)


class PackedLoader(Loader):
    """Makes ``Packed`` of a ``bigint[]``."""

    format = Format.BINARY

    def load(self, data: Buffer) -> Packed:
        sent = bytes(data)
        if sent[7]:  # it has nulls
            return Packed(ArrayBinaryLoader(BIGINTS).load(sent))
        return Packed.of(sent)


def tails_of(rows: Sequence[Packed], parts: Sequence[Sequence[int | None]] = ()) -> Sequence[int | None]:
    """Return the buckets that the quantiles of all rows together lie in; ``parts``: those of parts that make up the same."""
    if not rows:
        return _NONE
    if not parts:
        rows = gathered(rows)
    return sought(rows, parts) if len(rows) > 1 else rows[0].tails()


def gathered(rows: Sequence[Packed]) -> Sequence[Packed]:
    """Return one row of all when they are short. To sort them is quicker than to add up equal buckets."""
    if len(rows) < 2:
        return rows
    ordered, most = list[int](), _LONG_ROW * len(rows)
    for row in rows:
        ordered += row.entries
        if len(ordered) > most:
            return rows
    ordered.sort()
    return [Packed(ordered)]


def sought(rows: Sequence[Packed], parts: Sequence[Sequence[int | None]] = ()) -> list[int]:
    """Find the buckets by halving, without merging anything: what few long rows cost least.

    A quantile of all lies between the least and the greatest of the same of parts, which are the rows when there are no others.
    """
    parts = parts or [row.tails() for row in rows]
    first, last = min([row.entries[0] for row in rows]) >> SHIFT, max([row.entries[-1] for row in rows]) >> SHIFT
    held = [(row.entries, row.seen) for row in rows]
    total = sum([seen[-1] for _, seen in held])
    found = list[int]()
    for place, share in enumerate(QUANTILES):
        known = [bucket for part in parts if (bucket := part[place]) is not None]
        low, high = max(first, min(known, default=first)), max(known, default=last)
        wanted = math.ceil(total * share)
        while low < high:
            middle = (low + high) // 2
            if _up_to(middle, held) < wanted:
                low = middle + 1
            else:
                high = middle
        found.append(low)
    return found


def _up_to(bucket: int, held: Sequence[tuple[Sequence[int], Sequence[int]]]) -> int:
    """Return how many values there are in the buckets up to ``bucket``, of entries and what is seen before each."""
    ends, count = (bucket + 1) << SHIFT, 0
    for entries, seen in held:
        count += seen[bisect_left(entries, ends)]
    return count

"""What a read out of memory looks at: one object and the value.

With thousands of owners a read takes as long as the processor waits for memory, and most of that is one wait after the other: for
the ``Space``, for what it points to, for what that points to. So a ``Space`` has what it read last in itself, lent by the entry
of the memory, which takes it back when the value is to be forgotten.

Why that is safe without a lock: see ``tidegate.cells``; places that depend on it are marked ATOMIC. Where there is no such
interpreter nothing is lent, and every read begins at the entry, which has one key and one value for good.
"""

from __future__ import annotations

import marshal
import sys
from collections.abc import Callable
from typing import Any, Protocol

LENDS = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()
MISS: Any = object()
ABSENT: Any = object()


def copy_of(value: Any) -> Any:
    """Return a copy of a JSON value, all the way down."""
    return marshal.loads(marshal.dumps(value))  # noqa: S302  our own bytes


class Trusted(Protocol):
    trusted_until: float


class Tally:
    """What all who read of a tenant and kind share: how many reads were hits, the clock, and until when the memory is trusted."""

    __slots__ = ("clock", "hits", "memory")

    def __init__(self, memory: Trusted, clock: Callable[[], float]) -> None:
        self.memory = memory
        self.clock = clock
        self.hits = 0


class Near:
    """A value under ``key`` until ``until``, or ``ABSENT`` when it is known that there is none."""

    __slots__ = ("_kept", "_key", "_tally", "_until", "_used")  # first in their objects, and in one line of the cache

    def __init__(self, tally: Tally, key: str = "", kept: Any = ABSENT, until: float = 0.0) -> None:
        self._tally = tally
        self._key = key
        self._kept = kept
        self._until = until
        self._used = False

    def _take(self, key: str, default: Any) -> Any:
        """Return a value of the caller's own and count it: ``default`` when there is none, ``MISS`` when it is not here or not trusted."""
        kept, until, own = self._kept, self._until, self._key  # ATOMIC: these belong together
        if own != key:
            return MISS
        tally = self._tally
        clock = tally.clock
        now = clock()
        if now >= until or now >= tally.memory.trusted_until:
            return MISS
        self._used = True
        tally.hits += 1  # ATOMIC
        kind = type(kept)
        if kind is bytes:  # what was marshalled: JSON has none
            return marshal.loads(kept)  # noqa: S302  our own bytes
        if kind is dict or kind is list:
            return kept.copy()
        return default if kept is ABSENT else kept

    def _end(self) -> None:
        """It is forgotten: nobody gets anything from it any more, and it holds no value."""
        self._until = 0.0
        self._kept = ABSENT


class Reader(Near):
    """Reads, and is lent what it reads: a ``Space``."""

    __slots__ = ("_lender",)

    def __init__(self, tally: Tally) -> None:
        super().__init__(tally)
        self._lender: Entry | None = None

    def _borrow(self, lender: Entry | None, key: str, kept: Any, until: float) -> None:
        """Have what an entry has, instead of what was lent before."""
        if self._lender is not None and self._lender.holder is self:
            self._lender.holder = None
        self._lender = lender
        self._key, self._kept, self._until = key, kept, until  # ATOMIC: nothing is called in between
        self._used = False

    def _end(self) -> None:
        super()._end()
        self._lender = None

    def _is_at_work(self) -> bool:
        """Tell whether what was lent has been read since this was last asked, and is to stay for that."""
        used, self._used = self._used and self._lender is not None, False
        return used


class Entry(Near):
    """A value in memory. Version 0 is that of ``ABSENT``; ``size`` is in bytes. ``holder`` has been lent it; ``last`` is the id of who read it."""

    __slots__ = ("holder", "last", "name", "owner_name", "size", "version")

    def __init__(
        self, tally: Tally, key: str, kept: Any, until: float, *, version: int, size: int, name: str, owner_name: str
    ) -> None:
        super().__init__(tally, key, kept, until)
        self.version = version
        self.size = size
        self.name = name
        self.owner_name = owner_name
        self.holder: Reader | None = None
        self.last = 0

    def lives(self, now: float) -> bool:
        return now < self._until

    def lend(self, reader: Reader) -> None:
        """Have a reader read it without looking for it."""
        if self.holder is not None:
            self.holder._end()
        reader._borrow(self, self._key, self._kept, self._until)
        self.holder = reader

    def _end(self) -> None:
        super()._end()
        if self.holder is not None:
            self.holder._end()
        self.holder = None

    def was_used(self) -> bool:
        """Tell whether it was read since this was last asked."""
        used = self._used
        self._used = False
        if self.holder is not None:
            used, self.holder._used = used or self.holder._used, False
        return used

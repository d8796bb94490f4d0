"""What every lease may have cost at most, in a file that outlives the process: a kill strands nothing.

One file per incarnation, mapped into memory. A word per lease is written before a call is let through, so whatever kills the
process, the file says S + H: what was settled, and the bounds of what was in flight. The next process that finds the file
without an owner (nobody holds its lock) says the final word for it (``tidegate.replaying``). There is no fsync: it is for
processes that die, not for machines that lose power.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tidegate.leasing import Slip

try:
    import fcntl
except ImportError:  # no locks to tell the dead from the living: no journal
    fcntl = None  # type: ignore[assignment]  # a module, or none

HEAD = 1024  # bytes: a JSON object and spaces
MOST_BUDGETS = 64
WORDS = 3 + MOST_BUDGETS  # number, spent, how many budgets, their ids
RECORD = 8 * WORDS
RECORDS = 1024  # leases; more than so many at once are not journaled
SUFFIX = ".journal"
KEPT_S = 35 * 86_400.0  # a file that nobody could speak for is deleted then
_MAX_ID = 2**64 - 1

_log = logging.getLogger("tidegate")


def owner_of(url: str, key: str) -> str:
    """Return a word that is the same for those who may speak for each other: same control plane, same key."""
    return hashlib.sha256(f"{url}\n{key}".encode()).hexdigest()[:32]


def folder_from(given: str | Path | None) -> Path | None:
    """Return where journals are kept: what was passed, else ``TIDEGATE_JOURNAL_DIR``; ``None`` for none."""
    named = str(given) if given is not None else os.environ.get("TIDEGATE_JOURNAL_DIR", "")
    if named and fcntl is None:
        _log.warning("tidegate: this platform has no file locks: no journal is kept")
        return None
    return Path(named) if named else None


class Journals(NamedTuple):
    """Where journals are, and of whom."""

    folder: Path
    owner: str


class Journal:
    """The file of one incarnation. It is made with the first lease. The guard's lock is held by whoever calls ``note``."""

    def __init__(self, among: Journals, identity: dict[str, Any]) -> None:
        self._folder = among.folder
        self._head = {"format": 1, "owner": among.owner, **identity}
        self._path = among.folder / f"{identity['incarnation']}{SUFFIX}"
        self._descriptor = -1
        self._map: mmap.mmap | None = None
        self._words: memoryview | None = None
        self._places: dict[int, int] = {}  # of leases, by number, in words
        self._free: list[int] = []
        self.broken = False

    def note(self, slip: Slip) -> None:
        """Write what the lease may have cost. The word is written whole or not at all."""
        place = self._places.get(slip.number)
        if place is None:
            place = self._place(slip)
            if place < 0:
                return
        lease = slip.lease
        self._words[place + 1] = lease.settled + max(0, lease.held)  # type: ignore[index]  # there is one when there is a place

    def forget(self, number: int) -> None:
        """The server has confirmed that the lease is closed."""
        place = self._places.pop(number, -1)
        if place >= 0 and self._words is not None:
            self._words[place] = 0
            self._free.append(place)

    def _place(self, slip: Slip) -> int:
        if self._map is None and not self.broken:
            self._open()
        ids = slip.path.ids
        if self.broken or not self._free or len(ids) > MOST_BUDGETS or not all(0 < key <= _MAX_ID for key in ids):
            return -1
        words, place = self._words, self._free.pop()
        assert words is not None  # noqa: S101  it is not broken
        words[place + 1] = 0
        words[place + 2] = len(ids)
        for offset, key in enumerate(ids):
            words[place + 3 + offset] = key
        words[place] = slip.number  # last: from here on the record counts
        self._places[slip.number] = place
        return place

    def _open(self) -> None:
        size = HEAD + RECORD * RECORDS
        made = self._path.with_suffix(".new")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _reserve(self._descriptor, size)
            os.pwrite(self._descriptor, json.dumps(self._head).encode().ljust(HEAD), 0)
            self._map = mmap.mmap(self._descriptor, size)
            made.rename(self._path)  # only now is it found, locked and whole
        except OSError as error:
            self.broken = True
            _log.warning("tidegate: no journal is kept: %s", error)
            return
        self._words = memoryview(self._map)[HEAD:].cast("Q")
        self._free = [number * WORDS for number in reversed(range(RECORDS))]

    def abandon(self) -> None:
        """In a forked child: the file is the parent's. The lock stays with the parent, too."""
        self._let_go()

    def close(self) -> None:
        """Let go of the file, and delete it when nothing is left to say for it; else the next process says it."""
        if self._map is not None and not self._places:
            with contextlib.suppress(OSError):
                self._path.unlink()
        self._let_go()

    def _let_go(self) -> None:
        self.broken = True
        if self._words is not None:
            self._words.release()
            self._words = None
        if self._map is not None:
            self._map.close()
            self._map = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._places, self._free = {}, []


def _reserve(descriptor: int, size: int) -> None:
    """Take the disk's space now: a page that can't be had later would be the end of the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.pwrite(descriptor, bytes(size), 0)


class LastWord(NamedTuple):
    """What a lease of a dead incarnation may have cost at most, in nano-USD, on budgets by id, leaf first."""

    number: int
    spent: int
    budgets: tuple[int, ...]


class Dead(NamedTuple):
    """The journal of an incarnation whose process is gone. Whoever has it is the only one who speaks for it."""

    path: Path
    descriptor: int
    head: dict[str, Any]
    leases: tuple[LastWord, ...]

    def bury(self) -> None:
        """Everything is said: delete the file."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        self.leave()

    def leave(self) -> None:
        """Leave it to the next one."""
        os.close(self.descriptor)


def find_dead(among: Journals) -> Iterator[Dead]:
    """Take the journals of dead processes that their owner may speak for, one by one; bury or leave each."""
    for path in sorted(among.folder.glob(f"*{SUFFIX}")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            dead = _take(path, among.owner)
            if dead is not None:
                yield dead


def _take(path: Path, owner: str) -> Dead | None:
    """Lock a journal and read it; ``None`` when its process lives, somebody else has it, or it is another owner's."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        known = os.fstat(descriptor)
        if known.st_ino != path.stat().st_ino:
            raise BlockingIOError  # buried meanwhile
        if time.time() - known.st_mtime > KEPT_S:
            path.unlink()
            raise BlockingIOError
        data = os.pread(descriptor, HEAD + RECORD * RECORDS, 0)
        head = json.loads(data[:HEAD])
        if head["format"] != 1 or head["owner"] != owner:
            raise BlockingIOError
        return Dead(path, descriptor, head, tuple(_records(data)))
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise


def _records(data: bytes) -> Iterator[LastWord]:
    words = memoryview(data)[HEAD : HEAD + (len(data) - HEAD) // RECORD * RECORD].cast("Q")
    for place in range(0, len(words), WORDS):
        number, spent, count = words[place : place + 3]
        if number and 0 < count <= MOST_BUDGETS:
            yield LastWord(number, spent, tuple(words[place + 3 : place + 3 + count]))

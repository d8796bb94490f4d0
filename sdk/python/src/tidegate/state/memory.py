"""L1: values in this process, trusted only while the control plane vouches that it tells of every change.

A caller who changes what it was given changes nothing here: it is given a copy. What can't be changed is handed out as it is, a dict or
list of such is copied as it is, anything deeper is kept marshalled: that is both the quickest and the smallest. A hit takes no lock, and who
reads the same again looks no further than at itself (``tidegate.state.near``). What is least recently used goes first, by second chance.
"""

from __future__ import annotations

import marshal
import random
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from tidegate.core.partition import hash_of
from tidegate.state.near import ABSENT, LENDS, MISS, Entry, Reader, Tally, copy_of

__all__ = ["ABSENT", "MISS", "Loaded", "Memory", "Place", "copy_of"]

Place = tuple[str | None, str, str, str]  # tenant, kind, owner, key

MAX_BYTES = 8 * 1024 * 1024
LIFE_S = 10.0
JITTER = 0.2  # a life is up to this part shorter, so that not all end at once
TRUST_S = 2.0  # the control plane says twice a second that it tells of every change
OVERHEAD = 630  # bytes of an entry beside its value, with who has been lent it
LIVES_PER_S = 4  # lives end that often, so that those of many entries are one number: a read has less to fetch
MAX_FLOORS = 10_000
MAX_WORDS = 1_000  # names of fields that flat dicts share
MAX_FLAT = 64  # items of a dict or list that is kept as it is
PLAIN = frozenset({str, int, float, bool, type(None)})


def form_of(value: Any, words: dict[str, str]) -> tuple[Any, int]:
    """Return a JSON value, or ``ABSENT``, as it is kept, and its size in bytes. Nobody else may have the value.

    Names of fields are those in ``words``, which are one object for all dicts: a copy counts a reference to each.
    """
    if value is ABSENT:
        return ABSENT, 0
    if type(value) in PLAIN:
        return value, sys.getsizeof(value)
    if len(value) <= MAX_FLAT:
        if type(value) is dict and PLAIN.issuperset(map(type, value.values())):
            size = sum(map(sys.getsizeof, (value, *value, *value.values())))
            return {words.setdefault(name, name): each for name, each in value.items()}, size
        if type(value) is list and PLAIN.issuperset(map(type, value)):
            return value, sum(map(sys.getsizeof, (value, *value)))
    data = marshal.dumps(value)
    return data, len(data)


class Loaded(NamedTuple):
    """What came of a load: a value that nobody else has, or ``ABSENT``. ``left_s`` is how long it lives, ``None`` for ever."""

    value: Any
    version: int
    left_s: float | None


class Memory:
    """Bounded by bytes. Everything takes the lock but ``get``, and ``read`` of what is lent already or need not be."""

    def __init__(self, max_bytes: int = MAX_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_bytes = max_bytes
        self.scope: str | None = None  # the tenant of the key, once it is known: names are told with it
        self.generation = 0  # grows when everything is forgotten: what was loaded before is not kept
        self._clock = clock
        self._chance = random.Random()  # noqa: S311  jitter
        self._entries: OrderedDict[Place, Entry] = OrderedDict()
        self._tallies: dict[tuple[str | None, str], Tally] = {}
        self.renew()

    def renew(self) -> None:
        """Begin empty, at first and in a forked child."""
        self.generation += 1
        self.trusted_until = 0.0
        self.bytes = 0
        self.evicted = 0
        self._end_all()
        self._entries = OrderedDict()
        self._places: dict[str, Place] = {}
        self._ends: dict[int, float] = {}
        self._words: dict[str, str] = {}
        self._floors: OrderedDict[str, int] = OrderedDict()
        for tally in self._tallies.values():
            tally.hits = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def tally(self, tenant: str | None, kind: str) -> Tally:
        """Return what those share who read of a tenant and kind."""
        found = self._tallies.get((tenant, kind))
        return found or self._tallies.setdefault((tenant, kind), Tally(self, self._clock))

    def get(self, place: Place, default: Any = ABSENT) -> Any:
        """Return a value of the caller's own, ``default`` when there is none, or ``MISS`` when it is not here or can't be trusted."""
        entry = self._entries.get(place)
        return MISS if entry is None else entry._take(place[3], default)

    def read(self, place: Place, default: Any, reader: Reader) -> Any:
        """Return what ``get`` does. Who reads the same twice is lent it: it need not come here until the value is forgotten."""
        entry = self._entries.get(place)
        if entry is None:
            return MISS
        value = entry._take(place[3], default)
        if entry.last != id(reader):
            entry.last = id(reader)
        elif LENDS and value is not MISS and not reader._is_at_work():
            self._lend(place, entry, reader)
        return value

    def lend(self, place: Place, reader: Reader) -> None:
        """Let a reader have what it has just loaded or written, if it is remembered here."""
        entry = self._entries.get(place)
        if entry is not None:
            entry.last = id(reader)
            if LENDS and not reader._is_at_work():
                self._lend(place, entry, reader)

    def _lend(self, place: Place, entry: Entry, reader: Reader) -> None:
        with self._lock:
            if self._entries.get(place) is entry:
                entry.lend(reader)

    def version(self, place: Place) -> int | None:
        """Return the version of what ``get`` would give, ``None`` for a miss."""
        entry = self._entries.get(place)
        now = self._clock()
        return None if entry is None or not entry.lives(now) or now >= self.trusted_until else entry.version

    def keep(self, place: Place, loaded: Loaded, *, generation: int) -> None:
        """Remember what was loaded when the memory was of ``generation``, unless something newer was told of since."""
        name = self._name(place)
        if len(self._words) > MAX_WORDS:
            self._words = {}
        kept, size = form_of(loaded.value, self._words)
        size += OVERHEAD + len(place[2]) + len(place[3])
        now = self._clock()
        until = self._end(now + LIFE_S * (1.0 - JITTER * self._chance.random()))
        if loaded.left_s is not None:
            until = min(until, now + loaded.left_s)
        with self._lock:
            entry = self._entries.get(place)
            stale = loaded.version < self._floors.get(name, 0) or (entry is not None and entry.version > loaded.version)
            if generation != self.generation or stale or size > self.max_bytes:
                return
            self._drop(place)
            self._entries[place] = Entry(
                self.tally(place[0], place[1]), place[3], kept, until,
                version=loaded.version, size=size, name=name, owner_name=self._name(place[:3]),
            )  # fmt: skip
            self._places[name] = place
            self.bytes += size
            self._make_room(now)

    def _end(self, until: float) -> float:
        """Return when a life ends that should end by ``until``: always the same number for about the same time."""
        number = int(until * LIVES_PER_S)
        if len(self._ends) > 2 * LIFE_S * LIVES_PER_S:
            self._ends = {}
        return self._ends.setdefault(number, number / LIVES_PER_S)

    def _name(self, parts: tuple[str | None, ...]) -> str:
        tenant, *rest = parts
        return f"{hash_of(tenant if tenant is not None else self.scope or '', *map(str, rest)):016x}"

    def _drop(self, place: Place) -> None:
        entry = self._entries.pop(place, None)
        if entry is not None:
            entry._end()
            self.bytes -= entry.size
            self._places.pop(entry.name, None)

    def _make_room(self, now: float) -> None:
        while self.bytes > self.max_bytes:
            place, entry = next(iter(self._entries.items()))
            if entry.was_used() and entry.lives(now):
                self._entries.move_to_end(place)
            else:
                self._drop(place)
                self.evicted += 1

    def forget(self, place: Place) -> None:
        with self._lock:
            self._drop(place)

    def told(self, changes: list[tuple[str, int]]) -> None:
        """Forget what has changed: ``(name, version)``; version 0 is all that an owner has."""
        with self._lock:
            for name, version in changes:
                if version == 0:
                    self.generation += 1
                    for place in [place for place, entry in self._entries.items() if entry.owner_name == name]:
                        self._drop(place)
                    continue
                known = self._places.get(name)
                if known is not None and self._entries[known].version < version:
                    self._drop(known)
                self._floors[name] = max(version, self._floors.pop(name, 0))
                if len(self._floors) > MAX_FLOORS:
                    self._floors.popitem(last=False)

    def told_of(self, place: Place, version: int) -> None:
        """A write of our own has been carried out."""
        self.told([(self._name(place), version)])

    def know_scope(self, scope: str) -> None:
        """The key belongs to ``scope``: what callers keep without naming a tenant is told of under it."""
        if scope != self.scope:
            self.scope = scope
            self.forget_all()

    def forget_all(self) -> None:
        """Forget every value and what was told of any: what is being read meanwhile is not kept either."""
        with self._lock:
            self.generation += 1
            self._end_all()
            self._entries.clear()
            self._places.clear()
            self._floors.clear()
            self.bytes = 0

    def _end_all(self) -> None:
        for entry in self._entries.values():
            entry._end()

    def trust(self) -> None:
        """Everything that changed until now has been told."""
        self.trusted_until = self._clock() + TRUST_S

    def distrust(self) -> None:
        self.trusted_until = 0.0

    def take_hits(self) -> dict[tuple[str | None, str], int]:
        """Return the hits by tenant and kind since they were last taken."""
        hits = {counted: tally.hits for counted, tally in list(self._tallies.items()) if tally.hits}
        for counted, count in hits.items():
            self._tallies[counted].hits -= count  # ATOMIC
        return hits

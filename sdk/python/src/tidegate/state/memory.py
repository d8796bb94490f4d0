"""L1: values in this process, trusted only while the control plane vouches that it tells of every change.

Values are kept marshalled, so that a caller who changes what it was given changes nothing here. A hit takes no lock: one look
into a dict. What is least recently used goes first, by second chance.
"""

from __future__ import annotations

import marshal
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from tidegate.core.partition import hash_of

Place = tuple[str | None, str, str, str]  # tenant, kind, owner, key

MAX_BYTES = 8 * 1024 * 1024
LIFE_S = 10.0
JITTER = 0.2  # a life is up to this part shorter, so that not all end at once
TRUST_S = 2.0  # the control plane says twice a second that it tells of every change
OVERHEAD = 400  # bytes of an entry beside its value
MAX_FLOORS = 10_000
MISS: Any = object()
ABSENT: Any = object()


class Entry:
    """A value, ``None`` as its bytes when it is known to be absent (version 0). ``tally`` counts the hits of its tenant and kind."""

    __slots__ = ("data", "name", "owner_name", "size", "tally", "until", "used", "version")

    def __init__(
        self, data: bytes | None, version: int, until: float, size: int, name: str, owner_name: str, tally: list[int]
    ) -> None:
        self.data = data
        self.version = version
        self.until = until
        self.size = size
        self.name = name
        self.owner_name = owner_name
        self.tally = tally
        self.used = False


class Loaded(NamedTuple):
    """What came of a load. ``data`` is marshalled, ``None`` for absent; ``left_s`` is how long the value lives, ``None`` for ever."""

    data: bytes | None
    version: int
    left_s: float | None


class Memory:
    """Bounded by bytes. Everything but ``get`` takes the lock."""

    def __init__(self, max_bytes: int = MAX_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_bytes = max_bytes
        self.scope: str | None = None  # the tenant of the key, once it is known: names are told with it
        self.generation = 0  # grows when everything is forgotten: what was loaded before is not kept
        self._clock = clock
        self._chance = random.Random()  # noqa: S311  jitter
        self.renew()

    def renew(self) -> None:
        """Begin empty, at first and in a forked child."""
        self.generation += 1
        self.trusted_until = 0.0
        self.bytes = 0
        self.evicted = 0
        self._entries: OrderedDict[Place, Entry] = OrderedDict()
        self._places: dict[str, Place] = {}
        self._floors: OrderedDict[str, int] = OrderedDict()
        self._hits: dict[tuple[str | None, str], list[int]] = {}  # each is a list of one, which entries share
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, place: Place) -> Any:
        """Return the value, ``ABSENT``, or ``MISS`` when it is not here or can't be trusted."""
        entry = self._entries.get(place)
        if entry is None:
            return MISS
        now = self._clock()
        if now >= entry.until or now >= self.trusted_until:
            return MISS
        entry.used = True
        entry.tally[0] += 1
        data = entry.data
        return ABSENT if data is None else marshal.loads(data)  # noqa: S302  our own bytes

    def version(self, place: Place) -> int | None:
        """Return the version of what ``get`` would give, ``None`` for a miss."""
        entry = self._entries.get(place)
        now = self._clock()
        return None if entry is None or now >= entry.until or now >= self.trusted_until else entry.version

    def keep(self, place: Place, loaded: Loaded, *, generation: int) -> None:
        """Remember what was loaded when the memory was of ``generation``, unless something newer was told of since."""
        name, owner_name = self._name(place), self._name(place[:3])
        size = OVERHEAD + len(place[2]) + len(place[3]) + (len(loaded.data) if loaded.data is not None else 0)
        now = self._clock()
        life = LIFE_S * (1.0 - JITTER * self._chance.random())
        until = now + (life if loaded.left_s is None else min(life, loaded.left_s))
        with self._lock:
            entry = self._entries.get(place)
            stale = loaded.version < self._floors.get(name, 0) or (entry is not None and entry.version > loaded.version)
            if generation != self.generation or stale or size > self.max_bytes:
                return
            self._drop(place)
            tally = self._hits.setdefault(place[:2], [0])
            self._entries[place] = Entry(loaded.data, loaded.version, until, size, name, owner_name, tally)
            self._places[name] = place
            self.bytes += size
            self._make_room(now)

    def _name(self, parts: tuple[str | None, ...]) -> str:
        tenant, *rest = parts
        return f"{hash_of(tenant if tenant is not None else self.scope or '', *map(str, rest)):016x}"

    def _drop(self, place: Place) -> None:
        entry = self._entries.pop(place, None)
        if entry is not None:
            self.bytes -= entry.size
            self._places.pop(entry.name, None)

    def _make_room(self, now: float) -> None:
        while self.bytes > self.max_bytes:
            place, entry = next(iter(self._entries.items()))
            if entry.used and now < entry.until:
                entry.used = False
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
        with self._lock:
            self.generation += 1
            self._entries.clear()
            self._places.clear()
            self._floors.clear()
            self.bytes = 0

    def trust(self) -> None:
        """Everything that changed until now has been told."""
        self.trusted_until = self._clock() + TRUST_S

    def distrust(self) -> None:
        self.trusted_until = 0.0

    def take_hits(self) -> dict[tuple[str | None, str], int]:
        """Return the hits by tenant and kind since they were last taken."""
        hits = {counted: tally[0] for counted, tally in list(self._hits.items()) if tally[0]}
        for counted, count in hits.items():
            self._hits[counted][0] -= count
        return hits

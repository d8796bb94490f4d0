"""L1: values in this process, trusted only while the control plane vouches that it tells of every change.

A caller who changes what it was given changes nothing here: it is given a copy, which is most of what a hit takes. What can't be changed
is handed out as it is, a dict or list of such is copied as it is, anything deeper is kept marshalled: that is both the quickest and the
smallest. A hit takes no lock: one look into a dict. What is least recently used goes first, by second chance.
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

Place = tuple[str | None, str, str, str]  # tenant, kind, owner, key

MAX_BYTES = 8 * 1024 * 1024
LIFE_S = 10.0
JITTER = 0.2  # a life is up to this part shorter, so that not all end at once
TRUST_S = 2.0  # the control plane says twice a second that it tells of every change
OVERHEAD = 400  # bytes of an entry beside its value
LIVES_PER_S = 4  # lives end that often, so that those of many entries are one number: a read has less to fetch
MAX_FLOORS = 10_000
MAX_FLAT = 64  # items of a dict or list that is kept as it is
PLAIN = frozenset({str, int, float, bool, type(None)})
MISS: Any = object()
ABSENT: Any = object()


class Form(NamedTuple):
    """How a value is kept: ``copy(kept)`` is what a caller gets, or ``kept`` itself where ``copy`` is ``None``. ``size``: bytes."""

    kept: Any
    copy: Callable[[Any], Any] | None
    size: int


def form_of(value: Any) -> Form:
    """Return how to keep a JSON value, or ``ABSENT``. Nobody else may have the value."""
    if value is ABSENT:
        return Form(ABSENT, None, 0)
    if type(value) in PLAIN:
        return Form(value, None, sys.getsizeof(value))
    if len(value) <= MAX_FLAT:
        if type(value) is dict and PLAIN.issuperset(map(type, value.values())):
            return Form(value, dict.copy, sum(map(sys.getsizeof, (value, *value, *value.values()))))
        if type(value) is list and PLAIN.issuperset(map(type, value)):
            return Form(value, list.copy, sum(map(sys.getsizeof, (value, *value))))
    data = marshal.dumps(value)
    return Form(data, marshal.loads, len(data))


def copy_of(value: Any) -> Any:
    """Return a copy of a JSON value, all the way down."""
    return marshal.loads(marshal.dumps(value))  # noqa: S302  our own bytes


class Entry:
    """A value, or ``ABSENT`` when it is known that there is none (version 0). ``tally`` counts the hits of its tenant and kind."""

    __slots__ = ("copy", "kept", "key", "name", "owner_name", "size", "tally", "until", "used", "version")

    def __init__(
        self, key: str, form: Form, version: int, until: float, size: int, names: tuple[str, str], tally: list[int]
    ) -> None:
        self.key = key
        self.kept = form.kept
        self.copy = form.copy
        self.version = version
        self.until = until
        self.size = size
        self.name, self.owner_name = names
        self.tally = tally
        self.used = False

    def end(self) -> None:
        """It is forgotten: who still has it gets nothing from it any more. In this order, as readers take no lock."""
        self.until = 0.0
        self.kept = ABSENT


NO_ENTRY = Entry("", Form(ABSENT, None, 0), 0, 0.0, 0, ("", ""), [0])


class Loaded(NamedTuple):
    """What came of a load: a value that nobody else has, or ``ABSENT``. ``left_s`` is how long it lives, ``None`` for ever."""

    value: Any
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
        self._entries: OrderedDict[Place, Entry] = OrderedDict()
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
        self._floors: OrderedDict[str, int] = OrderedDict()
        self._hits: dict[tuple[str | None, str], list[int]] = {}  # each is a list of one, which entries share
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, place: Place, default: Any = ABSENT) -> Any:
        """Return a value of the caller's own, ``default`` when there is none, or ``MISS`` when it is not here or can't be trusted."""
        return self.take(self.entry(place), default)

    def entry(self, place: Place) -> Entry:
        """Return what is remembered of a place. Who keeps it need not look for it again, only ``take``."""
        return self._entries.get(place, NO_ENTRY)

    def take(self, entry: Entry, default: Any) -> Any:
        """Return what ``get`` would."""
        kept, copy = entry.kept, entry.copy  # before it is asked whether they count
        now = self._clock()
        if now >= entry.until or now >= self.trusted_until:
            return MISS
        entry.used = True
        entry.tally[0] += 1
        if copy is not None:
            return copy(kept)
        return default if kept is ABSENT else kept

    def version(self, place: Place) -> int | None:
        """Return the version of what ``get`` would give, ``None`` for a miss."""
        entry = self._entries.get(place)
        now = self._clock()
        return None if entry is None or now >= entry.until or now >= self.trusted_until else entry.version

    def keep(self, place: Place, loaded: Loaded, *, generation: int) -> None:
        """Remember what was loaded when the memory was of ``generation``, unless something newer was told of since."""
        name = self._name(place)
        form = form_of(loaded.value)
        size = OVERHEAD + len(place[2]) + len(place[3]) + form.size
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
            tally = self._hits.setdefault(place[:2], [0])
            names = name, self._name(place[:3])
            self._entries[place] = Entry(place[3], form, loaded.version, until, size, names, tally)
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
            entry.end()
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
            self._end_all()
            self._entries.clear()
            self._places.clear()
            self._floors.clear()
            self.bytes = 0

    def _end_all(self) -> None:
        for entry in self._entries.values():
            entry.end()

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

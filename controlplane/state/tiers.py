"""The tiers below the caller's memory: sessions in a cache with PostgreSQL under it, users and shared state in PostgreSQL.

What a reader may see after which write, and under which failure, is written in docs/state.md; ``tests/state`` holds it to that.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import NamedTuple, TypeVar

from controlplane.domain.state import Made
from controlplane.problems import Conflict, Unavailable
from controlplane.state.atlas import Atlas
from controlplane.state.limits import Limits
from controlplane.state.placement import Place, RingName, Rules
from controlplane.state.sealing import Unsealable, seal, unseal
from controlplane.state.stores.postgres import PostgresStore
from controlplane.state.stores.valkey import ValkeyStore
from controlplane.state.stores.words import Done, Frozen, Item, Lost, Memory, Moved, Put, Space

T = TypeVar("T")
PATIENCE_S = 3.0
_PAUSES_S = (0.002, 0.005, 0.01, 0.02, 0.05)
_MOST_LOCKS = 10_000


class VersionConflict(Conflict):
    """Somebody else wrote in between. ``current`` is the version that is there, 0 for none."""

    kind, title = "version-conflict", "The value has another version"

    def __init__(self, current: int) -> None:
        super().__init__("Somebody else has written this value: read it and try again.")
        self.current = current


class Value(NamedTuple):
    """A value as its reader gets it: JSON."""

    json: bytes
    version: int
    left_ms: int | None


class Earlier(NamedTuple):
    """An earlier version of a value."""

    version: int
    json: bytes
    written_at: datetime


class Found(NamedTuple):
    """``tiers``: how many keys came from ``l2`` and ``database``, and how many are ``missing``. ``memory`` is of sessions."""

    values: dict[str, Value]
    tiers: dict[str, int]
    memory: Memory | None


class Written(NamedTuple):
    version: int
    result: int | None = None
    existed: bool = True
    memory: Memory | None = None


Change = Callable[[bytes | None], Made]


class Tiers:
    """Reads and changes state. One per process."""

    def __init__(self, atlas: Atlas) -> None:
        self._atlas = atlas
        self._busy: dict[tuple[Space, str], asyncio.Lock] = {}
        self._limits = Limits(self._kept_by)

    # Reading

    async def read(self, space: Space, keys: Sequence[str] | None) -> Found:
        """Return what is there of ``keys``, of all without."""
        if space.kind != "session":
            return _found(space, await self._from_database(space, keys), keys, "database")
        return await self._routed("cache", space, lambda place: self._session(place, space, keys))

    async def _session(self, place: Place, space: Space, keys: Sequence[str] | None) -> Found:
        rules = self._atlas.now.rules_of(space.tenant)
        memory = self._memory(place, space, rules)
        if place.down:
            items = await self._from_database(space, keys, era=_era(place, rules))
            await self._touch(space, rules)
            return _found(space, items, keys, "database", memory)
        below, ttl_ms = _below(place, rules), rules.session_ttl_s * 1000
        cache = self._atlas.cache(place)
        seen = await cache.read(space, keys, generation=place.generation, ttl_ms=ttl_ms, shadowed=below)
        upper = _found(space, seen.items, keys, "l2", memory)
        if not below:
            return upper
        unknown = None if keys is None else [key for key in keys if key not in seen.items and key not in seen.absent]
        lower = Found({}, {}, None)
        if unknown is None or unknown:
            items = await self._from_database(space, unknown, era=_era(place, rules))
            fresh = {key: item for key, item in items.items() if key not in seen.items and key not in seen.absent}
            for key, item in fresh.items():
                if key not in seen.holes:
                    await cache.fill(space, key, item, version=item.version, generation=place.generation, ttl_ms=ttl_ms)
            lower = _found(space, fresh, None, "database")
        if seen.due:
            await self._touch(space, rules)
        values = {**upper.values, **lower.values}
        missing = len(keys) - len(values) if keys is not None else 0
        return Found(values, {**upper.tiers, **lower.tiers, "missing": missing}, memory)

    async def _touch(self, space: Space, rules: Rules) -> None:
        await self._on_database(space, lambda store: store.touch(space, _idle_ms(rules)))

    async def _from_database(self, space: Space, keys: Sequence[str] | None, *, era: int = 0) -> dict[str, Item]:
        return await self._on_database(space, lambda store: store.read(space, keys, era=era))

    # Changing

    async def put(self, space: Space, key: str, value: bytes | None, *, ttl_ms: int | None = None) -> Written:
        """Set a value, or delete it with ``None``, whatever is there."""
        done = await self._put(space, self._sealed(space, Put(key, value, ttl_ms=ttl_ms)))
        return Written(done.version, existed=done.status != "absent", memory=done.memory)

    async def compare_and_set(
        self, space: Space, key: str, value: bytes | None, *, expected: int, ttl_ms: int | None, op: str | None
    ) -> Written:
        """Set a value if its version is ``expected`` (0: if there is none); ``VersionConflict`` otherwise."""
        done = await self._put(space, self._sealed(space, Put(key, value, expected=expected, ttl_ms=ttl_ms, op=op)))
        if done.status == "conflict":
            raise VersionConflict(done.version)
        return Written(done.version, memory=done.memory)

    async def change(self, space: Space, key: str, change: Change, *, ttl_ms: int | None, op: str | None) -> Written:
        """Set what ``change`` makes of the present value, as if nobody else was there.

        Without ``ttl_ms`` the value lives as long as it would have.
        """
        until = time.monotonic() + PATIENCE_S
        async with self._alone(space, key):
            while True:
                present = (await self.read(space, [key])).values.get(key)
                made = change(present.json if present is not None else None)
                put = Put(
                    key,
                    made.value,
                    expected=present.version if present is not None else 0,
                    ttl_ms=present.left_ms if ttl_ms is None and present is not None else ttl_ms,
                    op=op,
                    result=str(made.result),
                )
                done = await self._put(space, self._sealed(space, put))
                if done.status != "conflict":
                    return Written(done.version, int(done.result or 0), memory=done.memory)
                if time.monotonic() > until:
                    raise Unavailable("Too many others change this value: try again.", retry_after_s=1)

    def _alone(self, space: Space, key: str) -> asyncio.Lock:
        """Return a lock that lets one change of a value at a time through this process: it loses fewer races with itself."""
        if len(self._busy) > _MOST_LOCKS:
            self._busy = {place: lock for place, lock in self._busy.items() if lock.locked()}
        return self._busy.setdefault((space, key), asyncio.Lock())

    def _sealed(self, space: Space, put: Put) -> Put:
        if put.value is None or not self._atlas.now.rules_of(space.tenant).encrypt:
            return put
        return put._replace(value=seal(put.value, *space.place(put.key)), sealed=True)

    async def _room(self, space: Space, put: Put) -> None:
        """Refuse a value for which the tenant has no room; deleting is always possible."""

        async def present() -> int | None:
            item = (await self.read(space, [put.key])).values.get(put.key)
            return None if item is None else len(put.key.encode()) + len(item.json)

        if put.value is not None:
            rules = self._atlas.now.rules_of(space.tenant)
            await self._limits.room(space.tenant, rules, len(put.key.encode()) + len(put.value), present)

    async def _kept_by(self, tenant: str) -> tuple[int, int]:
        """Return keys and bytes that a tenant keeps on all nodes; a session and its shadow count once."""
        databases: Counter[tuple[int, str]] = Counter()
        cached_keys = cached_bytes = 0
        for place in (await self._atlas.current()).places.values():
            if place.kind == "cache":
                if not place.down:
                    with contextlib.suppress(Lost):
                        keys, size = await self._atlas.cache(place).usage_of(tenant, place.generation)
                        cached_keys, cached_bytes = cached_keys + keys, cached_bytes + size
                continue
            for kind, (keys, size) in (await (await self._atlas.database(place)).usage_of(tenant)).items():
                databases.update({(kind, "keys"): keys, (kind, "bytes"): size})
        return (
            max(cached_keys, databases[0, "keys"]) + databases[1, "keys"] + databases[2, "keys"],
            max(cached_bytes, databases[0, "bytes"]) + databases[1, "bytes"] + databases[2, "bytes"],
        )

    async def _put(self, space: Space, put: Put) -> Done:
        await self._room(space, put)
        if space.kind != "session":
            return await self._on_database(space, lambda store: store.put(space, put))
        return await self._routed("cache", space, lambda place: self._put_session(place, space, put))

    async def _put_session(self, place: Place, space: Space, put: Put) -> Done:
        rules = self._atlas.now.rules_of(space.tenant)
        done = await self._put_somewhere(place, space, put, rules)
        return done._replace(memory=self._memory(place, space, rules))

    def _memory(self, place: Place, space: Space, rules: Rules) -> Memory:
        ended_ms = self._atlas.now.ended.get((space.tenant, space.owner), 0)
        return Memory(place.generation, int(place.generation_at.timestamp() * 1000), rules.durable, ended_ms)

    async def _put_somewhere(self, place: Place, space: Space, put: Put, rules: Rules) -> Done:
        if place.down:
            if not rules.durable and not await self._atlas.spill(place):
                raise Moved  # it is back
            below = put._replace(era=_era(place, rules), idle_ms=_idle_ms(rules))
            return await self._on_database(space, lambda store: store.put(space, below))
        if rules.durable:
            return await self._put_durable(place, space, put, rules)
        heeds = put.expected is not None or put.value is None
        if heeds and _below(place, rules):  # first bring up what was written to PostgreSQL during a loss
            await self._session(place, space, [put.key])
        ttl_ms = rules.session_ttl_s * 1000
        return await self._atlas.cache(place).put(space, put, generation=place.generation, ttl_ms=ttl_ms)

    async def _put_durable(self, place: Place, space: Space, put: Put, rules: Rules) -> Done:
        """Put where PostgreSQL is the truth: a hole above it, the write, then the hole is closed with what was written.

        A writer that dies in between leaves the hole: nobody reads an old value there, and it closes by itself.
        """
        cache, ttl_ms, mark = self._atlas.cache(place), rules.session_ttl_s * 1000, secrets.token_hex(8)
        below = put._replace(idle_ms=_idle_ms(rules))
        displaced = await cache.open_hole(space, put.key, generation=place.generation, ttl_ms=ttl_ms, mark=mark)
        done = await self._on_database(space, lambda store: store.put(space, below))
        if done.status == "conflict" and not done.version and displaced is not None:
            # The value is older than the tenant's wish for durability: only the cache had it.
            if displaced.version == put.expected:
                anew = below._replace(expected=0)
                done = await self._on_database(space, lambda store: store.put(space, anew))
            else:
                done = done._replace(version=displaced.version)
        left = displaced
        if done.status in ("ok", "absent"):
            left = None if put.value is None else Item(put.value, put.sealed, done.version, put.ttl_ms)
        elif displaced is None or displaced.version != done.version:
            return done  # the hole closes by itself
        await cache.fill(
            space, put.key, left, version=done.version, generation=place.generation, ttl_ms=ttl_ms, mark=mark
        )
        return done

    # Erasing

    async def erase(self, space: Space) -> int:
        """Delete everything that an owner has, on every tier; return how many keys that were."""
        if space.kind != "session":
            return await self._on_database(space, lambda store: store.erase(space))
        return await self._routed("cache", space, lambda place: self._erase_session(place, space))

    async def _erase_session(self, place: Place, space: Space) -> int:
        above = 0
        cache: ValkeyStore | None = None if place.down else self._atlas.cache(place)
        if cache is not None:
            above = await cache.erase(space, generation=place.generation)
        era = _era(place, self._atlas.now.rules_of(space.tenant))
        below = await self._on_database(space, lambda store: store.erase(space, era=era))
        if cache is not None:  # once more: a writer may have put something there in between
            await cache.erase(space, generation=place.generation)
        return max(above, below)

    # Finding the node

    async def history(self, space: Space, key: str) -> list[Earlier]:
        """Return the earlier versions of a user's or shared value that are still known, the newest first."""
        kept = await self._on_database(space, lambda store: store.history(space, key))
        return [
            Earlier(
                each.version, _opened(space, key, Item(each.value, each.sealed, each.version, None)), each.written_at
            )
            for each in kept
        ]

    async def _on_database(self, space: Space, act: Callable[[PostgresStore], Awaitable[T]]) -> T:
        async def there(place: Place) -> T:
            return await act(await self._atlas.database(place))

        return await self._routed("database", space, there)

    async def _routed(self, ring: RingName, space: Space, act: Callable[[Place], Awaitable[T]]) -> T:
        """Do ``act`` on the node of the space's slot, wherever it moves meanwhile, for at most ``PATIENCE_S``."""
        until = time.monotonic() + PATIENCE_S
        tries = 0
        promised = Moved()
        while True:
            now = await self._atlas.current()
            place = now.places.get(promised.to or 0) or now.place_of(ring, space.slot)
            try:
                return await act(place)
            except Moved as moved:
                if moved.to is None and place.id == promised.to and promised.epoch is not None:
                    await self._adopt(place, space.slot, promised.epoch)
                else:
                    promised = moved
                    await self._atlas.turned_away()
            except Frozen:
                pass
            except Lost:
                await self._atlas.doubt(place)
            if time.monotonic() > until:
                raise Unavailable("The state is on its way to another node: try again.", retry_after_s=1)
            await asyncio.sleep(_PAUSES_S[min(tries, len(_PAUSES_S) - 1)])
            tries += 1

    async def _adopt(self, place: Place, slot: int, epoch: int) -> None:
        """Finish a hand-over whose mover has died: the old node has let go for good, and this one has everything."""
        with contextlib.suppress(Lost):
            if place.kind == "cache":
                await self._atlas.cache(place).adopt(slot, epoch, generation=place.generation)
            else:
                await (await self._atlas.database(place)).adopt(slot, epoch)


def _found(
    space: Space, items: dict[str, Item], keys: Sequence[str] | None, tier: str, memory: Memory | None = None
) -> Found:
    values = {key: Value(_opened(space, key, item), item.version, item.left_ms) for key, item in items.items()}
    missing = len(keys) - len(values) if keys is not None else 0
    return Found(values, {tier: len(values), "missing": missing}, memory)


def _opened(space: Space, key: str, item: Item) -> bytes:
    if not item.sealed:
        return item.value
    try:
        return unseal(item.value, *space.place(key))
    except Unsealable as error:
        raise Unavailable(str(error), retry_after_s=60) from error


def _era(place: Place, rules: Rules) -> int:
    """Return what entries in PostgreSQL are worth something: a shadow always, what stands in for a cache in this loss."""
    return 0 if rules.durable else place.generation


def _below(place: Place, rules: Rules) -> bool:
    """Tell whether PostgreSQL may know more of a session than its cache: a shadow, or what was written during a loss."""
    return rules.durable or place.spilled


def _idle_ms(rules: Rules) -> int:
    """Return how long a session's shadow lives untouched: an eighth longer, for it is not touched by every read."""
    return rules.session_ttl_s * 1125

"""A cache node: sessions in Valkey or Redis, each a hash that lives as long as somebody looks at it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import redis.asyncio
from redis.asyncio.client import Redis
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as Broken
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as TooLate
from redis.retry import Retry

from controlplane.problems import Unavailable
from controlplane.state.stores import scripts
from controlplane.state.stores.words import HOLE_MS, OP_MEMORY_S, Done, Frozen, Item, Lost, Moved, Put, Space

TIMEOUT_S = 1.0
MOST_CONNECTIONS = 64
_SEALED, _DELETED, _HOLE = 1, 2, 4
GONE = (Broken, TooLate, OSError)


def _client(url: str, timeout_s: float, connections: int) -> Redis:
    """Return a client of at most so many connections. Who finds all in use waits for one: a cache that is busy is not lost."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=None,
        socket_timeout=timeout_s,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 1),
    )
    return Redis.from_pool(pool)


class Seen(NamedTuple):
    """What a cache knows of some keys: those that are there, those it knows to be absent, and those it may not learn now."""

    items: dict[str, Item]
    absent: set[str]
    holes: set[str]
    due: bool = False  # the shadow below is to be touched


class ValkeyStore:
    """One cache. ``Lost`` when it does not answer or has forgotten; the caller says by which generation it goes."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self.valkey = _client(url, timeout_s, MOST_CONNECTIONS)
        self._doubting = _client(url, timeout_s, 2)  # so that a question whether the cache is there waits for no other
        self._scripts: dict[str, AsyncScript] = {}

    async def close(self) -> None:
        await self.valkey.aclose()
        await self._doubting.aclose()

    async def run(self, text: str, *arguments: Any) -> list[Any]:
        """Run one of our scripts; its first answer says whether it was carried out."""
        script = self._scripts.get(text)
        if script is None:
            script = self._scripts[text] = self.valkey.register_script(text)
        try:
            answer: list[Any] = await script(args=arguments)
        except GONE as error:
            raise Lost(str(error)) from error
        except RedisError as error:
            if "OOM" in str(error):
                raise Unavailable("The session store has no memory left.", retry_after_s=5) from error
            raise
        status = answer[0]
        if status == b"lost":
            raise Lost("the cache has forgotten what it held")
        if status == b"moved":
            raise Moved(*map(int, answer[1:3])) if answer[1] else Moved
        if status == b"frozen":
            raise Frozen
        return answer

    async def read(
        self, space: Space, keys: Sequence[str] | None, *, generation: int, ttl_ms: int, shadowed: bool
    ) -> Seen:
        """Return what is known of ``keys`` (of all without), and let the session live on."""
        every = max(1000, ttl_ms // 8) if shadowed else 0
        answer = await self.run(
            scripts.READ, generation, space.slot, space.tenant, space.owner, ttl_ms, every, *(keys or ())
        )
        now_ms, due, values = int(answer[1]), bool(answer[2]), answer[3]
        if keys is None:
            pairs = [(name.decode()[1:], value) for name, value in zip(values[::2], values[1::2], strict=True)]
        else:
            pairs = list(zip(keys, values, strict=True))
        seen = Seen({}, set(), set(), due)
        for key, value in pairs:
            if value is not None:
                _sort(seen, key, value, now_ms)
        return seen

    async def put(self, space: Space, put: Put, *, generation: int, ttl_ms: int) -> Done:
        """Put a value; ``Moved`` or ``Frozen`` when it can't be put here, or not now."""
        answer = await self.run(
            scripts.PUT,
            *(generation, space.slot, space.tenant, space.owner, ttl_ms, put.key),
            *(-1 if put.expected is None else put.expected, int(put.value is None), int(put.sealed)),
            *(put.value or b"", -1 if put.ttl_ms is None else put.ttl_ms, put.op or "", put.result or ""),
            OP_MEMORY_S * 1000,
        )
        result = answer[2].decode() if len(answer) > 2 else None
        return Done(answer[0].decode(), int(answer[1]), result)

    async def fill(
        self, space: Space, key: str, item: Item | None, *, version: int, generation: int, ttl_ms: int, mark: str = ""
    ) -> None:
        """Bring up what the database has, unless something newer is there. ``None`` says that it was deleted.

        ``mark`` is that of the hole which the writer of this value opened: if it is there still, it is closed.
        """
        value, sealed = (item.value, item.sealed) if item is not None else (b"", False)
        left = -1 if item is None or item.left_ms is None else max(1, item.left_ms)
        await self.run(
            scripts.FILL,
            *(generation, space.slot, space.tenant, space.owner, ttl_ms, key, version, int(item is None)),
            *(int(sealed), value, left, mark),
        )

    async def open_hole(self, space: Space, key: str, *, generation: int, ttl_ms: int, mark: str) -> Item | None:
        """Forget a value that is about to change below, learn it from no reader for some seconds; return what it was."""
        answer = await self.run(
            scripts.HOLE, generation, space.slot, space.tenant, space.owner, ttl_ms, key, HOLE_MS, mark
        )
        seen = Seen({}, set(), set())
        if len(answer) > 2 and answer[2]:
            _sort(seen, key, answer[2], int(answer[1]))
        return seen.items.get(key)

    async def erase(self, space: Space, *, generation: int) -> int:
        """Forget a session; return how many keys it had."""
        answer = await self.run(scripts.ERASE, generation, space.slot, space.tenant, space.owner, 0, HOLE_MS)
        return int(answer[1])

    async def adopt(self, slot: int, epoch: int, *, generation: int) -> None:
        """Serve a slot that has been handed over to this node in ``epoch``; nothing happens in any other case."""
        await self.run(scripts.ADOPT, generation, slot, epoch)

    async def mark(self) -> int:
        """Return the generation that is in force, 0 for none; ``Lost`` when it does not answer, asked twice."""
        problem: Exception = Lost("not asked")
        for _ in range(2):
            try:
                return int(await self._doubting.get("tgs:mark") or 0)
            except GONE as error:
                problem = error
        raise Lost(str(problem)) from problem

    async def begin(self, generation: int, slots: Sequence[int]) -> int:
        """Take up work as ``generation``, serving ``slots``; return the generation that is in force now."""
        script = self.valkey.register_script(scripts.BEGIN)
        try:
            return int(await script(args=[generation, *slots]))
        except GONE as error:
            raise Lost(str(error)) from error

    async def usage_of(self, tenant: str, generation: int) -> tuple[int, int]:
        """Return keys and bytes of one tenant's sessions."""
        try:
            counts: Any = await self.valkey.hmget(f"tgs:{generation}:u:{tenant}", "keys", "bytes")
        except GONE as error:
            raise Lost(str(error)) from error
        return int(counts[0] or 0), int(counts[1] or 0)

    async def usage(self, generation: int) -> list[tuple[str, int, int, int]]:
        """Return tenant, sessions, keys and bytes, ended sessions counted out."""
        prefix = f"tgs:{generation}:"
        found = []
        try:
            names: set[Any] = await self.valkey.smembers(f"{prefix}t")
            for tenant in sorted(name.decode() for name in names):
                while int((await self.run(scripts.SWEEP, generation, 0, tenant, "", 0, 500))[1]) == 500:
                    continue
                sessions = await self.valkey.zcard(f"{prefix}i:{tenant}")
                keys, size = await self.valkey.hmget(f"{prefix}u:{tenant}", "keys", "bytes")
                found.append((tenant, int(sessions), int(keys or 0), int(size or 0)))
        except GONE as error:
            raise Lost(str(error)) from error
        return found


def _sort(seen: Seen, key: str, field: bytes, now_ms: int) -> None:
    version, expires, flags, value = field.split(b" ", 3)
    kind, until = int(flags), int(expires)
    if kind & _HOLE:
        if until > now_ms:
            seen.holes.add(key)
    elif kind & _DELETED or (until and until <= now_ms):
        seen.absent.add(key)
    else:
        seen.items[key] = Item(value, bool(kind & _SEALED), int(version), until - now_ms if until else None)

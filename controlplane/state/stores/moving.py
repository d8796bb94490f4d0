"""The hand-over of a slot from one node to another, step by step, so that it may be broken off anywhere.

1. The old node is frozen: no writes to the slot, reads go on. The frost ends by itself, so a mover that died blocks nobody long.
2. Everything is copied to the new node, which does not serve it yet; leftovers of an earlier attempt are deleted before.
3. The old node lets go, for good, and names its heir. It only does so while the frost of this very attempt holds.
4. The new node serves. An edge that was sent there by the old one may do this step as well.
5. The old node deletes what it had. 6. The map says so: from here on no mover looks at the slot again.

Each step can be repeated. Until 3 the old node has everything, from 3 on the new one has, and no write is lost in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, LiteralString, NamedTuple, Protocol

from psycopg import AsyncConnection

from controlplane.state.stores import scripts
from controlplane.state.stores.postgres import PostgresStore
from controlplane.state.stores.valkey import GONE, ValkeyStore
from controlplane.state.stores.words import Lost, Moved

FROST_MS = 5000
THAWED_S = 1.0  # the frost is renewed this often

# What is read from the old node and written to the new one, as PostgreSQL's own bytes.
_OUT: tuple[LiteralString, ...] = (
    """COPY (SELECT tenant, kind, owner, key, slot, version, value, sealed, written_at, expires_at, idle_until, era
       FROM state_entry WHERE slot = %s) TO STDOUT (FORMAT binary)""",
    """COPY (SELECT tenant, kind, owner, key, version, slot, value, sealed, written_at
       FROM state_version WHERE slot = %s) TO STDOUT (FORMAT binary)""",
    "COPY (SELECT id, slot, version, result, at FROM state_op WHERE slot = %s) TO STDOUT (FORMAT binary)",
)
_INTO: tuple[LiteralString, ...] = (
    """COPY state_entry (tenant, kind, owner, key, slot, version, value, sealed, written_at, expires_at, idle_until, era)
       FROM STDIN (FORMAT binary)""",
    """COPY state_version (tenant, kind, owner, key, version, slot, value, sealed, written_at)
       FROM STDIN (FORMAT binary)""",
    "COPY state_op (id, slot, version, result, at) FROM STDIN (FORMAT binary)",
)


class Interrupted(Exception):
    """The frost ended before everything was copied: the slot has to be moved from the start."""


class Held(NamedTuple):
    """What a node says of a slot. ``to``: the node that it was handed over to."""

    serving: bool
    epoch: int
    to: int | None


class End(Protocol):
    """One end of a move. ``copy_to`` is between two ends of the same kind."""

    async def held(self, slot: int) -> Held | None: ...
    async def freeze(self, slot: int, token: str, *, renew: bool = False) -> None: ...
    async def copy_to(self, other: End, slot: int, epoch: int) -> int: ...
    async def hand_over(self, slot: int, token: str, *, epoch: int, to: int) -> bool: ...
    async def adopt(self, slot: int, epoch: int) -> None: ...
    async def clear(self, slot: int) -> None: ...


async def move(slot: int, old: End, new: End, *, to: int, settle: Callable[[int], Awaitable[None]]) -> None:
    """Move a slot, or finish a move that was broken off. ``settle(keys)`` writes the map.

    Raises ``Interrupted`` when it has to be begun again, ``Moved`` when the old node has handed it to somebody else.
    """
    held = await old.held(slot)
    copied = 0
    if held is not None and held.serving:
        token, epoch = secrets.token_hex(8), held.epoch + 1
        await old.freeze(slot, token)
        async with _frost(old, slot, token):
            copied = await old.copy_to(new, slot, epoch)
        if not await old.hand_over(slot, token, epoch=epoch, to=to):
            raise Interrupted
    elif held is not None and held.to == to:
        epoch = held.epoch
    else:
        raise Moved(held.to if held is not None else None)
    await new.adopt(slot, epoch)
    await old.clear(slot)
    await settle(copied)


@contextlib.asynccontextmanager
async def _frost(node: End, slot: int, token: str) -> AsyncIterator[None]:
    """Keep the frost on for as long as the copy takes."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(THAWED_S)
            await node.freeze(slot, token, renew=True)

    task = asyncio.create_task(renew())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class DatabaseEnd:
    """A PostgreSQL node."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store

    async def held(self, slot: int) -> Held | None:
        rows = await self._store.rows("SELECT serving, epoch, moved_to FROM state_held WHERE slot = %s", [slot])
        return Held(*rows[0]) if rows else None

    async def freeze(self, slot: int, token: str, *, renew: bool = False) -> None:
        """Waits for the writers that are at work: they hold the row."""
        rows = await self._store.rows(
            "UPDATE state_held SET frozen_until = clock_timestamp() + %s * interval '1 millisecond', token = %s "
            "WHERE slot = %s AND serving AND (NOT %s OR token = %s) RETURNING epoch",
            [FROST_MS, token, slot, renew, token],
        )
        if not rows and not renew:
            raise Moved

    async def copy_to(self, other: End, slot: int, epoch: int) -> int:
        assert isinstance(other, DatabaseEnd)  # noqa: S101  a ring has nodes of one kind
        async with self._store.connection() as here, other._store.connection() as there, there.transaction():
            await there.execute("SELECT FROM state_held WHERE slot = %s FOR UPDATE", [slot])
            served = await (
                await there.execute("SELECT 1 FROM state_held WHERE slot = %s AND serving", [slot])
            ).fetchone()
            if served is not None:
                raise Interrupted
            await _delete(there, slot)
            await _copy(here, there, slot)
            await there.execute(
                "INSERT INTO state_held (slot, epoch, serving) VALUES (%s, %s, false) ON CONFLICT (slot) DO UPDATE "
                "SET epoch = excluded.epoch, serving = false, moved_to = NULL, frozen_until = NULL, token = NULL",
                [slot, epoch],
            )
            cursor = await there.execute("SELECT count(value) FROM state_entry WHERE slot = %s", [slot])
            row = await cursor.fetchone()
            return int(row[0]) if row is not None else 0

    async def hand_over(self, slot: int, token: str, *, epoch: int, to: int) -> bool:
        rows = await self._store.rows(
            "UPDATE state_held SET serving = false, epoch = %s, moved_to = %s, frozen_until = NULL, token = NULL "
            "WHERE slot = %s AND serving AND token = %s AND frozen_until > clock_timestamp() RETURNING slot",
            [epoch, to, slot, token],
        )
        return bool(rows)

    async def adopt(self, slot: int, epoch: int) -> None:
        await self._store.adopt(slot, epoch)

    async def clear(self, slot: int) -> None:
        async with self._store.connection() as connection, connection.transaction():
            cursor = await connection.execute(
                "SELECT serving FROM state_held WHERE slot = %s AND moved_to IS NOT NULL FOR UPDATE", [slot]
            )
            row = await cursor.fetchone()
            if row is not None and not row[0]:
                await _delete(connection, slot)


async def _delete(connection: AsyncConnection, slot: int) -> None:
    await connection.execute("DELETE FROM state_entry WHERE slot = %s", [slot])
    await connection.execute("DELETE FROM state_op WHERE slot = %s", [slot])
    await connection.execute("DELETE FROM state_size WHERE slot = %s", [slot])


async def _copy(here: AsyncConnection, there: AsyncConnection, slot: int) -> None:
    for out, into in zip(_OUT, _INTO, strict=True):
        async with (
            here.cursor() as reading,
            there.cursor() as writing,
            reading.copy(out, [slot]) as source,
            writing.copy(into) as target,
        ):
            async for chunk in source:
                await target.write(chunk)


class CacheEnd:
    """A Valkey node in the generation in which it serves now."""

    def __init__(self, store: ValkeyStore, generation: int) -> None:
        self._store = store
        self._generation = generation

    @property
    def _prefix(self) -> str:
        return f"tgs:{self._generation}:"

    async def held(self, slot: int) -> Held | None:
        try:
            said: Any = await self._store.valkey.hget(f"{self._prefix}held", str(slot))
        except GONE as error:
            raise Lost(str(error)) from error
        if not said:
            return None
        how, epoch, *to = said.decode().split()
        return Held(how == "S", int(epoch), int(to[0]) if to else None)

    async def freeze(self, slot: int, token: str, *, renew: bool = False) -> None:
        await self._store.run(scripts.FREEZE, self._generation, slot, FROST_MS, token, int(renew))

    async def copy_to(self, other: End, slot: int, epoch: int) -> int:
        assert isinstance(other, CacheEnd)  # noqa: S101  a ring has nodes of one kind
        cleared = await other._store.run(scripts.CLEAR, other._generation, slot, epoch)
        if not cleared[1]:
            raise Interrupted
        try:
            return await self._copy_sessions(other, slot, epoch) + await self._copy_ops(other, slot, epoch)
        except GONE as error:
            raise Lost(str(error)) from error

    async def _copy_sessions(self, other: CacheEnd, slot: int, epoch: int) -> int:
        valkey, keys = self._store.valkey, 0
        member: Any
        async for member in valkey.sscan_iter(f"{self._prefix}x:{slot}", count=500):
            tenant, _, owner = member.decode().partition(":")
            async with valkey.pipeline(transaction=True) as together:
                together.dump(f"{self._prefix}s:{tenant}:{owner}")
                together.pttl(f"{self._prefix}s:{tenant}:{owner}")
                together.hget(f"{self._prefix}z:{tenant}", owner)
                dump, left_ms, counts = await together.execute()
            if dump is not None and left_ms > 0 and counts is not None:
                arguments = (other._generation, slot, epoch, member, left_ms, counts, dump)
                await other._store.run(scripts.TAKE_SESSION, *arguments)
                keys += int(counts.split()[2])
        return keys

    async def _copy_ops(self, other: CacheEnd, slot: int, epoch: int) -> int:
        valkey = self._store.valkey
        ops: Any = await valkey.zrange(f"{self._prefix}O:{slot}", 0, -1)
        for op in ops:
            name = f"{self._prefix}o:{op.decode()}"
            remembered, left_ms = await valkey.get(name), await valkey.pttl(name)
            if remembered is not None and left_ms > 0:
                await other._store.run(scripts.TAKE_OP, other._generation, slot, epoch, op, left_ms, remembered)
        return 0

    async def hand_over(self, slot: int, token: str, *, epoch: int, to: int) -> bool:
        answer = await self._store.run(scripts.HAND_OVER, self._generation, slot, token, epoch, to)
        return bool(answer[1])

    async def adopt(self, slot: int, epoch: int) -> None:
        await self._store.adopt(slot, epoch, generation=self._generation)

    async def clear(self, slot: int) -> None:
        await self._store.run(scripts.CLEAR, self._generation, slot, "")

"""A database node: users' and shared state, shadows of sessions."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from controlplane.problems import Unavailable
from controlplane.state.stores.words import OP_MEMORY_S, Done, Frozen, Item, Moved, Put, Space

Pool = AsyncConnectionPool[AsyncConnection]
_GONE = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout)
_READ: LiteralString = """
SELECT h.serving, h.moved_to, h.epoch, e.key, e.value, e.sealed, e.version,
       (extract(epoch FROM e.expires_at - clock_timestamp()) * 1000)::bigint
FROM state_held AS h
LEFT JOIN state_entry AS e ON e.tenant = %s AND e.kind = %s AND e.owner = %s
    AND (%s::text[] IS NULL OR e.key = ANY(%s::text[])) AND state_alive(e, %s, clock_timestamp())
WHERE h.slot = %s
"""
_SWAP: LiteralString = (
    "SELECT status, version, result, hint FROM state_swap(%s, %s, %s, %s, %s, %s::bigint, %s::bytea, %s, %s::bigint, "
    "%s::bigint, %s, %s, %s)"
)


class Kept(NamedTuple):
    """An earlier version of a value."""

    version: int
    value: bytes
    sealed: bool
    written_at: datetime


class PostgresStore:
    """One database. Statements commit by themselves; every one of them is repeated once on a fresh connection."""

    def __init__(self, url: str, *, size: int = 6, statement_timeout_s: int = 5) -> None:
        self._pool: Pool = AsyncConnectionPool(
            url,
            min_size=0,
            max_size=size,
            open=False,
            timeout=5,
            max_idle=60,
            reconnect_timeout=0,
            kwargs={
                "connect_timeout": 3,
                "autocommit": True,
                "application_name": "tidegate state",
                "options": f"-c statement_timeout={statement_timeout_s}s",  # no write may come to be after its hole in a cache has closed
            },
        )

    async def open(self) -> None:
        await self._pool.open(wait=False)

    async def close(self) -> None:
        await self._pool.close()

    def connection(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Return a connection that commits every statement by itself."""
        return self._pool.connection()

    async def rows(self, statement: LiteralString, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return what a statement gives; ``Unavailable`` when the database does not answer."""
        for attempt in (1, 2):
            try:
                async with self._pool.connection() as connection:
                    cursor = await connection.execute(statement, values)
                    return await cursor.fetchall() if cursor.description else []
            except _GONE as error:
                if attempt == 2 or isinstance(error, PoolTimeout):
                    raise Unavailable(
                        "A database that holds state can't be reached right now: try again.", retry_after_s=1
                    ) from error
        raise AssertionError

    async def read(self, space: Space, keys: Sequence[str] | None, *, era: int = 0) -> dict[str, Item]:
        """Return what is there of ``keys`` (all without); ``Moved`` when it is another node's."""
        named = list(keys) if keys is not None else None
        rows = await self.rows(_READ, [space.tenant, space.number, space.owner, named, named, era, space.slot])
        if not rows or not rows[0][0]:
            raise Moved(*rows[0][1:3]) if rows else Moved
        return {row[3]: Item(bytes(row[4]), *row[5:]) for row in rows if row[3] is not None}

    async def put(self, space: Space, put: Put) -> Done:
        """Put a value; ``Moved`` or ``Frozen`` when it can't be put here, or not now."""
        rows = await self.rows(
            _SWAP,
            [
                *(space.tenant, space.number, space.owner, put.key, space.slot, put.expected, put.value, put.sealed),
                *(put.ttl_ms, put.idle_ms, put.era, put.op, put.result),
            ],
        )
        status, version, result, hint = rows[0]
        if status == "moved":
            told = await self.rows("SELECT moved_to, epoch FROM state_held WHERE slot = %s", [space.slot])
            raise Moved(*told[0]) if hint is not None and told else Moved
        if status == "frozen":
            raise Frozen
        return Done(status, version, result)

    async def touch(self, space: Space, idle_ms: int) -> None:
        """Let what a session has live on for ``idle_ms``. While its slot is on its way this is left to the next reader."""
        await self.rows(
            "UPDATE state_entry SET idle_until = clock_timestamp() + %s * interval '1 millisecond' "
            "WHERE tenant = %s AND kind = %s AND owner = %s AND value IS NOT NULL AND idle_until > clock_timestamp() "
            "AND EXISTS (SELECT FROM state_held WHERE slot = %s AND serving AND (frozen_until > clock_timestamp()) IS NOT TRUE)",
            [idle_ms, space.tenant, space.number, space.owner, space.slot],
        )

    async def erase(self, space: Space, *, era: int = 0) -> int:
        """Delete everything that an owner has, earlier versions too; return how many keys it had."""
        rows = await self.rows(
            """
            WITH held AS (SELECT serving, moved_to, epoch, frozen_until > clock_timestamp() AS frozen
                          FROM state_held WHERE slot = %s FOR SHARE),
                 gone AS (DELETE FROM state_entry AS e USING held
                          WHERE tenant = %s AND kind = %s AND owner = %s AND serving AND frozen IS NOT TRUE
                          RETURNING state_alive(e, %s, clock_timestamp()) AS live)
            SELECT serving, moved_to, epoch, frozen, (SELECT count(*) FROM gone WHERE live) FROM held
            """,
            [space.slot, space.tenant, space.number, space.owner, era],
        )
        if not rows or not rows[0][0]:
            raise Moved(*rows[0][1:3]) if rows else Moved
        if rows[0][3]:
            raise Frozen
        return int(rows[0][4])

    async def adopt(self, slot: int, epoch: int) -> None:
        """Serve a slot that has been handed over to this node in ``epoch``; nothing happens in any other case."""
        await self.rows(
            "UPDATE state_held SET serving = true WHERE slot = %s AND epoch = %s AND NOT serving AND moved_to IS NULL",
            [slot, epoch],
        )

    async def history(self, space: Space, key: str) -> list[Kept]:
        """Return the earlier versions of a value, the newest first."""
        rows = await self.rows(
            "SELECT version, value, sealed, written_at FROM state_version "
            "WHERE tenant = %s AND kind = %s AND owner = %s AND key = %s ORDER BY version DESC",
            [space.tenant, space.number, space.owner, key],
        )
        return [Kept(version, bytes(value), sealed, written_at) for version, value, sealed, written_at in rows]

    async def usage(self) -> list[tuple[str, int, int, int]]:
        """Return tenant, kind, keys and bytes of everything in served slots."""
        rows = await self.rows(
            "SELECT u.tenant, u.kind, sum(u.keys)::bigint, sum(u.bytes)::bigint FROM state_size AS u "
            "JOIN state_held AS h ON h.slot = u.slot AND h.serving GROUP BY u.tenant, u.kind"
        )
        return [(row[0], row[1], row[2], row[3]) for row in rows]

    async def usage_of(self, tenant: str) -> dict[int, tuple[int, int]]:
        """Return keys and bytes of one tenant by kind, in served slots."""
        rows = await self.rows(
            "SELECT u.kind, sum(u.keys)::bigint, sum(u.bytes)::bigint FROM state_size AS u "
            "JOIN state_held AS h ON h.slot = u.slot AND h.serving WHERE u.tenant = %s GROUP BY u.kind",
            [tenant],
        )
        return {kind: (keys, size) for kind, keys, size in rows}

    async def retain(self, tenants: Sequence[str], kind: int, days: int) -> int:
        """Delete what was last written more than ``days`` days ago; return how much that was."""
        rows = await self.rows(
            """
            WITH gone AS (
                DELETE FROM state_entry AS e USING state_held AS h
                WHERE h.slot = e.slot AND h.serving AND (h.frozen_until > clock_timestamp()) IS NOT TRUE
                  AND e.tenant = ANY(%s) AND e.kind = %s AND e.written_at < clock_timestamp() - %s * interval '1 day'
                RETURNING 1)
            SELECT count(*) FROM gone
            """,
            [list(tenants), kind, days],
        )
        return int(rows[0][0])

    async def purge(self, *, most: int = 5000) -> int:
        """Delete what has expired, at most ``most`` of it; return how much that was."""
        rows = await self.rows(
            """
            WITH due AS (SELECT ctid FROM state_entry
                         WHERE expires_at < clock_timestamp() OR idle_until < clock_timestamp()
                         LIMIT %s FOR UPDATE SKIP LOCKED),
                 gone AS (DELETE FROM state_entry WHERE ctid IN (SELECT ctid FROM due) RETURNING 1)
            SELECT count(*) FROM gone
            """,
            [most],
        )
        await self.rows("DELETE FROM state_op WHERE at < clock_timestamp() - %s * interval '1 second'", [OP_MEMORY_S])
        return int(rows[0][0])

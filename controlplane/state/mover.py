"""Carries out rebalancings: slot after slot, at the pace that was asked for, from wherever the last mover left off."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import psycopg
import structlog
from django.conf import settings
from psycopg import AsyncConnection

from controlplane.problems import Problem
from controlplane.state import placement
from controlplane.state.placement import Place, Placement
from controlplane.state.stores.moving import CacheEnd, DatabaseEnd, End, Interrupted, move
from controlplane.state.stores.postgres import PostgresStore
from controlplane.state.stores.valkey import ValkeyStore
from controlplane.state.stores.words import Frozen, Lost, Moved

log = structlog.get_logger(__name__)

_LOCK = 74110
_AGAIN_S = 0.2


class Job(NamedTuple):
    id: int
    kind: placement.RingName
    targets: list[int]
    slots_per_s: float


async def rebalance(*, for_s: float = float("inf")) -> bool:
    """Move slots until all rebalancings are done or paused, or for ``for_s`` seconds; return whether any was at work.

    One mover works at a time: a second one returns at once.
    """
    until = time.monotonic() + for_s
    async with await AsyncConnection.connect(settings.DATABASE_URL, autocommit=True) as connection:
        cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK])
        row = await cursor.fetchone()
        if row is None or not row[0]:
            return False
        worked = False
        async with _Ends().open() as ends:
            while time.monotonic() < until and (job := await _next_job(connection)) is not None:
                worked = True
                if not await _step(connection, ends, job):
                    await asyncio.sleep(_AGAIN_S)
        return worked


async def _next_job(connection: AsyncConnection) -> Job | None:
    cursor = await connection.execute(
        "SELECT id, kind, targets, slots_per_s FROM state_rebalancing WHERE phase = 'running' ORDER BY id LIMIT 1"
    )
    row = await cursor.fetchone()
    return Job(*row) if row is not None else None


async def _step(connection: AsyncConnection, ends: _Ends, job: Job) -> bool:
    """Move one slot; return whether that went well. What went wrong is written to the job, and the mover comes again."""
    began = time.monotonic()
    now = await placement.read(connection)
    slot = next(
        (slot for slot, pair in enumerate(zip(now.owners[job.kind], job.targets, strict=True)) if pair[0] != pair[1]),
        None,
    )
    if slot is None:
        await _end(connection, job)
        return True
    try:
        await _move(connection, ends, now, job, slot)
    except (Interrupted, Moved, Frozen, Lost, Problem, psycopg.Error, OSError) as error:
        text = error.detail if isinstance(error, Problem) else f"{type(error).__name__}: {error}"
        log.warning("state.slot_not_moved", slot=slot, kind=job.kind, error=text)
        await connection.execute(
            "UPDATE state_rebalancing SET problem = %s WHERE id = %s", [f"Slot {slot}: {text}"[:500], job.id]
        )
        return False
    await asyncio.sleep(max(0.0, 1 / job.slots_per_s - (time.monotonic() - began)))
    return True


async def _move(connection: AsyncConnection, ends: _Ends, now: Placement, job: Job, slot: int) -> None:
    old, new = now.places[now.owners[job.kind][slot]], now.places[job.targets[slot]]

    async def settle(keys: int) -> None:
        async with connection.transaction():
            await connection.execute(
                "UPDATE state_ring SET owners[%s] = %s, version = version + 1 WHERE kind = %s",
                [slot + 1, new.id, job.kind],
            )
            await connection.execute(
                "UPDATE state_rebalancing SET slots_done = slots_done + 1, keys_moved = keys_moved + %s, problem = '' "
                "WHERE id = %s",
                [keys, job.id],
            )

    await move(slot, await ends.of(old), await ends.of(new), to=new.id, settle=settle)


async def _end(connection: AsyncConnection, job: Job) -> None:
    await connection.execute(
        "UPDATE state_rebalancing SET phase = 'done', ended_at = now(), problem = '' WHERE id = %s", [job.id]
    )
    log.info("state.rebalanced", kind=job.kind, job=job.id)


class _Ends:
    """The nodes as the mover reaches them: on connections of its own, on which a copy may take its time."""

    def __init__(self) -> None:
        self._databases: dict[int, PostgresStore] = {}
        self._caches: dict[int, ValkeyStore] = {}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[_Ends]:
        try:
            yield self
        finally:
            for database in self._databases.values():
                await database.close()
            for cache in self._caches.values():
                await cache.close()

    async def of(self, place: Place) -> End:
        """Return one end; ``Lost`` for a cache that is away: what it held can't be moved before it is back."""
        if place.kind == "cache":
            if place.down or not place.begun:
                raise Lost(f"the cache {place.name} does not serve now")
            cache = self._caches.get(place.id)
            if cache is None:
                cache = self._caches[place.id] = ValkeyStore(place.url or settings.VALKEY_URL, timeout_s=30)
            return CacheEnd(cache, place.generation)
        database = self._databases.get(place.id)
        if database is None:
            database = PostgresStore(place.url or settings.DATABASE_URL, size=2, statement_timeout_s=600)
            self._databases[place.id] = database
            await database.open()
        return DatabaseEnd(database)

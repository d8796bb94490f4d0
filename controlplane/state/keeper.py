"""What an edge does for state beside answering: writes down traffic, counts what nodes hold, deletes what has expired."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import psycopg
import structlog
from django.utils import timezone
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from controlplane.domain.state import KINDS
from controlplane.problems import Problem
from controlplane.state.atlas import Atlas
from controlplane.state.counts import Counts
from controlplane.state.placement import Place
from controlplane.state.stores.words import Lost

log = structlog.get_logger(__name__)

EVERY_S = 2.0
COUNTED_S = 1.5  # a node that was counted this lately, by whichever edge, is not counted again
PURGE_S = 10.0


class Keeper:
    """Runs in every edge; of several only one counts a node at a time, the others find it done."""

    def __init__(
        self,
        pool: AsyncConnectionPool[AsyncConnection],
        atlas: Atlas,
        counts: Counts,
        told: Callable[[frozenset[str]], None],
    ) -> None:
        self._pool = pool
        self._atlas = atlas
        self._counts = counts
        self._told = told
        self._purged_at = float("-inf")

    async def run(self) -> None:
        """Work every two seconds until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.work()
            except (Problem, Lost, psycopg.Error, PoolTimeout, OSError) as error:
                log.debug("state.not_kept", error=str(error).strip())

    async def work(self) -> None:
        """Do everything once."""
        await self._atlas.current()
        async with self._pool.connection() as connection:
            if await self._counts.write_down(connection, timezone.now()):
                self._told(frozenset({"state"}))
        for place in list(self._atlas.now.places.values()):
            try:
                await self._keep(place)
            except (Problem, Lost) as error:
                log.debug("state.not_counted", node=place.name, error=str(error))
        if time.monotonic() - self._purged_at > PURGE_S:
            self._purged_at = time.monotonic()

    async def _keep(self, place: Place) -> None:
        if place.down:
            return
        if place.kind == "database" and time.monotonic() - self._purged_at > PURGE_S:
            await (await self._atlas.database(place)).purge()
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT pg_try_advisory_xact_lock(74109, %s), "
                "(SELECT max(at) > now() - %s * interval '1 second' FROM state_usage WHERE node_id = %s)",
                [place.id, COUNTED_S, place.id],
            )
            row = await cursor.fetchone()
            if row is not None and row[0] and not row[1]:
                usage = await self._usage(place)
                await connection.execute("DELETE FROM state_usage WHERE node_id = %s", [place.id])
                async with connection.cursor() as writing:
                    await writing.executemany(
                        "INSERT INTO state_usage (node_id, tenant, kind, owners, keys, bytes, at) "
                        "VALUES (%s, %s, %s, %s, %s, %s, now())",
                        [(place.id, *line) for line in usage],
                    )

    async def _usage(self, place: Place) -> list[tuple[str, str, int, int, int]]:
        """Return tenant, kind, owners, keys and bytes of what a node holds."""
        if place.kind == "cache":
            lines = await self._atlas.cache(place).usage(place.generation)
            return [(tenant, "session", owners, keys, size) for tenant, owners, keys, size in lines]
        database = await self._atlas.database(place)
        return [(tenant, KINDS[kind], 0, keys, size) for tenant, kind, keys, size in await database.usage()]

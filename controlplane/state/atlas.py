"""The nodes as one process reaches them: the placement in force, a store for each node, and what to do when one is lost."""

from __future__ import annotations

import asyncio
import time
from typing import Any, LiteralString

import psycopg
import structlog
from django.conf import settings
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from controlplane.problems import Unavailable
from controlplane.state import placement
from controlplane.state.placement import Place, Placement
from controlplane.state.stores.postgres import PostgresStore
from controlplane.state.stores.valkey import ValkeyStore
from controlplane.state.stores.words import Lost

log = structlog.get_logger(__name__)

POLL_S = 1.0
FRESH_S = 0.05  # a placement that was read this lately is not read again because somebody was turned away
UNREADABLE = (psycopg.Error, PoolTimeout, OSError)


class Atlas:
    """One per process. ``pool`` reaches the installation's own database (at ``url``), where the placement is kept."""

    def __init__(self, pool: AsyncConnectionPool[AsyncConnection], url: str | None = None) -> None:
        self._pool = pool
        self._url = url or settings.DATABASE_URL
        self.now = Placement()
        self._read_at = 0.0
        self._reading = asyncio.Lock()
        self._stale = asyncio.Event()
        self._databases: dict[int, tuple[str | None, PostgresStore]] = {}
        self._caches: dict[int, tuple[str | None, ValkeyStore]] = {}

    async def close(self) -> None:
        for _, database in self._databases.values():
            await database.close()
        for _, cache in self._caches.values():
            await cache.close()

    # The map

    async def current(self) -> Placement:
        """Return the placement, read if it was not yet; ``Unavailable`` without a database."""
        if not self.now.places:
            await self.refresh()
        return self.now

    async def refresh(self, *, at_least: float = 0.0) -> None:
        """Read the placement again unless somebody did since ``at_least`` (time.monotonic)."""
        async with self._reading:
            if self._read_at > at_least and self.now.places:
                return
            began = time.monotonic()
            try:
                async with self._pool.connection() as connection:
                    self.now = await placement.read(connection)
            except UNREADABLE as error:
                raise Unavailable("The map of state can't be read right now: try again.", retry_after_s=1) from error
            self._read_at = began

    async def turned_away(self) -> None:
        """A node said that a slot is not its own: read the map, if it was not read a moment ago."""
        await self.refresh(at_least=time.monotonic() - FRESH_S)

    def note(self, topics: frozenset[str]) -> None:
        """Read again soon when something here was changed."""
        if "state" in topics:
            self._stale.set()

    async def run(self) -> None:
        """Keep up with the map and bring caches back, until cancelled."""
        while True:
            try:
                await self._keep_up()
            except Unavailable as error:
                log.debug("state.not_kept_up", error=error.detail)
            except Exception:
                log.exception("state.not_kept_up")
            try:
                await asyncio.wait_for(self._stale.wait(), POLL_S)
            except TimeoutError:
                continue

    async def _keep_up(self) -> None:
        announced = self._stale.is_set()
        self._stale.clear()
        if announced or not self.now.places or await self._changed():
            await self.refresh(at_least=time.monotonic())
        for place in self.now.places.values():
            if place.kind == "cache" and (place.down or not place.begun):
                await self.bring_back(place)

    async def _changed(self) -> bool:
        try:
            async with self._pool.connection() as connection:
                return await placement.read_mark(connection) != self.now.mark
        except UNREADABLE as error:
            raise Unavailable("The map of state can't be read right now.") from error

    # The nodes

    async def database(self, place: Place) -> PostgresStore:
        """Return the store of a database node."""
        known = self._databases.get(place.id)
        if known is None or known[0] != place.url:
            store = PostgresStore(place.url or self._url)
            self._databases[place.id] = known = (place.url, store)
            await store.open()
        return known[1]

    def cache(self, place: Place) -> ValkeyStore:
        """Return the store of a cache node."""
        known = self._caches.get(place.id)
        if known is None or known[0] != place.url:
            self._caches[place.id] = known = (place.url, ValkeyStore(place.url or settings.VALKEY_URL))
        return known[1]

    # Loss and return of caches

    async def doubt(self, place: Place) -> None:
        """A cache did not answer as it should: lose it, unless it turns out to be there and to remember, or to be new."""
        try:
            mark = await self.cache(place).mark()
        except Lost:
            await self.lose(place)
            return
        if not mark and not place.begun:
            await self.bring_back(place)
        elif mark != place.generation:
            await self.lose(place)

    async def lose(self, place: Place) -> None:
        """From now on the sessions of a cache are served by PostgreSQL, in a new generation."""
        changed = await self._write(
            "UPDATE state_node SET generation = generation + 1, generation_at = now(), down_at = now() "
            "WHERE id = %s AND generation = %s AND down_at IS NULL",
            [place.id, place.generation],
        )
        if changed:
            log.warning("state.cache_lost", node=place.name, generation=place.generation + 1)
        await self.refresh(at_least=time.monotonic())
        self._stale.set()

    async def spill(self, place: Place) -> bool:
        """Note that sessions of a cache that is away are kept in PostgreSQL; return whether it is still away."""
        if place.spilled:
            return True
        changed = await self._write(
            "UPDATE state_node SET spilled = generation WHERE id = %s AND generation = %s AND down_at IS NOT NULL",
            [place.id, place.generation],
        )
        await self.refresh(at_least=time.monotonic())
        return changed > 0

    async def bring_back(self, place: Place) -> None:
        """Give a cache that answers again its work back; nothing happens while it does not."""
        await self.refresh(at_least=time.monotonic())
        slots = self.now.slots_of(place)
        generation = place.generation
        try:
            in_force = await self.cache(place).begin(generation, slots)
            if in_force > generation:  # it has served a later life than the one that our database remembers
                generation = in_force + 1
                await self.cache(place).begin(generation, slots)
        except Lost:
            return
        changed = await self._write(
            "UPDATE state_node SET down_at = NULL, began_at = coalesce(began_at, now()), generation = %s "
            "WHERE id = %s AND generation = %s AND (down_at IS NOT NULL OR began_at IS NULL)",
            [generation, place.id, place.generation],
        )
        if changed:
            log.info("state.cache_serves", node=place.name, generation=generation)
        await self.refresh(at_least=time.monotonic())

    async def _write(self, statement: LiteralString, values: list[Any]) -> int:
        try:
            async with self._pool.connection() as connection:
                cursor = await connection.execute(statement, values)
                return cursor.rowcount
        except UNREADABLE as error:
            raise Unavailable("The map of state can't be written right now: try again.", retry_after_s=1) from error

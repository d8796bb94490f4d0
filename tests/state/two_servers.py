"""Two servers that share engines, two callers with memories of their own, and what can go wrong between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

import msgspec
import orjson
import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from controlplane.edge.mirror import Key
from controlplane.edge.state import State as Served
from controlplane.edge.state import parse
from controlplane.state.atlas import Atlas
from controlplane.state.changes import Changes, Listener
from controlplane.state.counts import Counts
from controlplane.state.sealing import seal
from controlplane.state.stores.moving import DatabaseEnd, Interrupted, move
from controlplane.state.stores.words import Moved
from tidegate.state import State
from tidegate.state.memory import Memory

T = TypeVar("T")
KEY = Key(1, b"", None, None, None, None, None)


class Died(BaseException):
    """The server's process has died in the middle of an operation."""


class World:
    """Two servers on the tests' engines and a second database; two callers, each with a memory of its own."""

    def __init__(self, url: str, second_url: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.url, self.second_url = url, second_url
        self.away = False
        self.changes = Changes()
        self.run(self._start())
        self.memories = [Memory(), Memory()]
        self.listeners = [Listener(lambda _: True) for _ in range(2)]
        self.changes._listeners |= set(self.listeners)
        self.states = [State(memory, self._submit(number)) for number, memory in enumerate(self.memories)]
        for memory in self.memories:
            memory.know_scope("")

    async def _start(self) -> None:
        self.pool: AsyncConnectionPool[AsyncConnection] = AsyncConnectionPool(
            self.url, min_size=0, max_size=4, open=False
        )
        await self.pool.open()
        self.atlases = [Atlas(self.pool, self.url) for _ in range(2)]
        self.edges = [Served(None, atlas, self.changes, Counts()) for atlas in self.atlases]  # type: ignore[arg-type]  # no keys here
        async with self.pool.connection() as connection:
            await connection.execute("DELETE FROM state_rebalancing")
            await connection.execute("DELETE FROM state_ring")
            await connection.execute("DELETE FROM state_usage")
            await connection.execute("DELETE FROM state_node")
        await self.atlases[0].current()
        async with self.pool.connection() as connection:
            await connection.execute(
                "INSERT INTO state_node (kind, name, weight, generation, spilled, sealed_url) "
                "VALUES ('database', 'second', 1, 1, 0, %s)",
                [seal(self.second_url.encode(), "", "node", "second")],
            )
        await self.atlases[0].refresh(at_least=float("inf"))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 30))

    def _submit(self, number: int) -> Callable[[dict[str, Any]], Future[Any]]:
        def submit(op: dict[str, Any]) -> Future[Any]:
            answer: Future[Any] = Future()
            parsed = parse(orjson.dumps({"ops": [op]})).ops[0]
            said = self.run(self.edges[number]._one(KEY, parsed))
            answer.set_result(orjson.loads(msgspec.json.encode(said)))
            return answer

        return submit

    def deliver(self, number: int) -> None:
        line = orjson.loads(self.listeners[number].line(proven=True))
        self.memories[number].told([(name, version) for name, version in line["c"]])

    def keep_up(self) -> None:
        """The second passes in which servers learn of a loss, or of its end: until then the contract promises less."""
        for _ in range(2):
            for atlas in self.atlases:
                self.run(atlas._keep_up())

    def close(self) -> None:
        async def close() -> None:
            for atlas in self.atlases:
                await atlas.close()
            await self.pool.close()

        self.run(close())
        self.loop.close()


def entries(url: str) -> set[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return set(
            connection.execute(
                "SELECT tenant, kind, owner, key FROM state_entry JOIN state_held USING (slot) WHERE serving"
            ).fetchall()
        )


def forget_cache(world: World) -> None:
    async def forget() -> None:
        place = next(place for place in world.atlases[0].now.places.values() if place.kind == "cache")
        valkey = world.atlases[0].cache(place).valkey
        async for key in valkey.scan_iter("tgs:*"):
            await valkey.delete(key)

    world.run(forget())


class Dying:
    """One end of a move whose mover dies after some steps."""

    def __init__(self, end: DatabaseEnd, left: list[int]) -> None:
        self._end, self._left = end, left

    def __getattr__(self, name: str) -> Any:
        work = getattr(self._end, name)

        async def step(*args: Any, **how: Any) -> Any:
            if not self._left[0]:
                raise Died
            self._left[0] -= 1
            return await work(*[arg._end if isinstance(arg, Dying) else arg for arg in args], **how)

        return step


async def move_between_databases(world: World, slot: int, steps: int) -> None:
    atlas = world.atlases[0]
    await atlas.refresh(at_least=float("inf"))
    old = atlas.now.place_of("database", slot)
    new = next(place for place in atlas.now.places.values() if place.kind == "database" and place.id != old.id)
    ends = [DatabaseEnd(await atlas.database(place)) for place in (old, new)]

    async def settle(_keys: int) -> None:
        async with world.pool.connection() as connection:
            await connection.execute(
                "UPDATE state_ring SET owners[%s] = %s, version = version + 1 WHERE kind = 'database'",
                [slot + 1, new.id],
            )

    left = [steps]
    try:
        dying: list[Any] = [Dying(end, left) for end in ends]
        await move(slot, *dying, to=new.id, settle=settle)
    except (Died, Interrupted, Moved):
        await move(slot, *ends, to=new.id, settle=settle)

"""Group commit of what exporters send: batches that arrive while one group is being written go together in the next one.

The queue is bounded. What does not fit is refused at once, and comes again: that is all the backpressure there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import psycopg
import structlog
from psycopg import AsyncConnection

from controlplane.edge.database import Gone, Pool
from controlplane.problems import Problem, Unavailable

log = structlog.get_logger(__name__)

Batch = TypeVar("Batch")
MAX_GROUP_BYTES = 16 << 20
MAX_QUEUED_BYTES = 64 << 20
RETRY_S = 1.0


class Busy(Problem):
    status, kind, title = 429, "busy", "More arrives than can be written"


class Unwritable(Problem):
    """The database refuses what is in the batch."""


@dataclass(slots=True, eq=False)
class _Waiting(Generic[Batch]):
    batch: Batch
    size: int
    records: int
    since: float
    done: asyncio.Future[None]


class Writer(Generic[Batch]):
    """Writes batches of one signal in groups, one group at a time; ``store`` writes a group in the transaction it is given."""

    def __init__(
        self, name: str, pool: Pool, store: Callable[[AsyncConnection[Any], Sequence[Batch]], Awaitable[None]]
    ) -> None:
        self.name = name
        self._pool = pool
        self._store = store
        self._queue: list[_Waiting[Batch]] = []
        self._arrived = asyncio.Event()
        self.queued_bytes = 0
        self.records = 0
        self.groups = 0
        self.refused = 0  # requests, for lack of room, wherever that was seen
        self.waited_s = 0.0  # from arrival to commit, summed over batches
        self.batches = 0

    @property
    def lag_s(self) -> float:
        """How long the oldest batch has been waiting."""
        return asyncio.get_running_loop().time() - self._queue[0].since if self._queue else 0.0

    def check(self) -> None:
        """Raise ``Busy`` when there is no room, before anybody works on a batch in vain."""
        if self.queued_bytes >= MAX_QUEUED_BYTES:
            raise Busy("More arrives than can be written: send it again.", retry_after_s=RETRY_S)

    async def submit(self, batch: Batch, *, size: int, records: int) -> None:
        """Return once ``batch``, of ``size`` bytes, is durable; ``Busy`` or ``Unavailable`` when it can't be now."""
        self.check()
        loop = asyncio.get_running_loop()
        waiting = _Waiting(batch, size, records, loop.time(), loop.create_future())
        self._queue.append(waiting)
        self.queued_bytes += size
        self._arrived.set()
        await waiting.done

    async def run(self) -> None:
        """Write groups until cancelled."""
        while True:
            await self._arrived.wait()
            group = self._next_group()
            try:
                await self._write(group)
            except Exception:
                log.exception("ingest.group_failed", signal=self.name)
                _fail(group, Unavailable("This could not be written: send it again.", retry_after_s=RETRY_S))
            finally:
                self.queued_bytes -= sum(waiting.size for waiting in group)

    def _next_group(self) -> list[_Waiting[Batch]]:
        size, taken = 0, 0
        while taken < len(self._queue) and (taken == 0 or size + self._queue[taken].size <= MAX_GROUP_BYTES):
            size += self._queue[taken].size
            taken += 1
        group, self._queue = self._queue[:taken], self._queue[taken:]
        if not self._queue:
            self._arrived.clear()
        return group

    async def _write(self, group: Sequence[_Waiting[Batch]]) -> None:
        try:
            with Gone():
                async with self._pool.connection() as connection:
                    await self._store(connection, [waiting.batch for waiting in group])
        except Problem as problem:
            _fail(group, problem)
        except (psycopg.DataError, psycopg.IntegrityError, ValueError, TypeError, ArithmeticError) as error:
            if len(group) == 1:
                log.warning("ingest.unwritable", signal=self.name, error=str(error)[:200])
                _fail(group, Unwritable(f"This can't be written: {str(error).partition(chr(10))[0]}"))
                return
            for waiting in group:  # the others are not to suffer for one
                await self._write([waiting])
        else:
            self._settle(group)

    def _settle(self, group: Sequence[_Waiting[Batch]]) -> None:
        now = asyncio.get_running_loop().time()
        self.groups += 1
        for waiting in group:
            self.batches += 1
            self.records += waiting.records
            self.waited_s += now - waiting.since
            if not waiting.done.done():
                waiting.done.set_result(None)


def _fail(group: Sequence[_Waiting[Any]], problem: Problem) -> None:
    for waiting in group:
        if not waiting.done.done():
            waiting.done.set_exception(problem)

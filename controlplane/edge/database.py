"""The edge's own connections to PostgreSQL: few, asynchronous, and gone with the process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Self

import psycopg
from django.conf import settings
from psycopg import AsyncConnection, AsyncCursor
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from controlplane.problems import Unavailable

Pool = AsyncConnectionPool[AsyncConnection]

# Statements are planned once, and by indices, however small a table still is or was when they were planned.
_FEW_OF_MANY = b"""
    SELECT set_config(name, value, false)
    FROM (VALUES ('plan_cache_mode', 'force_generic_plan'), ('enable_seqscan', 'off'), ('enable_hashjoin', 'off'),
                 ('enable_mergejoin', 'off'), ('jit', 'off')) AS plans (name, value)
"""


def make_pool() -> Pool:
    """Return a pool that has not been opened."""
    return AsyncConnectionPool(
        settings.DATABASE_URL,
        min_size=1,
        max_size=6,
        open=False,
        timeout=5,
        max_idle=60,
        reconnect_timeout=0,
        kwargs={"connect_timeout": 3},
        check=AsyncConnectionPool.check_connection,
    )


class _Converted:
    """A statement as libpq takes it, all of whose values are texts for the server to read."""

    __slots__ = ("formats", "params", "query", "types")

    def __init__(self, query: bytes, values: Sequence[str | None]) -> None:
        self.query = query
        self.params = [None if value is None else value.encode() for value in values]
        self.types = (0,) * len(values)
        self.formats = None


_TEXTS = {str, type(None)}


class QueueingCursor(AsyncCursor[Any]):
    """In a pipeline, lets statements wait until an answer is asked for, or ``send`` is called, and sends them together.

    psycopg sends each by itself and takes its values apart, which costs more than all else about it. Nothing else differs.
    """

    _converted: ClassVar[dict[bytes, bytes]] = {}  # statements with the server's placeholders

    async def execute(self, query: Any, params: Any = None, **how: Any) -> Self:
        if self._conn._pipeline is None or how or not isinstance(query, bytes):
            return await super().execute(query, params, **how)
        try:
            next(self._execute_gen(query, params))
        except StopIteration:
            return self
        raise psycopg.InternalError("a statement waits before it was sent")

    def _execute_gen(
        self, query: Any, params: Any = None, *, prepare: bool | None = None, binary: bool | None = None
    ) -> Generator[Any, Any, None]:
        if self._conn._pipeline is None:
            yield from super()._execute_gen(query, params, prepare=prepare, binary=binary)
            return
        yield from self._start_query(query)
        yield from self._maybe_prepare_gen(self._convert_query(query, params), prepare=prepare, binary=binary)
        self._last_query = query

    def _convert_query(self, query: Any, params: Any = None) -> Any:
        if params and set(map(type, params)) <= _TEXTS:
            known = self._converted.get(query)
            if known is not None:
                return _Converted(known, params)
        converted = super()._convert_query(query, params)
        self._converted[query] = converted.query
        return converted

    async def _fetch_pipeline(self) -> None:
        _hand_over(self._conn)
        await super()._fetch_pipeline()


def _hand_over(connection: AsyncConnection) -> None:
    """Give libpq the statements that wait in the pipeline; it keeps them until it is told to flush."""
    pipeline = connection._pipeline
    while pipeline is not None and pipeline.command_queue:
        pipeline.command_queue.popleft()()


def send(connection: AsyncConnection) -> None:
    """Send the statements that wait in the pipeline of a connection made by ``Line``, as far as the socket takes them."""
    _hand_over(connection)
    connection.pgconn.flush()


class Line:
    """One connection that is kept from one transaction to the next, for few rows by their keys out of many."""

    def __init__(self) -> None:
        self._connection: AsyncConnection | None = None

    @asynccontextmanager
    async def transaction(self, sent: Callable[[], None]) -> AsyncIterator[AsyncConnection]:
        """Give the connection, in a pipeline and a transaction that is durable once this has ended without an error.

        ``sent`` is called when everything, the commit too, is on its way. It is connected anew when it was lost. One transaction
        at a time.
        """
        if self._connection is None:
            self._connection = await _connect()
        try:
            async with self._connection.pipeline():
                await self._connection.execute(b"BEGIN")
                yield self._connection
                await self._connection.execute(b"COMMIT")
                send(self._connection)
                sent()
        except BaseException:
            await self._end()
            raise

    @property
    def is_open(self) -> bool:
        """Whether there is a connection that was good for the last transaction."""
        return self._connection is not None

    async def _end(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def close(self) -> None:
        await self._end()


async def _connect() -> AsyncConnection:
    connection = await AsyncConnection.connect(
        settings.DATABASE_URL, autocommit=True, connect_timeout=3, prepare_threshold=0, cursor_factory=QueueingCursor
    )
    await connection.execute(_FEW_OF_MANY)
    return connection


class Gone:
    """Turns the loss of the database inside a ``with`` block into ``Unavailable``: the client comes again."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | PoolTimeout):
            raise Unavailable("The database can't be reached right now: try again.", retry_after_s=1) from error

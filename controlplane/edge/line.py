"""One connection that is kept from one transaction to the next, for few rows by their keys out of many.

It stays in libpq's pipeline mode, and hands statements to libpq without psycopg's cursors: taking values apart, making a cursor
and waiting for each statement cost more than all else about it.

A transaction lets go of its locks when it is committed, and is made durable after that: who waited for them goes on meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from time import monotonic
from typing import Any, ClassVar, Self

import psycopg
from django.conf import settings
from psycopg import AsyncConnection, AsyncPipeline, generators
from psycopg._queries import PostgresQuery
from psycopg.adapt import Transformer
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult

# Statements are planned once for long, and by indices, however small a table still is or was when they were planned; what a group
# asks for is in memory.
_FEW_OF_MANY = b"""
    SELECT set_config(name, value, false)
    FROM (VALUES ('plan_cache_mode', 'force_generic_plan'), ('enable_seqscan', 'off'), ('enable_hashjoin', 'off'),
                 ('enable_mergejoin', 'off'), ('jit', 'off'), ('random_page_cost', '0.1'), ('seq_page_cost', '0.1')) AS plans (name, value)
"""
# A plan that was made for a table of one row reads the whole index of one that has grown since, once for each row asked for.
_PLANS_LAST_S = 5.0
# What a commit waits for, by the settings of the server; from then on commits of the connection wait for nothing.
_LET_GO = b"""
    SELECT kept, set_config('synchronous_commit', 'off', false)
    FROM (SELECT current_setting('synchronous_commit') AS kept OFFSET 0) AS before
"""
# A transaction that says nothing, and is committed as the server has it. What was committed before it is durable then, too,
# on standbys that commits wait for as well.
_MAKE_DURABLE = (
    b"SELECT set_config('synchronous_commit', %s, true), pg_logical_emit_message(true, 'tidegate', ''::text)"
)
_TEXTS = {str, type(None)}
_GOOD = {ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK}


class Answer:
    """What comes of a statement that has been sent, or waits to be: as much of a cursor as is asked for."""

    __slots__ = ("_connection", "_result")

    def __init__(self, connection: LineConnection) -> None:
        self._connection = connection
        self._result: PGresult | None = None

    # psycopg's pipeline calls these two, in this order, when the answer has come.
    def _check_results(self, results: Sequence[PGresult]) -> None:
        for result in results:
            if result.status == ExecStatus.PIPELINE_ABORTED:
                raise psycopg.errors.PipelineAborted("a statement before it failed")
            if result.status not in _GOOD:
                raise psycopg.errors.error_from_result(result)

    def _set_results(self, results: Sequence[PGresult]) -> None:
        self._result = results[0]

    async def fetchall(self) -> list[tuple[Any, ...]]:
        """Return the rows, and send what waits if they have not come."""
        if self._result is None:
            await self._connection.answered()
        if self._result is None:
            raise psycopg.InternalError("a statement was not answered")
        return self._connection.rows_of(self._result)


class LineConnection(AsyncConnection[Any]):
    """A connection in a pipeline that lasts as long as it does.

    Statements in bytes all of whose values are texts, for the server to read, wait until an answer is asked for, and go out together.
    All others go psycopg's way, in their turn.
    """

    _converted: ClassVar[dict[bytes, bytes]] = {}  # statements with the server's placeholders
    _names: dict[bytes, bytes]
    _always: AsyncPipeline
    _waits_for: str  # a value of synchronous_commit
    _planned_at: float

    async def start(self) -> Self:
        """Set what plans are made of, and enter the pipeline for good."""
        await self.execute(_FEW_OF_MANY)
        ((self._waits_for, _),) = await (await self.execute(_LET_GO)).fetchall()
        self._names = {}
        self._planned_at = monotonic()
        self._always = self._pipeline = AsyncPipeline(self)
        await self._always.__aenter__()
        return self

    def begin(self) -> None:
        """Begin a transaction, whose statements are planned anew when that was long ago."""
        now = monotonic()
        if now - self._planned_at > _PLANS_LAST_S:
            self._planned_at = now
            self.put(b"DISCARD PLANS", ())
        self.put(b"BEGIN", ())

    async def execute(self, query: Any, params: Any = None, **how: Any) -> Any:
        if (
            self._pipeline is None
            or how
            or not isinstance(query, bytes)
            or not _TEXTS.issuperset(map(type, params or ()))
        ):
            return await super().execute(query, params, **how)
        return self.put(query, params or ())

    def put(self, query: bytes, values: Sequence[str | None]) -> Answer:
        """Have a statement wait to be sent; it is made ready when it is the first of its kind."""
        commands, results = self._always.command_queue, self._always.result_queue
        name = self._names.get(query)
        if name is None:
            name = self._names[query] = b"line_%d" % len(self._names)
            commands.append(partial(self.pgconn.send_prepare, name, self._placed(query, values)))
            results.append(None)
        texts = [None if value is None else value.encode() for value in values]
        answer = Answer(self)
        commands.append(partial(self.pgconn.send_query_prepared, name, texts, result_format=Format.BINARY))
        results.append((answer, None))  # type: ignore[arg-type]  # a cursor, as far as the pipeline is concerned
        return answer

    def _placed(self, query: bytes, values: Sequence[str | None]) -> bytes:
        """Return a statement with the placeholders of the server in it."""
        known = self._converted.get(query)
        if known is None:
            made = PostgresQuery(Transformer(self))
            made.convert(query, values)
            known = self._converted[query] = made.query
        return known

    def hand_over(self) -> None:
        """Give libpq what waits; it keeps it until it is told to flush."""
        commands = self._always.command_queue
        while commands:
            commands.popleft()()

    async def answered(self) -> None:
        """Send what waits and wait for the answers to everything that was sent."""
        self.hand_over()
        await self.wait(self._always._fetch_gen(flush=True))

    async def commit_now(self, sent: Callable[[], None]) -> None:
        """Commit, call ``sent`` when everything is on its way, and return when it is durable."""
        self.put(b"COMMIT", ())
        self.put(_MAKE_DURABLE, (self._waits_for,))
        self._always._enqueue_sync()
        self.hand_over()
        self.pgconn.flush()
        sent()
        await self.wait(self._rest())

    def _rest(self) -> Generator[Any, Any, None]:
        yield from generators.send(self.pgconn)
        yield from self._always._fetch_gen(flush=False)

    def rows_of(self, result: PGresult) -> list[tuple[Any, ...]]:
        reader = Transformer(self)
        reader.set_pgresult(result)
        return reader.load_rows(0, result.ntuples, tuple)


class Line:
    """A connection, made anew when it was lost."""

    def __init__(self) -> None:
        self._connection: LineConnection | None = None

    @asynccontextmanager
    async def transaction(self, sent: Callable[[], None]) -> AsyncIterator[AsyncConnection[Any]]:
        """Give the connection, in a transaction that is durable once this has ended without an error.

        ``sent`` is called when everything, the commit too, is on its way. One transaction at a time.
        """
        if self._connection is None:
            self._connection = await _connect()
        try:
            self._connection.begin()
            yield self._connection
            await self._connection.commit_now(sent)
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


async def _connect() -> LineConnection:
    connection = await LineConnection.connect(
        settings.DATABASE_URL, autocommit=True, connect_timeout=3, prepare_threshold=0
    )
    try:
        return await connection.start()
    except BaseException:
        await connection.close()
        raise

"""Exports as streams: rows go from PostgreSQL's COPY into CSV or Parquet, a block at a time, so that memory stays where it is.

An export has a connection of its own, reads without helpers of the planner, rests a third of its time, and at most ``MOST_AT_ONCE``
go on in a process: ingest and pages don't wait for it. PostgreSQL writes the CSV; pyarrow, in C and without the interpreter's lock,
turns blocks of it into row groups.
"""

from __future__ import annotations

import asyncio
import io
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any, Literal, NamedTuple, Protocol

import psycopg
import structlog
from django.conf import settings
from django.http import StreamingHttpResponse

from controlplane.problems import Unavailable

log = structlog.get_logger(__name__)

MOST_AT_ONCE = 2
BLOCK_BYTES = 256 << 10  # of CSV
GROUP_BYTES = 8 << 20  # of CSV in a row group of Parquet
PATIENCE = "30min"
RESTS = 0.5  # for each second of work
MOST_REST_S = 0.5
Format = Literal["csv", "parquet"]
TYPES = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}


class Statement(NamedTuple):
    """SQL and its parameters."""

    sql: str
    values: list[Any]


class _Blocks(Protocol):
    def next(self) -> bytes:
        """Return the next block; empty at the end."""

    def close(self) -> None:
        """Let go of the connection."""


class _Csv:
    """CSV as PostgreSQL writes it. Methods may be called from any thread, one at a time."""

    def __init__(self, statement: Statement, block_bytes: int = BLOCK_BYTES, *, header: bool = True) -> None:
        self._lock = threading.Lock()
        self._block_bytes = block_bytes
        self._connection = psycopg.connect(
            settings.DATABASE_URL,
            application_name="tidegate export",
            options=f"-c statement_timeout={PATIENCE} -c max_parallel_workers_per_gather=0 -c TimeZone=UTC "
            "-c default_transaction_read_only=on",
        )
        self._header = header
        self._statement = statement
        self._rows: Iterator[bytes] | None = None

    def columns(self) -> list[tuple[str, int]]:
        """Return names and types of the columns."""
        sql = f"SELECT * FROM ({self._statement.sql}) AS none LIMIT 0"  # noqa: S608 - a statement of ours
        cursor = self._connection.execute(sql, self._statement.values)
        return [(column.name, column.type_code) for column in cursor.description or ()]

    def _copied(self) -> Iterator[bytes]:
        head = ", HEADER" if self._header else ""
        with (
            self._connection.cursor() as cursor,
            cursor.copy(f"COPY ({self._statement.sql}) TO STDOUT (FORMAT csv{head})", self._statement.values) as copy,
        ):
            while data := copy.read():
                yield bytes(data)

    def next(self) -> bytes:
        with self._lock:
            if self._rows is None:
                self._rows = self._copied()
            block, size = [], 0
            for row in self._rows:
                block.append(row)
                size += len(row)
                if size >= self._block_bytes:
                    break
            return b"".join(block)

    def close(self) -> None:
        """Give up: the server stops at the next row that it can't send."""
        with self._lock:
            if self._connection.info.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                self._connection.cancel()
            self._connection.close()


class _Parquet:
    """Row groups of Parquet out of blocks of CSV, zstd-compressed. Texts, JSON and arrays are strings."""

    def __init__(self, statement: Statement) -> None:
        import pyarrow as pa
        import pyarrow.parquet as parquet

        self._csv = _Csv(statement, GROUP_BYTES, header=False)
        types = {16: pa.bool_(), 20: pa.int64(), 21: pa.int16(), 23: pa.int32(), 700: pa.float32(),
                 701: pa.float64(), 1184: pa.timestamp("us", tz="UTC")}  # fmt: skip
        self._schema = pa.schema([pa.field(name, types.get(code, pa.string())) for name, code in self._csv.columns()])
        self._out = io.BytesIO()
        self._writer = parquet.ParquetWriter(self._out, self._schema, compression="zstd")
        self._over = False

    def next(self) -> bytes:
        from pyarrow import csv

        while not self._over:
            block = self._csv.next()
            if block:
                table = csv.read_csv(
                    io.BytesIO(block),
                    read_options=csv.ReadOptions(column_names=self._schema.names, use_threads=False, block_size=len(block) + 1),
                    parse_options=csv.ParseOptions(newlines_in_values=True),
                    convert_options=csv.ConvertOptions(
                        column_types=self._schema, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""],
                        true_values=["t"], false_values=["f"],
                    ),
                )  # fmt: skip
                self._writer.write_table(table, row_group_size=1 << 20)
            else:
                self._writer.close()
                self._over = True
            if self._out.tell():
                written = self._out.getvalue()
                self._out.seek(0)
                self._out.truncate()
                return written
        return b""

    def close(self) -> None:
        self._csv.close()


class _Place:
    """One of the ``MOST_AT_ONCE`` places of exports in this process; any thread may give it back, once or more often."""

    taken = 0
    _lock = threading.Lock()

    def __init__(self) -> None:
        with self._lock:
            if _Place.taken >= MOST_AT_ONCE:
                raise Unavailable(f"{MOST_AT_ONCE} exports are going on: try again when one is done.", retry_after_s=10)
            _Place.taken += 1
        self._held = True

    def give_back(self) -> None:
        with self._lock:
            if self._held:
                self._held = False
                _Place.taken -= 1


async def blocks_of(statement: Statement, form: Format) -> AsyncIterator[bytes]:
    """Yield the blocks of an export."""
    began = time.monotonic()
    size = 0
    blocks: _Blocks | None = None
    try:
        make: Callable[[Statement], _Blocks] = _Parquet if form == "parquet" else _Csv
        blocks = await asyncio.to_thread(make, statement)
        while True:
            started = time.monotonic()
            block = await asyncio.to_thread(blocks.next)
            if not block:
                break
            size += len(block)
            yield block
            await asyncio.sleep(min(MOST_REST_S, RESTS * (time.monotonic() - started)))
    finally:
        if blocks is not None:
            await asyncio.shield(asyncio.to_thread(blocks.close))
        log.info("export.ended", form=form, bytes=size, seconds=round(time.monotonic() - began, 3))


class _Export:
    """An export that has a place: Django reads it once, and closes it whether anybody read it or not."""

    def __init__(self, statement: Statement, form: Format) -> None:
        self._statement, self._form = statement, form
        place = _Place()
        self.close = place.give_back
        weakref.finalize(self, place.give_back)  # of one that fell away before it reached Django

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async with aclosing(blocks_of(self._statement, self._form)) as blocks:  # type: ignore[type-var]  # a generator has aclose
                async for block in blocks:
                    yield block
        finally:
            self.close()


def response(statement: Statement, form: Format, name: str) -> StreamingHttpResponse:
    """Return the response that streams an export as a file; ``Unavailable`` when enough of them go on."""
    answer = StreamingHttpResponse(_Export(statement, form), content_type=TYPES[form])
    answer["Content-Disposition"] = f'attachment; filename="{name}.{form}"'
    answer["Content-Encoding"] = "identity"  # compressing it again would cost this process what others wait for
    answer["X-Accel-Buffering"] = "no"
    return answer

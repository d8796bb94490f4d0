"""Storing spans: durable when the transaction commits, once however often an exporter sends them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from psycopg import AsyncConnection

from controlplane.telemetry import binary
from controlplane.telemetry.schemas import MessageRow

_COLUMNS = ", ".join(f'"{name}"' for name in binary.SPAN_COLUMNS)
_MESSAGE_COLUMNS = ", ".join(("starts_at", *MessageRow._fields[1:]))


async def store(connection: AsyncConnection[Any], spans: Sequence[bytes], messages: Sequence[MessageRow] = ()) -> None:
    """Store ``spans``, each made by ``binary.span``, in the caller's transaction. One that is there already stays as it is.

    Nearly always all of them are new: then they go straight into the table. Only when one is not, all are compared.
    """
    if spans:
        await _copy_new(connection, "telemetry_span", _COLUMNS, spans)
    if messages:
        said = [
            binary.row(binary.bigint(each.starts_us), *map(binary.text, each[1:]))
            for each in messages
        ]  # fmt: skip
        await _copy_new(connection, "telemetry_message", _MESSAGE_COLUMNS, said)


async def _copy_new(connection: AsyncConnection[Any], table: str, columns: str, rows: Sequence[bytes]) -> None:
    try:
        async with connection.transaction():
            await copy(connection, f"{table} ({columns})", rows)
    except (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected):
        await merge(connection, table, columns, rows)


async def merge(connection: AsyncConnection[Any], table: str, columns: str, rows: Sequence[bytes]) -> None:
    """Store those of ``rows`` that are not there yet, in the order of the key so that two writers never wait for each other."""
    await connection.execute(f"CREATE TEMPORARY TABLE arriving (LIKE {table}) ON COMMIT DROP".encode())
    await copy(connection, f"arriving ({columns})", rows)
    await connection.execute(
        f"INSERT INTO {table} ({columns}) SELECT {columns} FROM arriving ORDER BY trace_id, span_id "  # noqa: S608
        "ON CONFLICT DO NOTHING".encode()
    )
    await connection.execute(b"DROP TABLE arriving")


async def copy(connection: AsyncConnection[Any], target: str, rows: Iterable[bytes]) -> None:
    """Copy rows in PostgreSQL's binary format into ``target``, a table with its columns."""
    async with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY {target} FROM STDIN (FORMAT BINARY)".encode()) as writer,
    ):
        await writer.write(binary.document(rows))

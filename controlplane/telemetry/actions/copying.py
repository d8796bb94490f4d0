"""Rows into tables by COPY, each once: what is there already stays as it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from psycopg import AsyncConnection

from controlplane.telemetry import binary


async def copy_new(
    connection: AsyncConnection[Any], table: str, columns: Sequence[str], rows: Sequence[bytes], *, key: str
) -> None:
    """Store those of ``rows``, each made by ``binary``, that are not there yet; ``key`` is the primary key.

    Nearly always all of them are new: then they go straight into the table. Only when one is not, all are compared.
    """
    if not rows:
        return
    named = ", ".join(f'"{name}"' for name in columns)
    try:
        async with connection.transaction():
            await _copy(connection, f"{table} ({named})", rows)
    except (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected):
        await merge(connection, table, named, rows, key=key)


async def merge(connection: AsyncConnection[Any], table: str, columns: str, rows: Sequence[bytes], *, key: str) -> None:
    """Store those of ``rows`` that are not there yet, in the order of the key so that two writers never wait for each other."""
    await connection.execute(f"CREATE TEMPORARY TABLE arriving (LIKE {table}) ON COMMIT DROP".encode())
    await _copy(connection, f"arriving ({columns})", rows)
    await connection.execute(
        f"INSERT INTO {table} ({columns}) SELECT {columns} FROM arriving ORDER BY {key} "  # noqa: S608 - names of ours
        "ON CONFLICT DO NOTHING".encode()
    )
    await connection.execute(b"DROP TABLE arriving")


async def _copy(connection: AsyncConnection[Any], target: str, rows: Iterable[bytes]) -> None:
    async with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY {target} FROM STDIN (FORMAT BINARY)".encode()) as writer,
    ):
        await writer.write(binary.document(rows))

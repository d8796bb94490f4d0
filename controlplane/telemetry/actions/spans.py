"""Storing spans: durable when the transaction commits, once however often an exporter sends them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from psycopg import AsyncConnection

from controlplane.telemetry.schemas import SpanRow

_COLUMNS = ", ".join(f'"{name}"' for name in SpanRow._fields)
_AS_JSON = {"attributes", "resource", "events"}
_JSON_AT = [name in _AS_JSON for name in SpanRow._fields]


async def store(connection: AsyncConnection[Any], rows: Sequence[SpanRow]) -> None:
    """Store ``rows`` in the caller's transaction. A span that is there already is left as it is."""
    if not rows:
        return
    await connection.execute(b"CREATE TEMPORARY TABLE arriving (LIKE telemetry_span) ON COMMIT DROP")
    async with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY arriving ({_COLUMNS}) FROM STDIN".encode()) as copy,
    ):
        for row in rows:
            await copy.write_row(
                [
                    orjson.dumps(value).decode() if is_json else value
                    for is_json, value in zip(_JSON_AT, row, strict=True)
                ]
            )
    insert = f"INSERT INTO telemetry_span ({_COLUMNS}) SELECT {_COLUMNS} FROM arriving ON CONFLICT DO NOTHING"  # noqa: S608
    await connection.execute(insert.encode())

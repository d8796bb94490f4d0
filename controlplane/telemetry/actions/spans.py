"""Storing spans, messages and log records: durable when the transaction commits, once however often they are sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection

from controlplane.telemetry import binary
from controlplane.telemetry.actions.copying import copy_new


async def store(connection: AsyncConnection[Any], spans: Sequence[bytes], messages: Sequence[bytes] = ()) -> None:
    """Store ``spans`` and ``messages``, each made by ``binary``, in the caller's transaction."""
    await copy_new(connection, "telemetry_span", binary.SPAN_COLUMNS, spans, key="trace_id, span_id")
    await store_messages(connection, messages)


async def store_messages(connection: AsyncConnection[Any], messages: Sequence[bytes]) -> None:
    """Store what was said."""
    await copy_new(
        connection, "telemetry_message", binary.MESSAGE_COLUMNS, messages, key="trace_id, span_id, name, starts_at"
    )


async def store_logs(connection: AsyncConnection[Any], logs: Sequence[bytes], messages: Sequence[bytes] = ()) -> None:
    """Store log records."""
    await copy_new(connection, "telemetry_log", binary.LOG_COLUMNS, logs, key="at, digest")
    await store_messages(connection, messages)

"""Columns of values as PostgreSQL array literals, for statements that write many rows through ``unnest``.

psycopg adapts and quotes every element of a list; numbers, times, ids and truth values need none of that.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from uuid import UUID


def plain(values: Iterable[float | UUID | date]) -> str:
    """Return the literal of values whose text needs no quotes."""
    return "{" + ",".join(map(str, values)) + "}"


def moments(values: Iterable[datetime | None]) -> str:
    """Return the literal of times, ``None`` as null."""
    return "{" + ",".join("null" if value is None else f'"{value.isoformat()}"' for value in values) + "}"


def optional(values: Iterable[int | None]) -> str:
    """Return the literal of whole numbers, ``None`` as null."""
    return "{" + ",".join("null" if value is None else str(value) for value in values) + "}"


def texts(values: Iterable[str]) -> str:
    """Return the literal of texts."""
    return "{" + ",".join('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values) + "}"

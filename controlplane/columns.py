"""Columns of values as PostgreSQL array literals, for statements that write many rows through ``unnest``.

psycopg adapts and quotes every element of a list; numbers, times, ids and truth values need none of that.

``unnest`` keeps every column in a store of its own before the first row comes out: a query that does nothing but read fourteen of
them takes PostgreSQL twice as long as one that reads those of a fixed width, without nulls, by the place of the row:
``(%s::bigint[])[place]``. Columns of texts would be read from their beginning for each row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from uuid import UUID


def plain(values: Iterable[float | str | UUID | date]) -> str:
    """Return the literal of values whose text needs no quotes."""
    return "{" + ",".join(map(str, values)) + "}"


def ids(values: Iterable[UUID]) -> str:
    """Return the literal of ids: without their dashes, which cost more to put in than all else."""
    return "{" + ",".join([f"{value.int:032x}" for value in values]) + "}"


def moments(values: Iterable[datetime | None]) -> str:
    """Return the literal of times, ``None`` as null."""
    return "{" + ",".join("null" if value is None else f'"{value.isoformat()}"' for value in values) + "}"


def optional(values: Iterable[int | None]) -> str:
    """Return the literal of whole numbers, ``None`` as null."""
    return "{" + ",".join("null" if value is None else str(value) for value in values) + "}"


def texts(values: Sequence[str]) -> str:
    """Return the literal of texts."""
    joined = '","'.join(values)
    if "\\" in joined or joined.count('"') > 2 * (len(values) - 1):
        joined = '","'.join(value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return f'{{"{joined}"}}' if values else "{}"

"""Rows of statements that are given up when they take too long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from django.db import OperationalError, connection, transaction

from controlplane.problems import Unavailable

PATIENCE_MS = 4_000


class TooDear(Unavailable):
    """The question takes too long to answer: it has to be made narrower."""


def _rows(cursor: Any, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    cursor.execute(sql, list(values))
    return list(cursor.fetchall())


def _binary_rows(sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Read on the same connection past Django, which knows texts only."""
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(sql.encode(), list(values), prepare=False, binary=True)
        return list(cursor.fetchall())


def patient_rows(sql: str, values: Sequence[Any], *, binary: bool = False) -> list[tuple[Any, ...]]:
    """Return the rows of a statement that may take ``PATIENCE_MS``; ``binary``: long arrays come three times as quickly."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(PATIENCE_MS)])
            found = _binary_rows(sql, values) if binary else _rows(cursor, sql, values)
            cursor.execute("SELECT set_config('statement_timeout', '0', true)")
            return found
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", "") == "57014":  # query_canceled
            raise TooDear(
                "This takes too long to find: choose a shorter time or a tenant, or filter by session, error or trace."
            ) from None
        raise

"""Rows of statements that are given up when they take too long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from django.db import OperationalError, connection, transaction

from controlplane.problems import Unavailable
from controlplane.telemetry.packed import BIGINTS, PackedLoader

PATIENCE_MS = 4_000


class TooDear(Unavailable):
    """The question takes too long to answer: it has to be made narrower."""


def _rows(sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, list(values))
        return list(cursor.fetchall())


def _packed_rows(sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Read on the same connection past Django, which knows texts only."""
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        cursor.adapters.register_loader(BIGINTS, PackedLoader)
        cursor.execute(sql.encode(), list(values), prepare=False, binary=True)
        return list(cursor.fetchall())


def patient_rows(sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return the rows of a statement that may take ``PATIENCE_MS``."""
    return _patiently(_rows, sql, values)


def packed_rows(sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return the same with every ``bigint[]`` as ``Packed``: long ones come ten times as quickly as in texts."""
    return _patiently(_packed_rows, sql, values)


def _patiently(
    read: Callable[[str, Sequence[Any]], list[tuple[Any, ...]]], sql: str, values: Sequence[Any]
) -> list[tuple[Any, ...]]:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(PATIENCE_MS)])
            found = read(sql, values)
            cursor.execute("SELECT set_config('statement_timeout', '0', true)")
            return found
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", "") == "57014":  # query_canceled
            raise TooDear(
                "This takes too long to find: choose a shorter time or a tenant, or filter by session, error or trace."
            ) from None
        raise

"""Rows of statements that are given up when they take too long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import OperationalError, connection, transaction

from controlplane.problems import Unavailable

PATIENCE_MS = 4_000


class TooDear(Unavailable):
    """The question takes too long to answer: it has to be made narrower."""


def patient_rows(sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return the rows of a statement that may take ``PATIENCE_MS``."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(PATIENCE_MS)])
            cursor.execute(sql, list(values))
            found = list(cursor.fetchall())
            cursor.execute("SELECT set_config('statement_timeout', '0', true)")
            return found
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", "") == "57014":  # query_canceled
            raise TooDear(
                "This takes too long to find: choose a shorter time or a tenant, or filter by session, error or trace."
            ) from None
        raise

"""How the ledger is kept: one partition per day, made ahead, so that a day's entries can be moved or dropped whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db import connection, transaction

DAYS_AHEAD = 2


def make_partitions(*, today: date) -> list[str]:
    """Make the partitions from today on that are missing; return their names. Entries that came too early move in."""
    return [name for ahead in range(DAYS_AHEAD + 1) if (name := _make(today + timedelta(days=ahead)))]


def _make(day: date) -> str | None:
    name = partition_of(day)
    starts = datetime.combine(day, time(), UTC)
    bounds = [starts, starts + timedelta(days=1)]
    with transaction.atomic(), connection.cursor() as cursor:
        if is_there(cursor, name):
            return None
        cursor.execute("LOCK TABLE budgets_ledgerentry IN SHARE ROW EXCLUSIVE MODE")
        if is_there(cursor, name):
            return None
        cursor.execute(f"CREATE TABLE {name} (LIKE budgets_ledgerentry INCLUDING DEFAULTS)")
        with keeping(cursor):
            cursor.execute(
                f"WITH moved AS (DELETE FROM budgets_ledgerentry_strays WHERE at >= %s AND at < %s RETURNING *) "  # noqa: S608
                f"INSERT INTO {name} SELECT * FROM moved",
                bounds,
            )
        cursor.execute(
            f"ALTER TABLE budgets_ledgerentry ATTACH PARTITION {name} FOR VALUES FROM ('{bounds[0]}') TO ('{bounds[1]}')"
        )
    return name


def partition_of(day: date) -> str:
    """Return the name of a day's partition."""
    return f"budgets_ledgerentry_{day:%Y%m%d}"


@contextmanager
def keeping(cursor: Any) -> Iterator[None]:
    """Let entries be moved, in the transaction of ``cursor``: otherwise a trigger refuses to have any changed or deleted."""
    cursor.execute("SELECT set_config('tidegate.ledger_keeping', 'on', true)")
    yield
    cursor.execute("SELECT set_config('tidegate.ledger_keeping', '', true)")


def is_there(cursor: Any, name: str) -> bool:
    """Return whether there is a table of that name."""
    cursor.execute("SELECT to_regclass(%s)", [name])
    return cursor.fetchone()[0] is not None

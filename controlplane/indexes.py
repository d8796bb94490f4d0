"""Indexes that are made while others write: on tables that may be full when a database is migrated."""

from __future__ import annotations

import hashlib
from typing import Any

from django.db import OperationalError
from django.db.migrations import RunPython

PATIENCE = "2s"  # for locks that make writers wait behind us
TRIES = 300

_MISSING = """
SELECT part.relname FROM pg_inherits AS held JOIN pg_class AS part ON part.oid = held.inhrelid
WHERE held.inhparent = %s::regclass AND NOT EXISTS (
    SELECT FROM pg_index AS own JOIN pg_inherits AS attached ON attached.inhrelid = own.indexrelid
    WHERE own.indrelid = part.oid AND attached.inhparent = %s::regclass
) ORDER BY part.relname
"""


def concurrently(name: str, table: str, definition: str) -> RunPython:
    """Return the operation of a migration with ``atomic = False`` that makes an index: ``definition`` is what follows ``ON table``.

    Of a partitioned table that of each partition is made by itself, then all are put together. Whatever was left of it by somebody who
    was interrupted is made use of, so it can be done again.
    """

    def make(_apps: Any, editor: Any) -> None:
        with editor.connection.cursor() as cursor:
            cursor.execute("SELECT relkind FROM pg_class WHERE oid = %s::regclass", [table])
            if cursor.fetchone()[0] != "p":
                _make(cursor, name, table, definition)
                return
            _soon(cursor, f"CREATE INDEX IF NOT EXISTS {name} ON ONLY {table} {definition}")
            while missing := _missing(cursor, name, table):
                for part in missing:
                    own = f"{name[:50]}_{hashlib.sha256(part.encode()).hexdigest()[:8]}"
                    _make(cursor, own, part, definition)
                    _soon(cursor, f"ALTER INDEX {name} ATTACH PARTITION {own}")

    def drop(_apps: Any, editor: Any) -> None:
        with editor.connection.cursor() as cursor:
            _soon(cursor, f"DROP INDEX IF EXISTS {name}")

    return RunPython(make, drop)


def _missing(cursor: Any, name: str, table: str) -> list[str]:
    """Return the partitions that have no part of the index yet."""
    cursor.execute(_MISSING, [table, name])
    return [part for (part,) in cursor.fetchall()]


def _make(cursor: Any, name: str, table: str, definition: str) -> None:
    cursor.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", [name])
    found = cursor.fetchone()
    if found is not None and not found[0]:
        cursor.execute(f"DROP INDEX CONCURRENTLY {name}")
    cursor.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {table} {definition}")


def _soon(cursor: Any, statement: str) -> None:
    """Execute what takes an instant once it has its lock; give way to others, and try again, as long as it has to wait for it."""
    cursor.execute("SELECT set_config('lock_timeout', %s, false)", [PATIENCE])
    try:
        for left in reversed(range(TRIES)):
            try:
                cursor.execute(statement)
            except OperationalError:
                if not left:
                    raise
            else:
                return
    finally:
        cursor.execute("SELECT set_config('lock_timeout', '0', false)")

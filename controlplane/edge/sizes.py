"""How large the tables are, and how far folding is behind: asked of the database once a minute, for ``/metrics``."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from controlplane.edge.database import Pool

log = structlog.get_logger(__name__)

READ_EVERY_S = 60.0
# Indexes and TOAST included, partitions counted with the table that they are of.
_SIZES = b"""
    SELECT coalesce(parent.relname, child.relname), sum(pg_total_relation_size(child.oid))::bigint
    FROM pg_class AS child LEFT JOIN pg_inherits ON inhrelid = child.oid LEFT JOIN pg_class AS parent ON parent.oid = inhparent
    WHERE child.relkind = 'r' AND child.relnamespace = 'public'::regnamespace AND child.relname ~ '^(telemetry|budgets|fleet)_'
    GROUP BY 1 ORDER BY 1
"""
_BEHIND = b"SELECT kind, greatest(0, extract(epoch FROM now() - until))::float FROM telemetry_fold ORDER BY kind"


class Sizes:
    """What was read last; empty until it was."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.tables: list[tuple[str, int]] = []
        self.database = 0
        self.behind_s: list[tuple[str, float]] = []

    async def run(self) -> None:
        """Read again and again until cancelled."""
        while True:
            try:
                await self.read()
            except (OSError, psycopg.Error, PoolTimeout) as error:
                log.debug("sizes.not_read", error=str(error))
            await asyncio.sleep(READ_EVERY_S)

    async def read(self) -> None:
        async with self._pool.connection() as connection:
            self.tables = await _rows(connection, _SIZES)
            self.behind_s = await _rows(connection, _BEHIND)
            ((self.database,),) = await _rows(connection, b"SELECT pg_database_size(current_database())")


async def _rows(connection: psycopg.AsyncConnection[Any], sql: bytes) -> list[Any]:
    return list(await (await connection.execute(sql)).fetchall())

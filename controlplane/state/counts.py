"""Reads and writes by tier, counted in memory and added to the database now and then. What a crash loses is a few seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime

from psycopg import AsyncConnection

from controlplane.state.stores.words import Space

COLUMNS = ("l1_hits", "l2_hits", "database_hits", "misses", "writes")
_TIERS = {"l2": "l2_hits", "database": "database_hits", "missing": "misses"}


class Counts:
    """What one edge has counted since it last wrote it down."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], Counter[str]] = {}

    def _of(self, tenant: str, kind: str) -> Counter[str]:
        return self._counts.setdefault((tenant, kind), Counter())

    def read(self, space: Space, tiers: Mapping[str, int]) -> None:
        """Count how many keys of a read came from where."""
        counter = self._of(space.tenant, space.kind)
        for tier, count in tiers.items():
            counter[_TIERS[tier]] += count

    def hits(self, tenant: str, kind: str, count: int) -> None:
        """Count reads that a caller answered from its own memory."""
        self._of(tenant, kind)["l1_hits"] += count

    def write(self, space: Space) -> None:
        self._of(space.tenant, space.kind)["writes"] += 1

    async def write_down(self, connection: AsyncConnection, now: datetime) -> bool:
        """Add what was counted to the minute of ``now``; return whether there was anything. The caller commits."""
        counts, self._counts = self._counts, {}
        minute = now.replace(second=0, microsecond=0)
        async with connection.cursor() as cursor:
            await cursor.executemany(
                "INSERT INTO state_traffic AS t (minute, tenant, kind, l1_hits, l2_hits, database_hits, misses, writes) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT ON CONSTRAINT state_traffic_once DO UPDATE SET "
                "l1_hits = t.l1_hits + excluded.l1_hits, l2_hits = t.l2_hits + excluded.l2_hits, "
                "database_hits = t.database_hits + excluded.database_hits, misses = t.misses + excluded.misses, "
                "writes = t.writes + excluded.writes",
                [
                    (minute, tenant, kind, *(counter[column] for column in COLUMNS))
                    for (tenant, kind), counter in sorted(counts.items())
                ],
            )
        return bool(counts)

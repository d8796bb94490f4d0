"""What the server measures of itself, kept as points of metrics like those that applications send: to look at, and for rules.

They belong to the installation, but for clients, which are counted by tenant. ``instance`` says which signal or table.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import psycopg
import structlog
from django.utils import timezone
from psycopg_pool import PoolTimeout

from controlplane.domain.presence import LOST_AFTER_S
from controlplane.edge.database import Pool
from controlplane.edge.otlp import Otlp
from controlplane.edge.sizes import Sizes
from controlplane.edge.writer import Writer
from controlplane.telemetry.actions import points
from controlplane.telemetry.otlp.decoding import Decoded
from controlplane.telemetry.otlp.own import Own, own_point
from controlplane.telemetry.otlp.series import PointRow

log = structlog.get_logger(__name__)

EVERY_S = 30.0
FIRST_S = 5.0  # after the start, when sizes have been read
_SLOW_ROUNDS = 2  # what the database is asked for is asked in every so manieth round
_TOLD = b"""
    SELECT EXISTS (SELECT FROM telemetry_point WHERE at > now() - interval '50 s'
                   AND series_id IN (SELECT id FROM telemetry_series WHERE name = 'tidegate.database.size'))
"""
_CLIENTS = b"""
    SELECT coalesce(tenant.slug, ''),
           count(*) FILTER (WHERE live), count(*) FILTER (WHERE NOT live),
           count(*) FILTER (WHERE live AND refused_etag <> ''),
           count(*) FILTER (WHERE live AND (dropped_windows > 0 OR dropped_spans > 0))
    FROM (SELECT *, seen_at >= now() - %s * interval '1 s' AS live FROM fleet_instance
          WHERE closed_at IS NULL AND seen_at >= now() - interval '1 hour') AS each
    LEFT JOIN tenancy_tenant AS tenant ON tenant.id = each.scope_id GROUP BY 1
"""
_COUNTED = ("records", "refused", "batches", "waited_s")


class OwnMetrics:
    """What was told last, so that counters tell what was added."""

    def __init__(self, pool: Pool, otlp: Otlp, sizes: Sizes) -> None:
        self._pool = pool
        self._otlp = otlp
        self._sizes = sizes
        self._before: dict[tuple[str, str], float] = {}

    async def run(self) -> None:
        """Keep them again and again until cancelled."""
        number = 0
        while True:
            await asyncio.sleep(EVERY_S if number else FIRST_S)
            number += 1
            try:
                await self.keep(time.time_ns(), slow=number % _SLOW_ROUNDS == 1)
            except (OSError, psycopg.Error, PoolTimeout) as error:
                log.debug("own_metrics.not_kept", error=str(error))

    async def keep(self, at_ns: int, *, slow: bool) -> None:
        """Store what is measured at ``at_ns``; with ``slow`` sizes and clients too, unless another process has just done so.

        What can't be stored, as while the database is away, is told the next time.
        """
        before = dict(self._before)
        try:
            await self._keep(at_ns, slow=slow)
        except BaseException:
            self._before = before
            raise

    async def _keep(self, at_ns: int, *, slow: bool) -> None:
        rows = [own_point(each, at_ns) for writer in self._otlp.writers for each in self._of(writer)]
        rows.append(
            own_point(Own("ingest.rejected", self._added("", "rejected", self._otlp.rejected), "{record}"), at_ns)
        )
        async with self._pool.connection() as connection:
            if slow and not (await (await connection.execute(_TOLD)).fetchone() or [True])[0]:
                rows += [own_point(each, at_ns) for each in await self._slowly(connection)]
            await points.store(connection, [Decoded[PointRow](rows)], now=timezone.now())

    def _added(self, signal: str, name: str, value: float) -> float:
        before = self._before.get((signal, name), 0.0)
        self._before[signal, name] = value
        return value - before

    def _of(self, writer: Writer[Any]) -> Iterable[Own]:
        added = {name: self._added(writer.name, name, getattr(writer, name)) for name in _COUNTED}
        waited = added["waited_s"] / added["batches"] if added["batches"] else 0.0
        yield Own("ingest.records", added["records"], "{record}", writer.name)
        yield Own("ingest.refused", added["refused"], "{request}", writer.name)
        yield Own("ingest.lag", max(waited, writer.lag_s), "s", writer.name, level=True)

    async def _slowly(self, connection: psycopg.AsyncConnection[Any]) -> list[Own]:
        sizes = self._sizes
        found = [Own("storage.size", size, "By", name, level=True) for name, size in sizes.tables]
        found += [Own("fold.lag", seconds, "s", kind, level=True) for kind, seconds in sizes.behind_s]
        if sizes.database:  # nought: never read yet
            found.append(Own("database.size", sizes.database, "By", level=True))
        cursor = await connection.execute(_CLIENTS, [LOST_AFTER_S])
        for tenant, *counts in await cursor.fetchall():
            for what, count in zip(("live", "lost", "refusing", "dropping"), counts, strict=True):
                found.append(Own(f"clients.{what}", count, "{client}", tenant=tenant, level=True))
        return found

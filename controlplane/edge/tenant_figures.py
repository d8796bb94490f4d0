"""The seven figures per tenant over the last minute, for ``/metrics``: told to whom the tenant's calls may be told."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from controlplane.edge.database import Pool
from controlplane.edge.ingest_figures import Series
from controlplane.edge.mirror import Key

log = structlog.get_logger(__name__)

READ_EVERY_S = 10.0
MOST_TENANTS = 2000
_SQL = b"""
    WITH hit AS MATERIALIZED (
        SELECT * FROM telemetry_window_10s WHERE starts_at >= now() - interval '70 s' AND starts_at < now() - interval '10 s'),
    counted AS (
        SELECT tenant, packed >> 40 AS bucket, sum(packed & ((1::bigint << 40) - 1)) AS amount
        FROM hit, unnest(latency_us[5:]) AS packed GROUP BY 1, 2),
    ranked AS (
        SELECT tenant, bucket, sum(amount) OVER (PARTITION BY tenant ORDER BY bucket) AS seen,
               sum(amount) OVER (PARTITION BY tenant) AS total FROM counted),
    tails AS (SELECT tenant, min(bucket) AS bucket FROM ranked WHERE seen >= ceil(total * 0.99) GROUP BY tenant)
    SELECT tenant, sum(calls)::float / 60, sum(errors)::float / nullif(sum(calls), 0),
           power(2.0, (min(tails.bucket) - 0.5) / 64) / 1e6, sum(input_tokens + output_tokens)::float / 60,
           sum(cost_nusd)::float / 1e9 * 60, sum(queue_depth[2])::float / nullif(sum(queue_depth[1]), 0),
           coalesce(sum(sessions[2]), 0)::float / 60, sum(cached_input_tokens)::float / nullif(sum(input_tokens), 0),
           sum(refused)::float / 60
    FROM hit LEFT JOIN tails USING (tenant) GROUP BY tenant ORDER BY tenant LIMIT %s
"""


class Told(NamedTuple):
    """One figure: its name, what it is, and which column it has."""

    name: str
    text: str
    column: int


_FIGURES = (
    Told("tidegate_calls_per_second", "Calls let through, over the last minute.", 1),
    Told("tidegate_error_rate_ratio", "Failed calls per call, over the last minute.", 2),
    Told("tidegate_request_latency_p99_seconds", "99th percentile of latency, over the last minute.", 3),
    Told("tidegate_tokens_per_second", "Tokens in and out, over the last minute.", 4),
    Told("tidegate_cost_usd_per_hour", "What calls cost at the pace of the last minute.", 5),
    Told("tidegate_queue_depth", "Mean number of calls that wait, over the last minute.", 6),
    Told("tidegate_active_sessions", "Sessions seen within five minutes, as callers count them.", 7),
    Told("tidegate_cache_hit_ratio", "Cached input tokens per input token, over the last minute.", 8),
    Told("tidegate_refused_per_second", "Calls refused, over the last minute.", 9),
)


class TenantFigures:
    """What was read last."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._rows: list[tuple[Any, ...]] = []

    async def run(self) -> None:
        """Read again and again until cancelled."""
        while True:
            try:
                await self.read()
            except (OSError, psycopg.Error, PoolTimeout) as error:
                log.debug("tenant_figures.not_read", error=str(error))
            await asyncio.sleep(READ_EVERY_S)

    async def read(self) -> None:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_SQL, [MOST_TENANTS])
            self._rows = list(await cursor.fetchall())

    def lines(self, key: Key | None, series: Series) -> list[str]:
        """Return lines in Prometheus' text format of the tenants that ``key`` may speak for; none without a key."""
        if key is None:
            return []
        rows = [row for row in self._rows if key.tenants is None or row[0] in key.tenants]
        return [
            line
            for told in _FIGURES
            for line in series(
                told.name,
                "gauge",
                told.text,
                [
                    (f'{{tenant="{_escaped(row[0])}"}}', row[told.column])
                    for row in rows
                    if row[told.column] is not None
                ],
            )
        ]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

"""Figures of calls for decisions: by group, over any recent span of time, and how many calls were beyond a limit."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime

from controlplane.telemetry.queries.calls import table_of
from controlplane.telemetry.queries.reading import rows, slugs_read, where
from controlplane.tenancy.queries import Asker
from tidegate.core.window import BUCKETS_PER_OCTAVE

COUNTS = (
    "calls", "errors", "refused", "fallbacks", "retries", "input_tokens", "cached_input_tokens", "output_tokens", "cost_nusd",
)  # fmt: skip
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class Measured:
    """Counts of one group, latencies at 0.5, 0.95 and 0.99 in milliseconds, and means of what is sampled."""

    seconds: float
    counts: dict[str, int] = field(default_factory=dict)
    latency_ms: tuple[float | None, float | None, float | None] = (None, None, None)
    queue_depth: float | None = None
    sessions: float = 0.0

    def __getitem__(self, name: str) -> int:
        return self.counts.get(name, 0)


def measured(
    asker: Asker,
    since: datetime,
    until: datetime,
    by: str = "",
    tenant: str | None = None,
    route: str = "",
    model: str = "",
) -> dict[str, Measured]:
    """Return what was measured per tenant, route or model, or of all together under the empty name; nothing without windows."""
    slugs = slugs_read(asker, tenant)
    clause, values = where(slugs, route=route, model=model)
    table = table_of(
        since, until, together=slugs is None and by != "tenant", all_in_all=slugs is None and not (by or route or model)
    )
    group = by if by in ("tenant", "route", "model") else "''"
    sums = ", ".join(f"tg_whole(sum({name}))" for name in COUNTS)
    tails = ", ".join(
        f"min(bucket) FILTER (WHERE seen >= ceil(total * {share})) AS t{place}" for place, share in enumerate(QUANTILES)
    )
    sql = f"""
        WITH hit AS MATERIALIZED (
            SELECT {group} AS name, * FROM {table} WHERE starts_at >= %s AND starts_at < %s {clause}),
        counted AS (
            SELECT name, packed >> 40 AS bucket, sum(packed & ((1::bigint << 40) - 1)) AS amount
            FROM hit, unnest(latency_us[5:]) AS packed GROUP BY 1, 2),
        ranked AS (
            SELECT name, bucket, sum(amount) OVER (PARTITION BY name ORDER BY bucket) AS seen,
                   sum(amount) OVER (PARTITION BY name) AS total FROM counted),
        tails AS (SELECT name, {tails} FROM ranked GROUP BY name)
        SELECT name, {sums}, min(t0), min(t1), min(t2), sum(queue_depth[2])::float / nullif(sum(queue_depth[1]), 0),
               coalesce(sum(sessions[2]), 0)::float
        FROM hit LEFT JOIN tails USING (name) GROUP BY name ORDER BY name LIMIT 2000"""  # noqa: S608 - names of ours
    seconds = max(1.0, (until - since).total_seconds())
    found = {}
    for name, *rest in rows(sql, [since, until, *values]):
        counts = dict(zip(COUNTS, rest, strict=False))
        p50, p95, p99, depth, sessions = rest[len(COUNTS) :]
        found[name] = Measured(
            seconds, counts, (milliseconds(p50), milliseconds(p95), milliseconds(p99)), depth, sessions / seconds
        )
    return found


def milliseconds(bucket: int | None) -> float | None:
    return None if bucket is None else 2.0 ** ((bucket - 0.5) / BUCKETS_PER_OCTAVE) / 1000


def beyond(
    asker: Asker,
    since: datetime,
    until: datetime,
    column: str,
    limit: float,
    tenant: str | None = None,
    route: str = "",
    model: str = "",
) -> tuple[int, int]:
    """Return how many values of a distribution there were, and how many above ``limit``, to within a bucket (1.1 %)."""
    slugs = slugs_read(asker, tenant)
    clause, values = where(slugs, route=route, model=model)
    sql = f"""SELECT tg_whole(coalesce(sum(amount), 0)), tg_whole(coalesce(sum(bad), 0))
              FROM (SELECT {counted_beyond(column, limit)} FROM {table_of(since, until, together=slugs is None, all_in_all=slugs is None and not (route or model))}
                    WHERE starts_at >= %s AND starts_at < %s {clause}) AS each"""  # noqa: S608 - names of ours
    ((total, bad),) = rows(sql, [since, until, *values])
    return int(total), int(bad)


def counted_beyond(column: str, limit: float) -> str:
    """Return SQL for the values of a row, as ``amount``, and those above ``limit``, as ``bad``. Only the buckets above are looked at.

    ``ValueError`` for what is no distribution of calls.
    """
    if column not in ("latency_us", "call_cost_nusd", "tokens"):
        raise ValueError(f"{column} is no distribution of calls")
    last = math.ceil(BUCKETS_PER_OCTAVE * math.log2(limit)) if limit > 1 else 0
    below = f"width_bucket({((last + 1) << 40) - 1}::bigint, {column}[5:])"
    return f"""coalesce({column}[1], 0) AS amount, (
        SELECT coalesce(sum(packed & ((1::bigint << 40) - 1)), 0) FROM unnest({column}[5 + {below} :]) AS packed) AS bad"""  # noqa: S608

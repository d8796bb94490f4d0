"""Figures of calls for decisions: by group, over any recent span of time, and how many calls were beyond a limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

from controlplane.telemetry.packed import Packed, sent_buckets
from controlplane.telemetry.patience import packed_rows
from controlplane.telemetry.queries.reading import rows, slugs_read, where
from controlplane.telemetry.queries.tables import COUNTS, windows_of
from controlplane.tenancy.queries import Asker
from tidegate.core.window import BUCKETS_PER_OCTAVE

MOST_NAMES = 2000
Latencies = tuple[float | None, float | None, float | None]
UNKNOWN: Latencies = (None, None, None)


@dataclass(slots=True)
class Measured:
    """Counts of one group, latencies at 0.5, 0.95 and 0.99 in milliseconds, and means of what is sampled."""

    seconds: float
    counts: dict[str, int] = field(default_factory=dict)
    latency_ms: Latencies = UNKNOWN
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
    *,
    latency: bool = True,
    sampled: bool = True,
    counts: Sequence[str] = COUNTS,
) -> dict[str, Measured]:
    """Return ``counts`` per tenant, route or model, or of all together under the empty name; nothing without windows.

    Latency, and what is sampled (queue depth and sessions), may be left out, which is quicker. Each group is one row, its buckets of latency
    one string of bytes, merged here: that is quicker than in SQL.
    """
    slugs = slugs_read(asker, tenant)
    clause, values = where(slugs, route=route, model=model)
    table = windows_of(slugs, since, until, by=by, route=route, model=model)
    group = by if by in ("tenant", "route", "model") else "''"
    depth = "sum(queue_depth[2])::float8 / nullif(sum(queue_depth[1]), 0)" if sampled else "NULL"
    columns = [
        *(f"tg_whole(sum({name}))" for name in counts),
        sent_buckets("latency_us") if latency else "NULL",
        depth,
        "coalesce(sum(sessions[2]), 0)::float8" if sampled else "0::float8",
    ]
    sql = f"""SELECT {group} AS name, {", ".join(columns)} FROM {table}
              WHERE starts_at >= %s AND starts_at < %s {clause} GROUP BY 1 ORDER BY 1 LIMIT {MOST_NAMES}"""  # noqa: S608 - names of ours
    seconds = max(1.0, (until - since).total_seconds())
    found = {}
    for name, *counted, sent, queued, sessions in packed_rows(sql, [since, until, *values]):
        each = dict(zip(counts, counted, strict=True))
        found[name] = Measured(seconds, each, _latencies(sent) if sent else UNKNOWN, queued, sessions / seconds)
    return found


def _latencies(sent: bytes) -> Latencies:
    p50, _, p95, p99 = Packed.together(sent).tails()
    return milliseconds(p50), milliseconds(p95), milliseconds(p99)


@lru_cache(maxsize=4096)
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
    table = windows_of(slugs, since, until, route=route, model=model)
    sql = f"""SELECT tg_whole(coalesce(sum(amount), 0)), tg_whole(coalesce(sum(bad), 0))
              FROM {table} {counted_beyond(column, limit)} WHERE starts_at >= %s AND starts_at < %s {clause}"""  # noqa: S608
    ((total, bad),) = rows(sql, [since, until, *values])
    return int(total), int(bad)


def counted_beyond(column: str, limit: float) -> str:
    """Return SQL that joins to each row its values, as ``amount``, and those above ``limit``, as ``bad``.

    An array is unpacked from how it is stored once only, which costs most; of it, only the buckets above are looked at. ``ValueError`` for
    what is no distribution of calls.
    """
    if column not in ("latency_us", "call_cost_nusd", "tokens"):
        raise ValueError(f"{column} is no distribution of calls")
    last = math.ceil(BUCKETS_PER_OCTAVE * math.log2(limit)) if limit > 1 else 0
    below = f"width_bucket({((last + 1) << 40) - 1}::bigint, held[5:])"
    return f"""CROSS JOIN LATERAL (
        SELECT coalesce(held[1], 0) AS amount, CASE WHEN held[4] > {math.floor(limit)} THEN (
            SELECT coalesce(sum((packed & ((1::bigint << 40) - 1))::float8), 0)::bigint FROM unnest(held[5 + {below} :]) AS packed)
            ELSE 0 END AS bad
        FROM (SELECT {column} || '{{}}'::bigint[] AS held OFFSET 0) AS unpacked) AS counted"""  # noqa: S608 - a column of ours

"""Steps of five minutes of tenants, and of all together, as they are kept: rules are tried on weeks of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from controlplane.telemetry.packed import Packed
from controlplane.telemetry.patience import packed_rows
from controlplane.telemetry.queries.measures import Measured, milliseconds
from controlplane.telemetry.queries.tables import COUNTS
from controlplane.telemetry.resolutions import TENANT_STEPS, floor

STEP_S = TENANT_STEPS.step_s
_NOTHING = -(1 << 30)  # stands for no percentile: no bucket is as low
_SAMPLED = ("queue_samples", "queue_total", "sessions_total")
_TAILS = ("p50", "p95", "p99")


def held_until(since: datetime, until: datetime, step_s: int, mark: datetime | None) -> datetime:
    """Return until when steps from ``since`` on are kept; ``since`` where they are not."""
    if mark is None or step_s != STEP_S or floor(since, STEP_S) != since:
        return since
    return max(since, min(mark, floor(until, STEP_S)))


def held_steps(
    tenants: Sequence[str], since: datetime, until: datetime, *, latency: bool, counts: Sequence[str] = COUNTS
) -> dict[str, list[Measured]]:
    """Return what was measured of each tenant that has anything, in every step, of ``counts`` alone. A column comes as one array."""
    every = [*counts, *_SAMPLED, *(f"coalesce({name}, {_NOTHING})" for name in _TAILS if latency)]
    columns = ", ".join(f"array_agg({name} ORDER BY starts_at)" for name in every)
    sql = f"""SELECT tenant, array_agg(((date_part('epoch', starts_at) - %s) / {STEP_S})::bigint ORDER BY starts_at), {columns}
              FROM {TENANT_STEPS.table} WHERE tenant = ANY(%s) AND starts_at >= %s AND starts_at < %s GROUP BY tenant"""  # noqa: S608 - names of ours
    count = int((until - since).total_seconds()) // STEP_S
    found = {}
    for tenant, places, *packed in packed_rows(sql, [since.timestamp(), list(tenants), since, until]):
        found[tenant] = [Measured(float(STEP_S))] * count
        for place, measured in zip(places.entries, _measured(packed, counts), strict=True):
            found[tenant][place] = measured
    return found


def _measured(packed: Sequence[Packed], names: Sequence[str]) -> Iterator[Measured]:
    place = len(names) + len(_SAMPLED)
    *counts, samples, depths, sessions = (each.entries for each in packed[:place])
    tails = [each.entries for each in packed[place:]] or [[_NOTHING] * len(samples)] * len(_TAILS)
    told = {bucket: milliseconds(bucket) for column in tails for bucket in set(column)} | {_NOTHING: None}
    slow, slower, slowest = (map(told.__getitem__, column) for column in tails)
    for row, p50, p95, p99, count, depth, some in zip(
        zip(*counts, strict=True), slow, slower, slowest, samples, depths, sessions, strict=True
    ):
        each = dict(zip(names, row, strict=True))
        yield Measured(float(STEP_S), each, (p50, p95, p99), depth / count if count else None, some / STEP_S)

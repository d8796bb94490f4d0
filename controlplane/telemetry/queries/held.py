"""Steps of five minutes of tenants, and of all together, as they are kept: rules are tried on weeks of them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime

from controlplane.telemetry.patience import patient_rows
from controlplane.telemetry.queries.measures import UNKNOWN, Latencies, milliseconds
from controlplane.telemetry.queries.stepped import Steps
from controlplane.telemetry.resolutions import TENANT_STEPS, floor

STEP_S = TENANT_STEPS.step_s
_SAMPLED = ("queue_samples", "queue_total", "sessions_total")
_BITS = 20  # more than a bucket of latency has
_ALL = (1 << _BITS) - 1
_TAILS = f"coalesce((p50 + 1 << {2 * _BITS}) + (p95 + 1 << {_BITS}) + p99 + 1, 0)"  # nought where nothing is known
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # PostgreSQL's


def held_until(since: datetime, until: datetime, step_s: int, mark: datetime | None) -> datetime:
    """Return until when steps from ``since`` on are kept; ``since`` where they are not."""
    if mark is None or step_s != STEP_S or floor(since, STEP_S) != since:
        return since
    return max(since, min(mark, floor(until, STEP_S)))


def read_held(
    tenants: Sequence[str],
    since: datetime,
    until: datetime,
    count: int,
    counts: Sequence[str],
    *,
    latency: bool,
    sampled: bool,
) -> dict[str, Steps]:
    """Return what was measured of each tenant that has anything, of ``counts`` alone, in the first of ``count`` steps from ``since`` on.

    All steps of a tenant come as one string of whole numbers of 64 bits, a few of each step: in any order.
    """
    columns = [*counts, *(_SAMPLED if sampled else ()), *([_TAILS] if latency else ())]
    sent = " || ".join(["timestamptz_send(starts_at)", *(f"int8send({column})" for column in columns)])
    sql = f"""SELECT tenant, string_agg({sent}, ''::bytea) FROM {TENANT_STEPS.table}
              WHERE tenant = ANY(%s) AND starts_at >= %s AND starts_at < %s GROUP BY tenant"""  # noqa: S608 - names of ours
    first = round((since - _EPOCH).total_seconds()) * 1_000_000
    found = {}
    for tenant, packed in patient_rows(sql, [list(tenants), since, until]):
        numbers = struct.unpack(f">{len(packed) // 8}q", packed)
        wide = len(columns) + 1
        places = [(at - first) // (STEP_S * 1_000_000) for at in numbers[::wide]]
        steps = found[tenant] = Steps(float(STEP_S), count, counts)
        _place(steps, places, [numbers[place::wide] for place in range(1, wide)], latency=latency, sampled=sampled)
    return found


def _place(
    steps: Steps, places: Sequence[int], columns: Sequence[Sequence[int]], *, latency: bool, sampled: bool
) -> None:
    for place in places:
        steps.known[place] = 1
    rest = iter(columns)
    for column in steps.counts.values():
        for place, count in zip(places, next(rest), strict=True):
            column[place] = count
    if sampled:
        for place, samples, depths, some in zip(places, next(rest), next(rest), next(rest), strict=True):
            steps.queue_depth[place] = depths / samples if samples else None
            steps.sessions[place] = some / STEP_S
    if latency:
        tails = next(rest)
        told = {each: _latencies(each) for each in set(tails)}
        for place, each in zip(places, tails, strict=True):
            steps.latency_ms[place] = told[each]


def _latencies(tails: int) -> Latencies:
    if not tails:
        return UNKNOWN
    p50, p95, p99 = (milliseconds((tails >> shift & _ALL) - 1) for shift in (2 * _BITS, _BITS, 0))
    return p50, p95, p99

"""Courses for decisions: what was measured in each step of time, by group; how many calls of each step were beyond a limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

from controlplane.telemetry.patience import patient_rows
from controlplane.telemetry.queries.calls import BY_HOURS, table_of
from controlplane.telemetry.queries.measures import COUNTS, QUANTILES, Measured, milliseconds
from controlplane.telemetry.queries.reading import rows, slugs_read, where
from controlplane.tenancy.queries import Asker
from tidegate.core.window import BUCKETS_PER_OCTAVE

MOST_GROUPS = 8
_HOUR_S = 3600
_DAY_S = 86_400


def _table(step_s: int) -> str:
    return BY_HOURS if step_s >= _HOUR_S else "telemetry_window_1m"


def measured_steps(
    asker: Asker,
    since: datetime,
    until: datetime,
    step_s: int,
    by: str = "",
    tenant: str | None = None,
    route: str = "",
    model: str = "",
    *,
    latency: bool = True,
) -> dict[str, list[Measured]]:
    """Return what was measured in every step of ``step_s`` seconds, the oldest first, for the busiest groups.

    Without ``latency`` that is left out, which is quicker. Steps are whole minutes, or whole hours from an hour on. The groups are tenants, routes or models, or one of the empty name.
    """
    clause, values = where(slugs_read(asker, tenant), route=route, model=model)
    group = by if by in ("tenant", "route", "model") else "''"
    sums = ", ".join(f"tg_whole(sum({name}))" for name in COUNTS)
    tails = ", ".join(
        f"min(bucket) FILTER (WHERE seen >= ceil(total * {share})) AS t{place}" for place, share in enumerate(QUANTILES)
    )
    buckets = "unnest(latency_us[5:])" if latency else "unnest(ARRAY[]::bigint[])"
    sql = f"""
        WITH hit AS MATERIALIZED (
            SELECT {group} AS name, date_bin(%s, starts_at, %s) AS slot, {", ".join(COUNTS)},
                   {"latency_us, " if latency else ""}queue_depth, sessions
            FROM {_table(step_s)} WHERE starts_at >= %s AND starts_at < %s {clause}),
        busiest AS (SELECT name FROM hit GROUP BY name ORDER BY sum(calls) DESC, name LIMIT {MOST_GROUPS}),
        counted AS (
            SELECT name, slot, packed >> 40 AS bucket, sum(packed & ((1::bigint << 40) - 1)) AS amount
            FROM hit JOIN busiest USING (name), {buckets} AS packed GROUP BY 1, 2, 3),
        ranked AS (
            SELECT name, slot, bucket, sum(amount) OVER (PARTITION BY name, slot ORDER BY bucket) AS seen,
                   sum(amount) OVER (PARTITION BY name, slot) AS total FROM counted),
        tails AS (SELECT name, slot, {tails} FROM ranked GROUP BY 1, 2)
        SELECT name, slot, {sums}, min(t0), min(t1), min(t2), sum(queue_depth[2])::float / nullif(sum(queue_depth[1]), 0),
               coalesce(sum(sessions[2]), 0)::float
        FROM hit JOIN busiest USING (name) LEFT JOIN tails USING (name, slot) GROUP BY 1, 2 ORDER BY 1, 2"""  # noqa: S608
    found: dict[str, dict[datetime, Measured]] = {}
    for name, slot, *rest in patient_rows(sql, [timedelta(seconds=step_s), since, since, until, *values]):
        counts = dict(zip(COUNTS, rest, strict=False))
        p50, p95, p99, depth, sessions = rest[len(COUNTS) :]
        quantiles = (milliseconds(p50), milliseconds(p95), milliseconds(p99))
        found.setdefault(name, {})[slot] = Measured(float(step_s), counts, quantiles, depth, sessions / step_s)
    slots = slots_of(since, until, step_s)
    return {name: [steps.get(slot, Measured(float(step_s))) for slot in slots] for name, steps in found.items()}


def slots_of(since: datetime, until: datetime, step_s: int) -> list[datetime]:
    """Return where the steps start."""
    count = max(0, -(-int((until - since).total_seconds()) // step_s))
    return [since + timedelta(seconds=step_s * number) for number in range(count)]


def beyond_steps(
    asker: Asker,
    since: datetime,
    until: datetime,
    step_s: int,
    column: str,
    limit: float,
    tenant: str | None = None,
    route: str = "",
    model: str = "",
) -> list[tuple[int, int]]:
    """Return for every step how many values of a distribution there were, and how many above ``limit``."""
    if column not in ("latency_us", "call_cost_nusd", "tokens"):
        raise ValueError(f"{column} is no distribution of calls")
    clause, values = where(slugs_read(asker, tenant), route=route, model=model)
    last = math.ceil(BUCKETS_PER_OCTAVE * math.log2(limit)) if limit > 1 else 0
    sql = f"""SELECT slot, tg_whole(sum(amount)), tg_whole(coalesce(sum(amount) FILTER (WHERE bucket > %s), 0))
              FROM (SELECT date_bin(%s, starts_at, %s) AS slot, packed >> 40 AS bucket,
                           packed & ((1::bigint << 40) - 1) AS amount
                    FROM {_table(step_s)}, unnest({column}[5:]) AS packed
                    WHERE starts_at >= %s AND starts_at < %s {clause}) AS each GROUP BY slot"""  # noqa: S608 - names of ours
    found = {
        slot: (int(total), int(bad))
        for slot, total, bad in patient_rows(sql, [last, timedelta(seconds=step_s), since, since, until, *values])
    }
    return [found.get(slot, (0, 0)) for slot in slots_of(since, until, step_s)]


def counts_over(
    asker: Asker,
    until: datetime,
    lengths_s: Sequence[int],
    column: str = "",
    limit: float = 0.0,
    route: str = "",
    model: str = "",
) -> dict[int, tuple[int, int]]:
    """Return, for windows of those lengths that end at ``until``, how many calls there were and how many failed.

    With a ``column``: how many values of that distribution there were, and how many above ``limit``. Lengths are read by the
    minute up to a day, longer ones by hours.
    """
    if column not in ("", "latency_us", "call_cost_nusd", "tokens"):
        raise ValueError(f"{column} is no distribution of calls")
    clause, values = where(slugs_read(asker, None), route=route, model=model)
    last = math.ceil(BUCKETS_PER_OCTAVE * math.log2(limit)) if limit > 1 else 0
    found: dict[int, tuple[int, int]] = {}
    for table, wanted in (
        ("telemetry_window_1m", [each for each in lengths_s if each <= _DAY_S]),
        (BY_HOURS, [each for each in lengths_s if each > _DAY_S]),
    ):
        if not wanted:
            continue
        begins = [until - timedelta(seconds=each) for each in wanted]
        source = f"SELECT starts_at, calls AS amount, errors AS bad FROM {table}"  # noqa: S608 - names of ours
        if column:
            source = f"""SELECT starts_at, packed & ((1::bigint << 40) - 1) AS amount,
                                CASE WHEN packed >> 40 > {last} THEN packed & ((1::bigint << 40) - 1) ELSE 0 END AS bad
                         FROM {table}, unnest({column}[5:]) AS packed"""  # noqa: S608 - names of ours
        sums = ", ".join(
            "tg_whole(coalesce(sum(amount) FILTER (WHERE starts_at >= %s), 0)), "
            "tg_whole(coalesce(sum(bad) FILTER (WHERE starts_at >= %s), 0))"
            for _ in wanted
        )
        sql = f"""SELECT {sums} FROM ({source} WHERE starts_at >= %s AND starts_at < %s {clause}) AS each"""  # noqa: S608
        twice = [begin for begin in begins for _ in range(2)]
        (row,) = rows(sql, [*twice, min(begins), until, *values])
        found |= {length: (row[2 * place], row[2 * place + 1]) for place, length in enumerate(wanted)}
    return found


def beyond_by(
    asker: Asker,
    since: datetime,
    until: datetime,
    by: str,
    column: str,
    limit: float,
    route: str = "",
    model: str = "",
) -> dict[str, tuple[int, int]]:
    """Return the same per tenant, route or model: those with most values above ``limit`` first."""
    if column not in ("latency_us", "call_cost_nusd", "tokens") or by not in ("tenant", "route", "model"):
        raise ValueError(f"{column} by {by} is not kept")
    clause, values = where(slugs_read(asker, None), route=route, model=model)
    last = math.ceil(BUCKETS_PER_OCTAVE * math.log2(limit)) if limit > 1 else 0
    sql = f"""SELECT name, tg_whole(sum(amount)), tg_whole(coalesce(sum(amount) FILTER (WHERE bucket > %s), 0)) AS bad
              FROM (SELECT {by} AS name, packed >> 40 AS bucket, packed & ((1::bigint << 40) - 1) AS amount
                    FROM {table_of(since, until)}, unnest({column}[5:]) AS packed
                    WHERE starts_at >= %s AND starts_at < %s {clause}) AS each
              GROUP BY name ORDER BY bad DESC, name LIMIT 200"""  # noqa: S608 - names of ours
    return {name: (int(total), int(bad)) for name, total, bad in patient_rows(sql, [last, since, until, *values])}


def newest_window(asker: Asker, since: datetime, until: datetime) -> datetime | None:
    """Return when the newest window of calls began, ``None`` without one in that time."""
    clause, values = where(slugs_read(asker, None))
    sql = f"SELECT max(starts_at) FROM telemetry_window_10s WHERE starts_at >= %s AND starts_at < %s {clause}"  # noqa: S608
    ((newest,),) = rows(sql, [since, until, *values])
    return newest  # type: ignore[no-any-return]  # a column of ours

"""Courses for decisions: what was measured in each step of time, by group; how many calls of each step were beyond a limit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from controlplane.telemetry.packed import RULE_QUANTILES
from controlplane.telemetry.patience import patient_rows
from controlplane.telemetry.queries.held import held_until, read_held
from controlplane.telemetry.queries.measures import Measured, counted_beyond, milliseconds
from controlplane.telemetry.queries.reading import rows, slugs_read, where
from controlplane.telemetry.queries.stepped import Steps
from controlplane.telemetry.queries.tables import COUNTS, folded, windows_of
from controlplane.telemetry.resolutions import BY_TENANT, EVERYBODY, TENANT_STEPS, WHOLE_TENANTS, pieces
from controlplane.tenancy.queries import Asker

MOST_GROUPS = 8


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
    sampled: bool = True,
    counts: Sequence[str] = COUNTS,
) -> dict[str, Steps]:
    """Return what was measured in every step of ``step_s`` seconds, the oldest first, for the busiest groups, of ``counts``.

    Latency, and what is sampled (queue depth and sessions), may be left out, which is quicker. Steps are whole minutes, or whole hours
    from an hour on. The groups are tenants, routes or models, or one of the empty name.
    """
    slugs = slugs_read(asker, tenant)
    count = _count(since, until, step_s)
    found: dict[str, Steps] = {}
    fresh, kept = since, list[str]()
    if by == "tenant" and not (route or model):  # short windows are read of the busiest only
        kept = slugs = _busiest_tenants(slugs, since, until)
    elif slugs is None and not (by or route or model):
        kept = [EVERYBODY]
    if kept and (fresh := held_until(since, until, step_s, folded().get(TENANT_STEPS.mark))) > since:
        held = read_held(kept, since, fresh, count, counts, latency=latency, sampled=sampled)
        found = {"" if name == EVERYBODY else name: steps for name, steps in held.items()}
    if fresh < until:
        clause, values = where(slugs, route=route, model=model)
        table = windows_of(slugs, fresh, until, by=by, route=route, model=model, step_s=step_s, told=latency)
        sql = _steps_of(table, by if by in ("tenant", "route", "model") else "''", clause, latency=latency)
        for name, slot, *rest in patient_rows(sql, [timedelta(seconds=step_s), since, fresh, until, *values]):
            if name not in found:
                found[name] = Steps(float(step_s), count, counts)
            found[name].put(int((slot - since).total_seconds()) // step_s, _measured(step_s, rest))
    return dict(sorted(found.items()))


def _measured(step_s: int, row: Sequence[Any]) -> Measured:
    counts = dict(zip(COUNTS, row, strict=False))
    p50, p95, p99, depth, sessions = row[len(COUNTS) :]
    quantiles = (milliseconds(p50), milliseconds(p95), milliseconds(p99))
    return Measured(float(step_s), counts, quantiles, depth, sessions / step_s)


def _steps_of(table: str, group: str, clause: str, *, latency: bool) -> str:
    """Return SQL for the counts of every step, with percentiles where ``latency`` is wanted, of the busiest by ``group``."""
    sums = ", ".join(f"tg_whole(sum({name}))" for name in COUNTS)
    tails = ", ".join(
        f"min(bucket) FILTER (WHERE seen >= ceil(total * {share})) AS t{place}"
        for place, share in enumerate(RULE_QUANTILES)
    )
    if not latency:
        held = "NULL::bigint[] AS entries, NULL::bigint[] AS told"
    else:
        held = "CASE WHEN latency_told IS NULL THEN latency_us[5:] END AS entries, latency_told[5:] AS told"
    return f"""
        WITH hit AS MATERIALIZED (
            SELECT {group} AS name, date_bin(%s, starts_at, %s) AS slot, {", ".join(COUNTS)}, {held}, queue_depth, sessions
            FROM {table} WHERE starts_at >= %s AND starts_at < %s {clause}),
        busiest AS (SELECT name FROM hit GROUP BY name ORDER BY sum(calls) DESC, name LIMIT {MOST_GROUPS}),
        counted AS (
            SELECT name, slot, packed >> 40 AS bucket, sum((packed & ((1::bigint << 40) - 1))::float8) AS amount
            FROM hit JOIN busiest USING (name), unnest(entries) AS packed GROUP BY 1, 2, 3),
        ranked AS (
            SELECT name, slot, bucket, sum(amount) OVER (PARTITION BY name, slot ORDER BY bucket) AS seen,
                   sum(amount) OVER (PARTITION BY name, slot) AS total FROM counted),
        tails AS (
            SELECT name, slot, {tails} FROM ranked GROUP BY 1, 2
            UNION ALL SELECT name, slot, told[1], told[3], told[4] FROM hit WHERE cardinality(told) > 0)
        SELECT name, slot, {sums}, min(t0), min(t1), min(t2), sum(queue_depth[2])::float / nullif(sum(queue_depth[1]), 0),
               coalesce(sum(sessions[2]), 0)::float
        FROM hit JOIN busiest USING (name) LEFT JOIN tails USING (name, slot) GROUP BY 1, 2 ORDER BY 1, 2"""  # noqa: S608


def _busiest_tenants(slugs: list[str] | None, since: datetime, until: datetime) -> list[str]:
    """Return who had most calls: from whole windows, and at their edges from steps of five minutes, which are short rows."""
    clause, values = where(slugs)
    parts, given = [], list[Any]()
    for piece in pieces(since, until, (*WHOLE_TENANTS, TENANT_STEPS, BY_TENANT[3]), folded()):
        parts.append(
            f"SELECT tenant, sum(calls) AS calls FROM {piece.table} WHERE tenant <> '{EVERYBODY}' "  # noqa: S608 - names of ours
            f"AND starts_at >= %s AND starts_at < %s {clause} GROUP BY tenant"
        )
        given += [piece.since, piece.until, *values]
    sql = f"""SELECT tenant FROM ({" UNION ALL ".join(parts)}) AS part
              GROUP BY tenant ORDER BY sum(calls) DESC, tenant LIMIT {MOST_GROUPS}"""  # noqa: S608 - as above
    return [tenant for (tenant,) in patient_rows(sql, given)] if parts else []


def _count(since: datetime, until: datetime, step_s: int) -> int:
    return max(0, -(-int((until - since).total_seconds()) // step_s))


def slots_of(since: datetime, until: datetime, step_s: int) -> list[datetime]:
    """Return where the steps start."""
    return [since + timedelta(seconds=step_s * number) for number in range(_count(since, until, step_s))]


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
    slugs = slugs_read(asker, tenant)
    clause, values = where(slugs, route=route, model=model)
    table = windows_of(slugs, since, until, step_s=step_s, route=route, model=model)
    sql = f"""SELECT date_bin(%s, starts_at, %s) AS slot, tg_whole(sum(amount)), tg_whole(sum(bad))
              FROM {table} {counted_beyond(column, limit)} WHERE starts_at >= %s AND starts_at < %s {clause} GROUP BY slot"""  # noqa: S608
    found = {
        slot: (int(total), int(bad))
        for slot, total, bad in patient_rows(sql, [timedelta(seconds=step_s), since, since, until, *values])
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

    With a ``column``: how many values of that distribution there were, and how many above ``limit``.
    """
    slugs = slugs_read(asker, None)
    clause, values = where(slugs, route=route, model=model)
    counted = counted_beyond(column, limit) if column else ""
    amount, bad = ("amount", "bad") if column else ("calls", "errors")
    parts, given, marks, ends = [], list[Any](), folded(), until
    for length in sorted({*lengths_s}):  # each window but for the shorter ones, so that nothing is read twice
        since = until - timedelta(seconds=length)
        table = windows_of(slugs, since, ends, route=route, model=model, marks=marks)
        parts.append(
            f"SELECT {int(length)} AS length, tg_whole(sum({amount})) AS amount, tg_whole(sum({bad})) AS bad "  # noqa: S608 - names of ours
            f"FROM {table} {counted} WHERE starts_at >= %s AND starts_at < %s {clause}"
        )
        given += [since, ends, *values]
        ends = since
    found = patient_rows(" UNION ALL ".join(parts), given) if parts else []
    counts = {length: (amount or 0, bad or 0) for length, amount, bad in found}
    return {
        length: (
            sum(amount for each, (amount, _) in counts.items() if each <= length),
            sum(bad for each, (_, bad) in counts.items() if each <= length),
        )
        for length in lengths_s
    }


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
    if by not in ("tenant", "route", "model"):
        raise ValueError(f"calls by {by} are not kept")
    slugs = slugs_read(asker, None)
    clause, values = where(slugs, route=route, model=model)
    table = windows_of(slugs, since, until, by=by, route=route, model=model)
    sql = f"""SELECT {by} AS name, tg_whole(sum(amount)), tg_whole(coalesce(sum(bad), 0)) AS bad
              FROM {table} {counted_beyond(column, limit)} WHERE starts_at >= %s AND starts_at < %s {clause}
              GROUP BY {by} ORDER BY 3 DESC, name LIMIT 200"""  # noqa: S608 - names of ours
    return {name: (int(total), int(bad)) for name, total, bad in patient_rows(sql, [since, until, *values])}


def newest_window(asker: Asker, since: datetime, until: datetime) -> datetime | None:
    """Return when the newest window of calls began, ``None`` without one in that time."""
    clause, values = where(slugs_read(asker, None))
    sql = f"SELECT max(starts_at) FROM telemetry_window_10s WHERE starts_at >= %s AND starts_at < %s {clause}"  # noqa: S608
    ((newest,),) = rows(sql, [since, until, *values])
    return newest  # type: ignore[no-any-return]  # a column of ours

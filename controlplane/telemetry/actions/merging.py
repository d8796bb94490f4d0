"""SQL that makes longer windows out of shorter ones: every distribution in one pass over all its buckets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from controlplane.telemetry.schemas import DISTRIBUTIONS, SUMS

_ALL = (*DISTRIBUTIONS, "sessions")
_COUNT = "((1::bigint << 40) - 1)"


@cache
def steps_statement(source: str, target: str, quantiles: Sequence[float]) -> str:
    """Return SQL with the parameters of ``merge_statement`` that folds ``source`` by tenant, percentiles of latency without their buckets."""
    sums = ", ".join(f"tg_whole(sum({name}))" for name in SUMS)
    tails = ", ".join(
        f"min(bucket) FILTER (WHERE seen >= ceil(total * {share})) AS p{share * 100:.0f}" for share in quantiles
    )
    held = ", ".join(f"p{share * 100:.0f}" for share in quantiles)
    return f"""
        WITH cut AS MATERIALIZED (
            SELECT date_bin(make_interval(secs => %(step)s), starts_at, '1970-01-01Z') AS slot, tenant, {", ".join(SUMS)},
                   latency_us, queue_depth, sessions
            FROM {source} WHERE starts_at >= %(since)s AND starts_at < %(until)s),
        counted AS (
            SELECT slot, tenant, packed >> 40 AS bucket, sum((packed & {_COUNT})::float8) AS amount
            FROM cut, unnest(latency_us[5:]) AS packed GROUP BY 1, 2, 3),
        ranked AS (
            SELECT slot, tenant, bucket, sum(amount) OVER (PARTITION BY slot, tenant ORDER BY bucket) AS seen,
                   sum(amount) OVER (PARTITION BY slot, tenant) AS total FROM counted),
        tails AS (SELECT slot, tenant, {tails} FROM ranked GROUP BY 1, 2)
        INSERT INTO {target} (starts_at, tenant, {", ".join(SUMS)}, queue_samples, queue_total, sessions_total, {held})
        SELECT slot, tenant, {sums}, tg_whole(coalesce(sum(queue_depth[1]), 0)), tg_whole(coalesce(sum(queue_depth[2]), 0)),
               tg_whole(coalesce(sum(sessions[2]), 0)), {held}
        FROM cut LEFT JOIN tails USING (slot, tenant) GROUP BY slot, tenant, {held}"""  # noqa: S608 - names of our own columns


@cache
def merge_statement(source: str, target: str, keys: Sequence[str]) -> str:
    """Return SQL with the parameters ``step`` (seconds), ``since`` and ``until`` that folds ``source`` by ``keys`` into ``target``."""
    named = ", ".join(keys)
    sums = ", ".join(f"tg_whole(sum({name})) AS {name}" for name in SUMS)
    merged = ", ".join(
        f"""{name}_buckets AS (
            SELECT id, array_agg((bucket << 40) + amount ORDER BY bucket) AS buckets FROM (
                SELECT id, packed >> 40 AS bucket, least(sum(packed & {_COUNT}), {_COUNT})::bigint AS amount
                FROM hit, unnest({name}[5:]) AS packed GROUP BY 1, 2) AS counted GROUP BY id)"""  # noqa: S608 - names of our own columns
        for name in _ALL
    )
    heads = ", ".join(
        f"""CASE WHEN sum(cardinality({name})) > 0 THEN ARRAY[tg_whole(sum({name}[1])), tg_whole(sum({name}[2])),
            min({name}[3]) FILTER (WHERE cardinality({name}) > 0), max({name}[4]) FILTER (WHERE cardinality({name}) > 0)]
            ELSE '{{}}'::bigint[] END AS {name}"""
        for name in _ALL
    )
    joins = " ".join(f"LEFT JOIN {name}_buckets USING (id)" for name in _ALL)
    columns = ", ".join([f"total.{name}" for name in ("slot", *keys, *SUMS, "kinds")])
    shapes = ", ".join(f"total.{name} || coalesce({name}_buckets.buckets, '{{}}')" for name in _ALL)
    return f"""
        WITH cut AS (
            SELECT date_bin(make_interval(secs => %(step)s), starts_at, '1970-01-01Z') AS slot, {named}, {", ".join((*SUMS, "kinds", *_ALL))} FROM {source}
            WHERE starts_at >= %(since)s AND starts_at < %(until)s),
        hit AS MATERIALIZED (SELECT dense_rank() OVER (ORDER BY slot, {named}) AS id, * FROM cut),
        total AS (SELECT id, slot, {named}, {sums}, tg_counts_sum(kinds) AS kinds, {heads} FROM hit GROUP BY id, slot, {named}),
        {merged}
        INSERT INTO {target} (starts_at, {named}, {", ".join(SUMS)}, kinds, {", ".join(_ALL)})
        SELECT {columns}, {shapes} FROM total {joins}"""  # noqa: S608 - names of our own tables and columns

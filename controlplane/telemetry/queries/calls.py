"""Figures of calls over a span of time, and their course."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from controlplane.telemetry.packed import Packed, tails_of
from controlplane.telemetry.patience import packed_rows
from controlplane.telemetry.queries.reading import rows, slugs_read, where
from controlplane.telemetry.queries.tables import COUNTS, DISTRIBUTIONS, table_of, windows_of
from controlplane.tenancy.queries import Asker
from tidegate.core.window import BUCKETS_PER_OCTAVE, quantile

_FIRST_KNOWN = """least((SELECT min(starts_at) FROM telemetry_window_10s), (SELECT min(starts_at) FROM telemetry_window_1m),
                (SELECT min(starts_at) FROM telemetry_window_1h))"""


@dataclass(frozen=True)
class Spread:
    """The shape of one metric's values in a span of time. All zero when there were none."""

    count: int = 0
    min: int = 0
    max: int = 0
    mean: float = 0.0
    p50: int = 0
    p99: int = 0

    @classmethod
    def of(cls, packed: Sequence[int] | None) -> Spread:
        """Read a packed distribution."""
        if not packed:
            return cls()
        count, total, least, greatest = packed[:4]
        return cls(count, least, greatest, total / count, quantile(packed, 0.5), quantile(packed, 0.99))


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Counts and spreads of the calls that ended from ``since`` to ``until``."""

    since: datetime
    until: datetime
    known_s: float  # of that span, how long anything has been known of at all: less on a fresh installation
    calls: int
    errors: int
    refused: int
    fallbacks: int
    retries: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    cost_nusd: int
    latency_us: Spread
    tokens: Spread
    call_cost_nusd: Spread
    queue_depth: Spread
    sessions: Spread

    @property
    def calls_per_s(self) -> float:
        return self.calls / self.known_s

    @property
    def tokens_used(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def error_rate(self) -> float | None:
        """Errors per call, 0 to 1; ``None`` without calls."""
        return self.errors / self.calls if self.calls else None

    @property
    def cache_hit_rate(self) -> float | None:
        """Cached input tokens per input token, 0 to 1; ``None`` without any."""
        return self.cached_input_tokens / self.input_tokens if self.input_tokens else None


@dataclass(frozen=True, kw_only=True)
class Point:
    """One step of a course. ``p99_us`` is ``None`` in a step without calls."""

    at: datetime
    calls: int = 0
    errors: int = 0
    refused: int = 0
    fallbacks: int = 0
    retries: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    cost_nusd: int = 0
    p99_us: int | None = None
    queue_depth: float = 0.0  # mean of the samples
    sessions: int = 0  # sum of the samples: one per instance, tenant, route and second


def _merged(column: str) -> str:
    """Return SQL that merges a column of ``hit`` into one packed distribution, in one pass over all buckets."""
    return f"""(SELECT ARRAY[tg_whole(sum({column}[1])), tg_whole(sum({column}[2])), min({column}[3]), max({column}[4])]
                FROM hit WHERE cardinality({column}) > 0 HAVING count(*) > 0)
        || ARRAY(SELECT (bucket << 40) + least(sum(amount), (1::bigint << 40) - 1)::bigint
                 FROM (SELECT packed >> 40 AS bucket, packed & ((1::bigint << 40) - 1) AS amount
                       FROM hit, unnest({column}[5:]) AS packed) AS unpacked
                 GROUP BY bucket ORDER BY bucket)"""  # noqa: S608 - a column of ours


def figures(
    asker: Asker,
    since: datetime,
    until: datetime,
    tenant: str | None = None,
    route: str | None = None,
    model: str | None = None,
) -> Figures:
    """Return the figures of the windows that start from ``since`` (included) to ``until`` (excluded)."""
    slugs = slugs_read(asker, tenant)
    clause, values = where(slugs, route=route, model=model)
    table = windows_of(slugs, since, until, route=route, model=model)
    sums = ", ".join(f"tg_whole(coalesce(sum({name}), 0))" for name in COUNTS)
    spreads = ", ".join(_merged(name) for name in DISTRIBUTIONS)
    sql = f"""WITH hit AS MATERIALIZED (
                SELECT * FROM {table} WHERE starts_at >= %s AND starts_at < %s {clause})
              SELECT {sums}, {spreads}, {_FIRST_KNOWN} FROM hit
              """  # noqa: S608 - names of ours, values as parameters
    row = rows(sql, [since, until, *values])[0]
    counts: dict[str, Any] = dict(zip(COUNTS, row, strict=False))
    shapes: dict[str, Any] = {
        name: Spread.of(packed) for name, packed in zip(DISTRIBUTIONS, row[len(COUNTS) : -1], strict=True)
    }
    return Figures(since=since, until=until, known_s=_known_s(since, until, row[-1]), **counts, **shapes)


def _known_s(since: datetime, until: datetime, first: datetime | None) -> float:
    known = max(since, first) if first is not None else since
    return max(1.0, (until - known).total_seconds())


def series(
    asker: Asker,
    since: datetime,
    until: datetime,
    step_s: int,
    tenant: str | None = None,
    route: str | None = None,
    model: str | None = None,
    category: str | None = None,
) -> list[Point]:
    """Return one point per ``step_s`` seconds from ``since`` to ``until``, empty ones included, the oldest first."""
    slugs = slugs_read(asker, tenant)
    clause, values = where(slugs, route=route, model=model, category=category)
    table = windows_of(slugs, since, until, step_s=step_s, route=route, model=model, category=category)
    sums = ", ".join(f"tg_whole(sum({name}))" for name in COUNTS)
    hit = f"FROM {table} WHERE starts_at >= %s AND starts_at < %s {clause}"
    step = timedelta(seconds=step_s)
    sql = f"""SELECT date_bin(%s, starts_at, %s) AS slot, {sums},
                     coalesce(sum(queue_depth[2])::float / nullif(sum(queue_depth[1]), 0), 0), tg_whole(coalesce(sum(sessions[2]), 0))
              {hit} GROUP BY slot"""
    tails = _tails(f"SELECT date_bin(%s, starts_at, %s), latency_us[5:] {hit}", [step, since, since, until, *values])
    found = {}
    for row in rows(sql, [step, since, since, until, *values]):
        depth, sessions = row[len(COUNTS) + 1 :]
        counts = dict(zip(COUNTS, row[1:], strict=False))
        found[row[0]] = Point(at=row[0], p99_us=tails.get(row[0]), queue_depth=depth, sessions=sessions, **counts)
    steps = max(0, -(-int((until - since).total_seconds()) // step_s))
    slots = [since + timedelta(seconds=step_s * number) for number in range(steps)]
    return [found.get(slot, Point(at=slot)) for slot in slots]


def _tails(sql: str, values: Sequence[Any]) -> dict[datetime, int]:
    """Return the p99 of each slot out of rows of packed buckets, merged here: that is quicker than in SQL."""
    buckets: dict[datetime, list[Packed]] = {}
    for slot, entries in packed_rows(sql, values):
        if entries:
            buckets.setdefault(slot, []).append(entries)
    last = {slot: tails_of(each)[-1] for slot, each in buckets.items()}
    return {
        slot: round(2.0 ** ((bucket - 0.5) / BUCKETS_PER_OCTAVE)) for slot, bucket in last.items() if bucket is not None
    }


def breakdown(
    asker: Asker, since: datetime, until: datetime, by: Literal["tenant", "route", "model"], limit: int = 200
) -> dict[str, Figures]:
    """Return figures per tenant, route or model without spreads, the dearest first, at most ``limit``."""
    slugs = slugs_read(asker, None)
    clause, values = where(slugs)
    sums = ", ".join(f"tg_whole(sum({name}))" for name in COUNTS)
    table = windows_of(slugs, since, until, by=by)
    sql = f"""SELECT {by}, {sums}, {_FIRST_KNOWN} FROM {table}
              WHERE starts_at >= %s AND starts_at < %s {clause}
              GROUP BY 1 ORDER BY sum(cost_nusd) DESC, 1 LIMIT %s"""  # noqa: S608 - names of ours
    empty: dict[str, Any] = dict.fromkeys(DISTRIBUTIONS, Spread())
    return {
        row[0]: Figures(
            since=since,
            until=until,
            known_s=_known_s(since, until, row[-1]),
            **dict(zip(COUNTS, row[1:-1], strict=True)),
            **empty,
        )
        for row in rows(sql, [since, until, *values, limit])
    }


@dataclass(frozen=True)
class Cost:
    """What the calls of one kind did cost in some span of time; ``first_at`` is when the first of them is known of."""

    tenant: str
    route: str
    model: str
    category: str
    cost_nusd: int
    first_at: datetime


def costs(since: datetime, until: datetime) -> list[Cost]:
    """Return cost per tenant, route, model and category of the whole installation: to find what a budget burns."""
    sql = f"""SELECT tenant, route, model, category, tg_whole(sum(cost_nusd)), min(starts_at) FROM {table_of(since, until)}
              WHERE starts_at >= %s AND starts_at < %s GROUP BY 1, 2, 3, 4
              ORDER BY 5 DESC LIMIT 20000"""  # noqa: S608 - names of ours
    return [Cost(*row) for row in rows(sql, [since, until])]

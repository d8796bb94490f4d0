"""Reads of what happened: figures over a span of time, their course, usage by day, and traces.

All are bounded in rows and scoped by an asker. A tenant stands for its subtree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal

from django.db import connection

from controlplane.problems import NotFound
from controlplane.telemetry.models import Span
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import Asker, slugs_seen_by
from tidegate.core.window import BUCKETS_PER_OCTAVE, quantile

Dimension = Literal["tenant", "route", "model", "category", "user"]
_DISTRIBUTIONS = ("latency_us", "tokens", "call_cost_nusd", "queue_depth", "sessions")
_COUNTS = (
    "calls", "errors", "refused", "fallbacks", "retries", "input_tokens", "cached_input_tokens", "output_tokens", "cost_nusd",
)  # fmt: skip
_FINE_FOR = timedelta(minutes=15)  # spans of time up to this are read at ten seconds, longer ones at a minute


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
    def seconds(self) -> float:
        return max(1.0, (self.until - self.since).total_seconds())

    @property
    def calls_per_s(self) -> float:
        return self.calls / self.seconds

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
    sessions: int = 0  # sum of the samples: one per instance, tenant and route at each report


@dataclass(frozen=True)
class Usage:
    """What one tenant, route, model, category or user used in some days."""

    name: str
    calls: int
    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    cost_nusd: int


def _slugs(asker: Asker, tenant: str | None) -> list[str] | None:
    """Return the slugs to read: those of ``tenant``'s subtree within the asker's scope; ``None`` for all there are."""
    seen = slugs_seen_by(asker)
    if not tenant:
        return seen
    root = Tenant.objects.filter(slug=tenant).values_list("pk", flat=True).first()
    under = list(Tenant.objects.filter(lineage__contains=[root]).values_list("slug", flat=True)) if root else [tenant]
    return under if seen is None else [slug for slug in under if slug in set(seen)]


def _scope(slugs: list[str] | None, **equal: str | None) -> tuple[str, list[Any]]:
    """Return the rest of a WHERE clause and its parameters."""
    clauses, values = [], list[Any]()
    if slugs is not None:
        clauses.append("AND tenant = ANY(%s)")
        values.append(slugs)
    for column, value in equal.items():
        if value:
            clauses.append(f"AND {column} = %s")
            values.append(value)
    return " ".join(clauses), values


def _rows(sql: str, values: Iterable[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, list(values))
        return list(cursor.fetchall())


def _table(since: datetime, until: datetime) -> str:
    return "telemetry_window_10s" if until - since <= _FINE_FOR else "telemetry_window_1m"


def _merged(column: str) -> str:
    """Return SQL that merges a column of ``hit`` into one packed distribution, in one pass over all buckets."""
    return f"""(SELECT ARRAY[sum({column}[1])::bigint, sum({column}[2])::bigint, min({column}[3]), max({column}[4])]
                FROM hit WHERE cardinality({column}) > 0 HAVING count(*) > 0)
        || ARRAY(SELECT (bucket << 40) + sum(amount)::bigint
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
    where, values = _scope(_slugs(asker, tenant), route=route, model=model)
    sums = ", ".join(f"coalesce(sum({name}), 0)::bigint" for name in _COUNTS)
    spreads = ", ".join(_merged(name) for name in _DISTRIBUTIONS)
    sql = f"""WITH hit AS MATERIALIZED (
                SELECT * FROM {_table(since, until)} WHERE starts_at >= %s AND starts_at < %s {where})
              SELECT {sums}, {spreads} FROM hit"""  # noqa: S608 - names of ours, values as parameters
    row = _rows(sql, [since, until, *values])[0]
    counts: dict[str, Any] = dict(zip(_COUNTS, row, strict=False))
    shapes: dict[str, Any] = {
        name: Spread.of(packed) for name, packed in zip(_DISTRIBUTIONS, row[len(_COUNTS) :], strict=True)
    }
    return Figures(since=since, until=until, **counts, **shapes)


def series(
    asker: Asker,
    since: datetime,
    until: datetime,
    step_s: int,
    tenant: str | None = None,
    route: str | None = None,
    model: str | None = None,
) -> list[Point]:
    """Return one point per ``step_s`` seconds from ``since`` to ``until``, empty ones included, the oldest first."""
    where, values = _scope(_slugs(asker, tenant), route=route, model=model)
    sums = ", ".join(f"sum({name})::bigint" for name in _COUNTS)
    sql = f"""
        WITH hit AS MATERIALIZED (
            SELECT date_bin(%s, starts_at, %s) AS slot, * FROM {_table(since, until)}
            WHERE starts_at >= %s AND starts_at < %s {where}),
        buckets AS (
            SELECT slot, packed >> 40 AS bucket, sum(packed & ((1::bigint << 40) - 1)) AS amount
            FROM hit, unnest(latency_us[5:]) AS packed GROUP BY 1, 2),
        ranked AS (
            SELECT slot, bucket, sum(amount) OVER (PARTITION BY slot ORDER BY bucket) AS seen,
                   sum(amount) OVER (PARTITION BY slot) AS total FROM buckets),
        tails AS (SELECT slot, min(bucket) AS bucket FROM ranked WHERE seen >= ceil(total * 0.99) GROUP BY slot)
        SELECT slot, {sums}, min(tails.bucket),
               coalesce(sum(queue_depth[2])::float / nullif(sum(queue_depth[1]), 0), 0),
               coalesce(sum(sessions[2]), 0)::bigint
        FROM hit LEFT JOIN tails USING (slot) GROUP BY slot ORDER BY slot"""  # noqa: S608 - names of ours
    found = {}
    for row in _rows(sql, [timedelta(seconds=step_s), since, since, until, *values]):
        bucket, depth, sessions = row[len(_COUNTS) + 1 :]
        tail = None if bucket is None else round(2.0 ** ((bucket - 0.5) / BUCKETS_PER_OCTAVE))
        counts = dict(zip(_COUNTS, row[1:], strict=False))
        found[row[0]] = Point(at=row[0], p99_us=tail, queue_depth=depth, sessions=sessions, **counts)
    steps = max(0, -(-int((until - since).total_seconds()) // step_s))
    slots = [since + timedelta(seconds=step_s * number) for number in range(steps)]
    return [found.get(slot, Point(at=slot)) for slot in slots]


def breakdown(
    asker: Asker, since: datetime, until: datetime, by: Literal["tenant", "route", "model"], limit: int = 200
) -> dict[str, Figures]:
    """Return figures per tenant, route or model without spreads, the dearest first, at most ``limit``."""
    where, values = _scope(_slugs(asker, None))
    sums = ", ".join(f"sum({name})::bigint" for name in _COUNTS)
    sql = f"""SELECT {by}, {sums} FROM {_table(since, until)} WHERE starts_at >= %s AND starts_at < %s {where}
              GROUP BY 1 ORDER BY sum(cost_nusd) DESC, 1 LIMIT %s"""  # noqa: S608 - names of ours
    empty: dict[str, Any] = dict.fromkeys(_DISTRIBUTIONS, Spread())
    return {
        row[0]: Figures(since=since, until=until, **dict(zip(_COUNTS, row[1:], strict=True)), **empty)
        for row in _rows(sql, [since, until, *values, limit])
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
    sql = f"""SELECT tenant, route, model, category, sum(cost_nusd)::bigint, min(starts_at) FROM {_table(since, until)}
              WHERE starts_at >= %s AND starts_at < %s GROUP BY 1, 2, 3, 4
              ORDER BY 5 DESC LIMIT 20000"""  # noqa: S608 - names of ours
    return [Cost(*row) for row in _rows(sql, [since, until])]


def usage(
    asker: Asker, by: Dimension, tenant: str | None = None, days: int = 30, today: date | None = None, limit: int = 50
) -> list[Usage]:
    """Return usage of the last ``days`` UTC days up to ``today``, the dearest first. By user, tokens are all input."""
    where, values = _scope(_slugs(asker, tenant))
    if by == "user":
        columns, table = "sum(calls), sum(tokens), 0, 0, sum(cost_nusd)", "telemetry_usage_daily_user"
    else:
        columns = "sum(calls), sum(input_tokens), sum(output_tokens), sum(cached_input_tokens), sum(cost_nusd)"
        table = "telemetry_usage_daily"
    sql = f"""SELECT "{by}", {columns} FROM {table} WHERE day > coalesce(%s, (now() AT TIME ZONE 'UTC')::date) - %s {where}
              GROUP BY 1 ORDER BY sum(cost_nusd) DESC, 1 LIMIT %s"""  # noqa: S608 - names of ours
    return [Usage(row[0], *map(int, row[1:])) for row in _rows(sql, [today, days, *values, limit])]


@dataclass(frozen=True)
class DayCost:
    """Cost and calls of one UTC day under one name."""

    day: date
    name: str
    calls: int
    cost_nusd: int


def daily_costs(
    asker: Asker,
    by: Literal["tenant", "route", "model", "category"],
    today: date,
    days: int = 30,
    tenant: str | None = None,
) -> list[DayCost]:
    """Return cost per day and name, the oldest day first; names beyond the dearest seven are put under ``(others)``."""
    where, values = _scope(_slugs(asker, tenant))
    sql = f"""
        WITH hit AS (SELECT day, "{by}" AS name, calls, cost_nusd FROM telemetry_usage_daily
                     WHERE day > %s::date - %s AND day <= %s {where}),
        top AS (SELECT name FROM hit GROUP BY name ORDER BY sum(cost_nusd) DESC LIMIT 7)
        SELECT day, CASE WHEN name IN (SELECT name FROM top) THEN name ELSE '(others)' END,
               sum(calls)::bigint, sum(cost_nusd)::bigint
        FROM hit GROUP BY 1, 2 ORDER BY 1, 2"""  # noqa: S608 - names of ours
    return [DayCost(*row) for row in _rows(sql, [today, days, today, *values])]


@dataclass(frozen=True)
class TraceFilter:
    """What traces to list. ``status`` is ``""``, ``"ok"`` or ``"error"``; ``text`` is sought in names and services."""

    tenant: str = ""
    route: str = ""
    model: str = ""
    status: str = ""
    text: str = ""
    trace_id: str = ""


@dataclass(frozen=True)
class Trace:
    """One line of the list: the root span, and sums over its spans."""

    trace_id: str
    starts_at: datetime
    duration_us: int
    tenant: str
    service: str
    name: str
    route: str
    model: str
    spans: int
    errors: int
    tokens: int
    cost_nusd: int

    @property
    def cursor(self) -> str:
        """Where the next page goes on."""
        return f"{self.starts_at.isoformat()}~{self.trace_id}"


def _trace_clauses(asker: Asker, wanted: TraceFilter, cursor: str) -> tuple[str, list[Any]]:
    where, values = _scope(_slugs(asker, wanted.tenant or None))
    inside = "AND EXISTS (SELECT 1 FROM telemetry_span AS c WHERE c.trace_id = r.trace_id AND {})"
    for column, value in (("route", wanted.route), ("model", wanted.model)):
        if value:
            where += inside.format(f"c.{column} = %s")
            values.append(value)
    if wanted.status:
        where += inside.format("c.status = 2") if wanted.status == "error" else " AND r.status <> 2"
    if wanted.text:
        where += " AND (r.name ILIKE %s OR r.service ILIKE %s)"
        like = "%" + wanted.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        values += [like, like]
    if wanted.trace_id:
        where += " AND r.trace_id = %s"
        values.append(wanted.trace_id.strip().lower())
    at, _, trace_id = cursor.partition("~")
    if trace_id:
        where += " AND (r.starts_at, r.trace_id) < (%s::timestamptz, %s)"
        values += [at, trace_id]
    return where, values


def traces_seen_by(
    asker: Asker, wanted: TraceFilter, since: datetime, cursor: str = "", limit: int = 50
) -> list[Trace]:
    """Return traces by their root spans since ``since``, the newest first; ``cursor`` is that of the last one shown.

    ``ValueError`` for a cursor that is none.
    """
    if cursor:
        datetime.fromisoformat(cursor.partition("~")[0])
    where, values = _trace_clauses(asker, wanted, cursor)
    sql = f"""
        WITH page AS (SELECT * FROM telemetry_span AS r WHERE parent_span_id = '' AND starts_at >= %s {where}
                      ORDER BY starts_at DESC, trace_id DESC LIMIT %s)
        SELECT r.trace_id, r.starts_at, r.duration_us, r.tenant, r.service, r.name, sums.*
        FROM page AS r CROSS JOIN LATERAL (
            SELECT coalesce(max(nullif(c.route, '')), ''), coalesce(max(nullif(c.model, '')), ''),
                   count(*), count(*) FILTER (WHERE c.status = 2),
                   coalesce(sum(c.input_tokens), 0)::bigint + coalesce(sum(c.output_tokens), 0)::bigint,
                   coalesce(sum(c.cost_nusd), 0)::bigint
            FROM telemetry_span AS c WHERE c.trace_id = r.trace_id) AS sums
        ORDER BY r.starts_at DESC, r.trace_id DESC"""  # noqa: S608 - clauses of ours, values as parameters
    return [Trace(*row) for row in _rows(sql, [since, *values, limit])]


def trace_seen_by(asker: Asker, trace_id: str, limit: int = 2000) -> list[Span]:
    """Return the spans of one trace in order of start, at most ``limit``; ``NotFound`` for none that the asker may see."""
    spans = Span.objects.filter(trace_id=trace_id.strip().lower())
    slugs = slugs_seen_by(asker)
    if slugs is not None:
        spans = spans.filter(tenant__in=slugs)
    found = list(spans.order_by("starts_at", "span_id")[:limit])
    if not found:
        raise NotFound(f"There is no trace {trace_id!r} that you may see. Spans are kept for some days only.")
    return found

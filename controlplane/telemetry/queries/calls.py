"""Figures of calls over a span of time, and their course."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from controlplane.telemetry.patience import packed_rows
from controlplane.telemetry.queries.lines import Merged
from controlplane.telemetry.queries.reading import rows, slugs_read, where
from controlplane.telemetry.resolutions import (
    ALL_IN_ALL,
    APART,
    BY_TENANT,
    EVERYBODY,
    FINE,
    NOW,
    TOGETHER,
    Piece,
    Rung,
    pieces,
)
from controlplane.tenancy.queries import Asker
from tidegate.core.window import BUCKETS_PER_OCTAVE, quantile

_DISTRIBUTIONS = ("latency_us", "tokens", "call_cost_nusd", "queue_depth", "sessions")
_COUNTS = (
    "calls", "errors", "refused", "fallbacks", "retries", "input_tokens", "cached_input_tokens", "output_tokens", "cost_nusd",
)  # fmt: skip
_FINE_FOR = timedelta(minutes=15)  # spans of time up to this are read at ten seconds
_MINUTES_FOR = timedelta(hours=26)
_LAG = timedelta(minutes=5)  # what is further behind than that is not read
_NAMES = ("tenant", "route", "model", "category")
_COLUMNS = ", ".join(("starts_at", *_NAMES, *_COUNTS, "kinds", *_DISTRIBUTIONS))
# Hours as far as they are folded, minutes since.
BY_HOURS = f"""(SELECT {_COLUMNS} FROM telemetry_window_1h
              WHERE starts_at < (SELECT until FROM telemetry_fold WHERE kind = 'windows')
              UNION ALL SELECT {_COLUMNS} FROM telemetry_window_1m
              WHERE starts_at >= coalesce((SELECT until FROM telemetry_fold WHERE kind = 'windows'), '-infinity')) AS windows"""  # noqa: S608


_LENGTHS = {rung.table: rung.step_s for rung in ALL_IN_ALL}
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


def table_of(
    since: datetime,
    until: datetime,
    *,
    step_s: int | None = None,
    together: bool = False,
    all_in_all: bool = False,
    apart: bool = False,
    told: bool = False,
) -> str:
    """Return what to read windows of a span of time from: few long ones inside, short ones at its edges.

    With ``step_s`` they lie within steps from ``since`` on. ``together``: tenants and categories need not be told apart; ``all_in_all``:
    nor routes and models; ``apart``: tenants only. ``told``: with ``latency_told``, where windows are one row and as long as steps; of ``queue_depth`` only its head counts then.
    """
    marks = dict(rows("SELECT kind, until FROM telemetry_fold", [])) | {NOW: until}
    fine = until - since <= _FINE_FOR
    rungs: Sequence[Rung] = BY_TENANT[-1:] if fine else BY_TENANT[:-1]
    if apart:
        rungs = FINE if fine else APART
    if (together or all_in_all) and _caught_up(marks, until):
        rungs = TOGETHER[-2:] if fine else ALL_IN_ALL if all_in_all else TOGETHER
    parts = pieces(since, until, rungs, marks, step_s=step_s, finest_s=10)
    return (
        "(" + " UNION ALL ".join(_part(part, step_s if told else None, apart=apart) for part in parts) + ") AS windows"
    )


def _caught_up(marks: dict[str, datetime], until: datetime) -> bool:
    """Return whether what all tenants come to is complete but for the last minutes."""
    return all(
        mark in marks and until - marks[mark] < lag
        for mark, lag in (("total_10s", _LAG), ("total_1m", _LAG), ("total_15m", 6 * _LAG), ("total_6h", _MINUTES_FOR))
    )


def _part(piece: Piece, told_s: int | None, *, apart: bool) -> str:
    columns, clause = _COLUMNS, ""
    if "_total_" in piece.table:
        columns = columns.replace("tenant", "'' AS tenant").replace("category", "'' AS category")
    if whole := "_tenant_" in piece.table or "_all_" in piece.table:
        clause = f"tenant {'<>' if apart else '='} '{EVERYBODY}' AND "
        names = _NAMES[1:] if apart else _NAMES
        columns = ", ".join(f"'' AS {name}" if name in names else name for name in columns.split(", "))
    if told_s:
        held = whole and _LENGTHS[piece.table] == told_s
        columns += f", {'latency_us_told' if held else 'NULL::bigint[]'} AS latency_told"
        columns = columns.replace("queue_depth", "queue_depth_told AS queue_depth") if held else columns
    return (
        f"SELECT {columns} FROM {piece.table} "  # noqa: S608 - names of ours, times that we write
        f"WHERE {clause}starts_at >= '{piece.since.isoformat()}' AND starts_at < '{piece.until.isoformat()}'"
    )


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
    table = table_of(since, until, together=slugs is None, all_in_all=slugs is None and not (route or model))
    sums = ", ".join(f"tg_whole(coalesce(sum({name}), 0))" for name in _COUNTS)
    spreads = ", ".join(_merged(name) for name in _DISTRIBUTIONS)
    sql = f"""WITH hit AS MATERIALIZED (
                SELECT * FROM {table} WHERE starts_at >= %s AND starts_at < %s {clause})
              SELECT {sums}, {spreads}, {_FIRST_KNOWN} FROM hit
              """  # noqa: S608 - names of ours, values as parameters
    row = rows(sql, [since, until, *values])[0]
    counts: dict[str, Any] = dict(zip(_COUNTS, row, strict=False))
    shapes: dict[str, Any] = {
        name: Spread.of(packed) for name, packed in zip(_DISTRIBUTIONS, row[len(_COUNTS) : -1], strict=True)
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
    together = slugs is None and not category
    table = table_of(since, until, step_s=step_s, together=together, all_in_all=together and not (route or model))
    sums = ", ".join(f"tg_whole(sum({name}))" for name in _COUNTS)
    hit = f"FROM {table} WHERE starts_at >= %s AND starts_at < %s {clause}"
    step = timedelta(seconds=step_s)
    sql = f"""SELECT date_bin(%s, starts_at, %s) AS slot, {sums},
                     coalesce(sum(queue_depth[2])::float / nullif(sum(queue_depth[1]), 0), 0), tg_whole(coalesce(sum(sessions[2]), 0))
              {hit} GROUP BY slot"""
    tails = _tails(f"SELECT date_bin(%s, starts_at, %s), latency_us[5:] {hit}", [step, since, since, until, *values])
    found = {}
    for row in rows(sql, [step, since, since, until, *values]):
        depth, sessions = row[len(_COUNTS) + 1 :]
        counts = dict(zip(_COUNTS, row[1:], strict=False))
        found[row[0]] = Point(at=row[0], p99_us=tails.get(row[0]), queue_depth=depth, sessions=sessions, **counts)
    steps = max(0, -(-int((until - since).total_seconds()) // step_s))
    slots = [since + timedelta(seconds=step_s * number) for number in range(steps)]
    return [found.get(slot, Point(at=slot)) for slot in slots]


def _tails(sql: str, values: Sequence[Any]) -> dict[datetime, int]:
    """Return the p99 of each slot out of rows of packed buckets, merged here: that is quicker than in SQL."""
    merged: dict[datetime, Merged] = {}
    for slot, entries in packed_rows(sql, values):
        if entries:
            merged.setdefault(slot, Merged()).spread(entries)
    last = {slot: each.tails()[-1] for slot, each in merged.items()}
    return {
        slot: round(2.0 ** ((bucket - 0.5) / BUCKETS_PER_OCTAVE)) for slot, bucket in last.items() if bucket is not None
    }


def breakdown(
    asker: Asker, since: datetime, until: datetime, by: Literal["tenant", "route", "model"], limit: int = 200
) -> dict[str, Figures]:
    """Return figures per tenant, route or model without spreads, the dearest first, at most ``limit``."""
    slugs = slugs_read(asker, None)
    clause, values = where(slugs)
    sums = ", ".join(f"tg_whole(sum({name}))" for name in _COUNTS)
    table = table_of(since, until, together=slugs is None and by != "tenant")
    sql = f"""SELECT {by}, {sums}, {_FIRST_KNOWN} FROM {table}
              WHERE starts_at >= %s AND starts_at < %s {clause}
              GROUP BY 1 ORDER BY sum(cost_nusd) DESC, 1 LIMIT %s"""  # noqa: S608 - names of ours
    empty: dict[str, Any] = dict.fromkeys(_DISTRIBUTIONS, Spread())
    return {
        row[0]: Figures(
            since=since,
            until=until,
            known_s=_known_s(since, until, row[-1]),
            **dict(zip(_COUNTS, row[1:-1], strict=True)),
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

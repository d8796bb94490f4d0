"""Any metric over time by one of its dimensions: which rows it is counted from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from controlplane.telemetry.patience import patient_rows
from controlplane.telemetry.queries import whole
from controlplane.telemetry.queries.lines import MOST_LINES, Course, Line, Source, course_of
from controlplane.telemetry.queries.metrics import OTLP_DIMENSIONS, Metric
from controlplane.telemetry.queries.reading import rows, slugs_read, where
from controlplane.telemetry.queries.tables import windows_of
from controlplane.telemetry.resolutions import floor
from controlplane.tenancy.queries import Asker

Statement = tuple[str, list[Any]]
MOST_EXEMPLARS = 60
_LONG = timedelta(hours=26)
_QUARTER_S = 900
MOST_PLACES = 64
MOST_SAMPLES = (1 << 40) - 1  # in one packed bucket


def _points(asked: Question, of: Statement, *, distributed: bool) -> Statement:
    """Return SQL for a table of the points of the series ``of``: hours for long ranges, quarters of distributions where they lie within
    steps, as far as they are folded; points since."""
    if asked.grain == "hours" or (asked.until - asked.since > _LONG and not asked.grain):
        folded, kind = "telemetry_point_1h", "points"
    elif distributed and asked.step_s % _QUARTER_S == 0 and floor(asked.since, _QUARTER_S) == asked.since:
        folded, kind = "telemetry_point_15m", "quarters"
    else:
        return f"(SELECT * FROM telemetry_point WHERE series_id IN ({of[0]}))", of[1]  # noqa: S608 - names of ours
    mark = f"coalesce((SELECT until FROM telemetry_fold WHERE kind = '{kind}'), '-infinity')"  # noqa: S608 - names of ours
    sql = f"""(SELECT * FROM {folded} WHERE at < {mark} AND series_id IN ({of[0]}) UNION ALL
               SELECT * FROM telemetry_point WHERE at >= {mark} AND series_id IN ({of[0]}))"""  # noqa: S608 - names of ours
    return sql, [*of[1], *of[1]]


def _series(metric: Metric, clause: str, values: Sequence[Any]) -> Statement:
    return f"SELECT id FROM telemetry_series WHERE name = %s {clause}", [metric.name, *values]  # noqa: S608 - as above


@dataclass(frozen=True)
class Question:
    """What is asked: from ``since`` to ``until`` in steps, by one dimension or as one line, where the rest is as named.

    ``most`` lines are told. ``grain``: ``fine`` tells steps shorter than an hour apart in long ranges, too; ``hours`` reads whole hours,
    which are kept longest, in short ones.
    """

    since: datetime
    until: datetime
    step_s: int
    by: str = ""
    tenant: str = ""
    route: str = ""
    model: str = ""
    release: str = ""
    most: int = MOST_LINES
    grain: str = ""

    @property
    def of_release(self) -> bool:
        return self.by == "release" or bool(self.release)


@dataclass(frozen=True)
class Exemplar:
    """One value and the trace that it was seen in, in the unit of its metric's source."""

    at: datetime
    value: float
    trace_id: str
    span_id: str


def course_seen_by(asker: Asker, metric: Metric, asked: Question, names: Sequence[str] | None = None) -> Course:
    """Return the heaviest lines of a metric, or those of ``names``.

    By release, the seven are counted from spans: of what was traced. What SDKs count of every call of a release is in
    ``controlplane.rollouts``.
    """
    slugs = slugs_read(asker, asked.tenant or None)
    count = 0
    if metric.kind:
        if metric.spread and asked.by in OTLP_DIMENSIONS and names is None:  # buckets are read of the heaviest only
            names, count = _heaviest_sent(slugs, metric, asked)
        source = _of_points(slugs, metric, asked, names)
    elif asked.of_release:
        source = _of_spans(slugs, metric, asked)
    else:
        if slugs is None and asked.by == "tenant":  # of so many only the heaviest are read
            slugs, count = (list(names), 0) if names is not None else _heaviest_tenants(metric, asked)
        source = _of_windows(slugs, metric, asked)
    course = course_of(source, asked.since, asked.until, asked.step_s, names, asked.most)
    course = replace(course, names=max(count, course.names))
    return replace(course, lines=[_levelled(line) for line in course.lines]) if "level" in metric.stats else course


def _heaviest_tenants(metric: Metric, asked: Question) -> tuple[list[str], int]:
    """Return the tenants that weigh most, and how many there are. Only sums are read, of windows as long as there are."""
    if not (asked.route or asked.model):
        found = patient_rows(*whole.heaviest(metric, asked.since, asked.until, asked.most))
        return [row[0] for row in found], found[0][1] if found else 0
    clause, values = where(None, route=asked.route, model=asked.model)
    weight = f"coalesce({metric.column}[2], 0)" if metric.column else metric.amount
    sql = f"""SELECT tenant, count(*) OVER () FROM {windows_of(None, asked.since, asked.until, by="tenant", route=asked.route, model=asked.model)}
              WHERE starts_at >= %s AND starts_at < %s {clause} GROUP BY tenant ORDER BY sum({weight}) DESC, tenant
              LIMIT {asked.most}"""  # noqa: S608 - names of ours
    found = patient_rows(sql, [asked.since, asked.until, *values])
    return [row[0] for row in found], found[0][1] if found else 0


def _heaviest_sent(slugs: list[str] | None, metric: Metric, asked: Question) -> tuple[list[str], int]:
    """Return the names of a dimension whose series of a histogram have most values, and how many there are."""
    clause, values = where(slugs, route=asked.route, model=asked.model, release=asked.release)
    points, of_series = _points(asked, _series(metric, clause, values), distributed=True)
    sql = f"""SELECT series.{asked.by} AS name, count(*) OVER () FROM telemetry_series AS series
              JOIN {points} AS point ON point.series_id = series.id WHERE point.at >= %s AND point.at < %s
              GROUP BY 1 ORDER BY sum(point.samples) DESC, 1 LIMIT {asked.most}"""  # noqa: S608 - names of ours
    found = patient_rows(sql, [*of_series, asked.since, asked.until])
    return [row[0] for row in found], found[0][1] if found else 0


def _levelled(line: Line) -> Line:
    """A level over a whole range is the mean of its steps: it does not add up."""
    known = [step.amount for step in line.steps if step is not None]
    return replace(line, all=line.all._replace(amount=sum(known) / len(known))) if known else line


def _select(name: str, at: str, **columns: str) -> str:
    """Return the head of a source: all its columns, those that are not given empty."""
    every = {
        "amount": "0", "part": "0", "whole": "0", "samples": "0", "total": "0", "least": "NULL::float8", "most": "NULL::float8",
        "weight": "1", "entries": "NULL::bigint[]", "bounds": "'{}'::float8[]", "tails": "NULL::bigint[]", **columns,
    }  # fmt: skip
    return f"SELECT {name} AS name, {at} AS at, " + ", ".join(f"{sql} AS {label}" for label, sql in every.items())


def _of_windows(slugs: list[str] | None, metric: Metric, asked: Question) -> Source:
    if not (asked.route or asked.model) and whole.holds(asked.by, slugs, asked.step_s):
        told = [
            whole.statement(_select, metric, asked.by, slugs, asked.since, asked.until, step_s)
            for step_s in (asked.step_s, None)
        ]
        return Source(*told[0], metric.spread, packed=metric.spread, whole=told[1])
    clause, values = where(slugs, route=asked.route, model=asked.model)
    by = asked.by if asked.by in ("tenant", "route", "model") else ""
    columns = {"amount": metric.amount, "part": metric.part, "whole": metric.whole, "weight": metric.amount}
    if metric.column:
        held = {
            label: f"{metric.column}[{place}]" for place, label in enumerate(("samples", "total", "least", "most"), 1)
        }
        columns |= held | {"weight": f"coalesce({metric.column}[2], 0)"}
    if metric.spread:
        columns["entries"] = f"{metric.column}[5:]"
    head = _select(by or "''", "starts_at", **columns)
    table = windows_of(
        slugs, asked.since, asked.until, by=by, route=asked.route, model=asked.model, step_s=asked.step_s
    )
    sql = f"{head} FROM {table} WHERE starts_at >= %s AND starts_at < %s {clause}"
    return Source(sql, [asked.since, asked.until, *values], metric.spread, packed=metric.spread)


_BUCKET_OF = (
    "ARRAY[((CASE WHEN {0} > 1 THEN ceil(64 * ln({0}::float8) / ln(2.0::float8)) ELSE 0 END)::bigint << 40) + 1]"
)


def _of_spans(slugs: list[str] | None, metric: Metric, asked: Question) -> Source:
    """One row per span, the SDK's where it counts too; one per step and name for sessions."""
    clause, values = where(slugs, route=asked.route, model=asked.model, release=asked.release)
    name = asked.by if asked.by in ("tenant", "route", "model", "release") else "''"
    hit = f"FROM telemetry_span WHERE starts_at >= %s AND starts_at < %s AND release <> '' {clause}"
    if metric.name == "active_sessions":
        sql = f"""{_select(name, "date_bin(%s, starts_at, %s)", total="count(DISTINCT session) * %s::float8", weight="count(*)")}
                  {hit} AND session <> '' GROUP BY 1, 2"""
        step = timedelta(seconds=asked.step_s)
        return Source(sql, [step, asked.since, asked.step_s, asked.since, asked.until, *values], spread=False)
    tokens = "coalesce(input_tokens, 0) + coalesce(output_tokens, 0)"
    measure = {"latency_us": "duration_us", "tokens": tokens, "call_cost_nusd": "coalesce(cost_nusd, 0)"}.get(
        metric.column, "0"
    )
    columns = {"amount": measure, "samples": "1", "total": measure, "least": measure, "most": measure, "weight": "1"}
    if metric.name == "error_rate":
        columns |= {"part": "(status = 2)::int", "whole": "1"}
    if metric.name == "cache_hit_rate":
        columns |= {"part": "coalesce(cached_tokens, 0)", "whole": "coalesce(input_tokens, 0)"}
    if metric.spread:
        columns["entries"] = _BUCKET_OF.format(f"({measure})")
    sql = f"{_select(name, 'starts_at', **columns)} {hit} AND usage_by > 0"
    return Source(sql, [asked.since, asked.until, *values], metric.spread)


def _of_points(slugs: list[str] | None, metric: Metric, asked: Question, names: Sequence[str] | None) -> Source:
    """The points of all series of one name. Levels of several series are added up, each as its mean over a step."""
    clause, values = where(slugs, route=asked.route, model=asked.model, release=asked.release)
    name = f"series.{asked.by}" if asked.by in OTLP_DIMENSIONS else "''"
    distributed = metric.spread or metric.kind == "summary"
    columns = {
        "amount": "point.samples" if distributed else "point.sum",
        "samples": "point.samples",
        "total": "point.sum",
        "least": "point.min" if distributed else "point.sum",
        "most": "point.max" if distributed else "point.sum",
        "weight": "point.samples" if distributed else "abs(point.sum)",
    }
    ahead: list[Any] = []
    if "level" in metric.stats:
        columns["amount"] = (
            "avg(point.sum / point.samples) OVER (PARTITION BY series.id, date_bin(%s, point.at, %s))"
            " / count(*) OVER (PARTITION BY series.id, date_bin(%s, point.at, %s))"
        )
        ahead = [timedelta(seconds=asked.step_s), asked.since] * 2
    if metric.spread:
        columns |= {"entries": "point.buckets", "bounds": "series.bounds"}
    if names is not None and asked.by in OTLP_DIMENSIONS:
        clause, values = f"{clause} AND {asked.by} = ANY(%s)", [*values, list(names)]
    table, of_series = _points(asked, _series(metric, clause, values), distributed=distributed)
    sql = f"""{_select(name, "point.at", **columns)} FROM telemetry_series AS series JOIN {table} AS point ON point.series_id = series.id
              WHERE point.at >= %s AND point.at < %s"""
    places = _places(clause, [metric.name, *values]) if metric.spread else 0
    values = [*of_series, asked.since, asked.until]
    if not places:
        return Source(sql, [*ahead, *values], metric.spread)
    chosen = list(names) if names is not None else None
    return Source(
        _by_bounds(sql, places, asked.most, named=chosen is not None),
        [*values, *([chosen] if chosen is not None else []), timedelta(seconds=asked.step_s), asked.since],
        packed=True,
    )


def _places(clause: str, values: Sequence[Any]) -> int:
    """Return how many buckets the explicit histograms of a name have at most; nought when others have it too, or they are too many."""
    sql = f"SELECT min(cardinality(bounds)), max(cardinality(bounds)) FROM telemetry_series WHERE name = %s {clause}"  # noqa: S608 - as above
    ((least, most),) = rows(sql, values)
    return most + 1 if least and most < MOST_PLACES else 0


def _by_bounds(sql: str, places: int, most: int, *, named: bool) -> str:
    """Add up rows of explicit histograms of equal bounds within a step, place by place; of names that are not drawn only what they weigh.

    A last bucket that has values ends at the greatest of them, so that only rows that agree on it are one. Sums as floats are exact up
    to 2^53, and much quicker. Parameters: those of ``sql``, the names when they are given, the step, the start.
    """
    added = ", ".join(
        f"least(coalesce(sum(entries[{place}]::float8), 0), {MOST_SAMPLES})::bigint" for place in range(1, places + 1)
    )
    sums = {label: f"sum({label})" for label in ("amount", "total", "weight")} | {"samples": "tg_whole(sum(samples))"}
    extremes = {"least": "min(least)", "most": "max(most)"}
    entries = f"(ARRAY[{added}])[1 : cardinality(bounds) + 1]"
    drawn = _select("name", "date_bin(%s, at, %s)", **sums, **extremes, bounds="bounds", entries=entries)
    last = "entries[cardinality(bounds) + 1] > 0"
    top = f"SELECT name FROM point GROUP BY name ORDER BY sum(weight) DESC, name LIMIT {most}"  # noqa: S608 - names of ours
    top = "SELECT unnest(%s::text[]) AS name" if named else top
    return f"""
        WITH point AS MATERIALIZED ({sql}), top AS MATERIALIZED ({top})
        {drawn} FROM point WHERE name IN (SELECT name FROM top) GROUP BY 1, 2, bounds, {last}, CASE WHEN {last} THEN most END
        UNION ALL {_select("name", "min(at)", **sums)} FROM point WHERE name NOT IN (SELECT name FROM top) GROUP BY 1"""  # noqa: S608


def exemplars_seen_by(asker: Asker, metric: Metric, asked: Question) -> list[Exemplar]:
    """Return values with their traces: those that were sent with points, or of the seven the worst spans of each step."""
    if metric.kind:
        return _sent_exemplars(asker, metric, asked)
    column = {
        "latency_us": "duration_us",
        "call_cost_nusd": "cost_nusd",
        "tokens": "coalesce(input_tokens, 0) + coalesce(output_tokens, 0)",
    }
    measure = column.get(metric.column, "duration_us" if metric.name == "error_rate" else "")
    return _spans_worst_by(asker, metric, asked, measure) if measure else []


def _sent_exemplars(asker: Asker, metric: Metric, asked: Question) -> list[Exemplar]:
    slugs = slugs_read(asker, asked.tenant or None)
    clause, values = where(slugs, route=asked.route, model=asked.model, release=asked.release)
    sql = f"""SELECT at, each ->> 'value', each ->> 'trace_id', each ->> 'span_id' FROM (
                  SELECT point.at, point.exemplars FROM telemetry_point AS point
                  WHERE point.series_id IN (SELECT id FROM telemetry_series WHERE name = %s {clause})
                  AND point.at >= %s AND point.at < %s AND point.exemplars IS NOT NULL
                  ORDER BY point.at DESC LIMIT %s) AS newest, jsonb_array_elements(exemplars) AS each LIMIT %s"""  # noqa: S608
    found = patient_rows(sql, [metric.name, *values, asked.since, asked.until, MOST_EXEMPLARS * 3, MOST_EXEMPLARS])
    return [Exemplar(at, float(value), trace_id, span_id) for at, value, trace_id, span_id in found]


def _spans_worst_by(asker: Asker, metric: Metric, asked: Question, measure: str) -> list[Exemplar]:
    """Look at some traces of every step, so that a long range costs no more than a short one; failed spans have an index."""
    slugs = slugs_read(asker, asked.tenant or None)
    clause, values = where(slugs, route=asked.route, model=asked.model, release=asked.release)
    within = "starts_at >= %s + slot * %s AND starts_at < %s + (slot + 1) * %s"
    if metric.name == "error_rate":
        some = f"SELECT span_id, starts_at, trace_id, duration_us FROM telemetry_span WHERE {within} AND status = 2 {clause} LIMIT 1"  # noqa: S608
        scoped = list[Any]()
    else:
        scope, scoped = where(slugs)
        some = f"""SELECT span_id, starts_at, trace_id, {measure} FROM (
                       SELECT trace_id AS of FROM telemetry_span WHERE {within} AND parent_span_id = '' {scope} LIMIT 25) AS root
                   JOIN telemetry_span ON trace_id = root.of WHERE usage_by > 0 {clause} ORDER BY 4 DESC NULLS LAST LIMIT 1"""  # noqa: S608
    sql = f"""SELECT starts_at, value::float8, trace_id, span_id FROM generate_series(0, %s) AS slot
              CROSS JOIN LATERAL ({some}) AS worst (span_id, starts_at, trace_id, value) WHERE value IS NOT NULL"""  # noqa: S608
    span = asked.until - asked.since
    slots = min(MOST_EXEMPLARS, max(1, int(span.total_seconds() // asked.step_s)))
    width = span / slots
    found = patient_rows(sql, [slots - 1, asked.since, width, asked.since, width, *scoped, *values])
    return [Exemplar(*row) for row in found]

"""What exports read: statements over spans, windows of calls and points, scoped by an asker. Nothing here runs them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from controlplane.problems import Invalid
from controlplane.telemetry.binary import SPAN_COLUMNS
from controlplane.telemetry.exporting import Statement
from controlplane.telemetry.postgres import first_spans
from controlplane.telemetry.queries.explore import Question
from controlplane.telemetry.queries.reading import slugs_read, where
from controlplane.telemetry.schemas import DISTRIBUTIONS, SUMS
from controlplane.telemetry.store import TraceFilter, Wanted
from controlplane.tenancy.queries import Asker

MOST = timedelta(days=400)
_BESIDE = timedelta(hours=1)  # spans of a trace begin at most so long before or after its first one
RESOLUTIONS = {"10s": "telemetry_window_10s", "1m": "telemetry_window_1m", "1h": "telemetry_window_1h"}
_KEYS = ("starts_at", "tenant", "route", "model", "category")
_HEADS = ("count", "sum", "min", "max")


def _checked(since: datetime, until: datetime) -> None:
    if not timedelta() < until - since <= MOST:
        raise Invalid("That time can't be exported.", errors={"until": "must be after since, by 400 days at most"})


def spans_seen_by(asker: Asker, wanted: TraceFilter, since: datetime, until: datetime) -> Statement:
    """Return what reads the spans of the traces that fit a filter, all columns, in no order. Without one: all that began then."""
    _checked(since, until)
    slugs = slugs_read(asker, wanted.tenant or None)
    columns = ", ".join(f'span."{name}"' for name in SPAN_COLUMNS)
    clause, values = where(slugs)
    clause = clause.replace("tenant", "span.tenant")
    if replace(wanted, tenant="") == TraceFilter():
        sql = f"SELECT {columns} FROM telemetry_span AS span WHERE starts_at >= %s AND starts_at < %s {clause}"  # noqa: S608
        return Statement(sql, [since, until, *values])
    first, named = first_spans(Wanted(wanted, slugs, since, until))
    sql = f"""SELECT {columns} FROM telemetry_span AS span
              WHERE span.starts_at >= %s AND span.starts_at < %s {clause}
              AND span.trace_id IN (SELECT trace_id FROM ({first}) AS first)"""  # noqa: S608 - names of ours
    return Statement(sql, [since - _BESIDE, until + _BESIDE, *values, *named])


def windows_seen_by(asker: Asker, asked: Question, resolution: str) -> Statement:
    """Return what reads windows of calls, with count, sum, extremes and three percentiles of every distribution."""
    _checked(asked.since, asked.until)
    if resolution not in RESOLUTIONS:
        raise Invalid("There are no such windows.", errors={"resolution": f"must be one of {', '.join(RESOLUTIONS)}"})
    shapes = [
        *(f"{name}[{place}] AS {name}_{head}" for name in (*DISTRIBUTIONS, "sessions") for place, head in enumerate(_HEADS, 1)),
        *(f"tg_dist_quantile({name}, {share}) AS {name}_{label}" for name in DISTRIBUTIONS
          for label, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))),
    ]  # fmt: skip
    clause, values = where(slugs_read(asker, asked.tenant or None), route=asked.route, model=asked.model)
    sql = f"""SELECT {", ".join((*_KEYS, *SUMS, "kinds", *shapes))} FROM {RESOLUTIONS[resolution]}
              WHERE starts_at >= %s AND starts_at < %s {clause}"""  # noqa: S608 - names of ours
    return Statement(sql, [asked.since, asked.until, *values])


def points_seen_by(asker: Asker, asked: Question, name: str) -> Statement:
    """Return what reads the points of one OTLP metric, or of all under ``*``, each with what its series is known by."""
    _checked(asked.since, asked.until)
    clause, values = where(
        slugs_read(asker, asked.tenant or None), route=asked.route, model=asked.model, release=asked.release
    )
    named: list[Any] = [] if name == "*" else [name]
    sql = f"""SELECT point.at, series.name, series.unit, series.kind, series.monotonic, series.tenant, series.service,
                     series.instance, series.route, series.model, series.release, series.attributes, point.samples, point.sum,
                     point.min, point.max, series.bounds, point.buckets, point.exemplars
              FROM telemetry_point AS point JOIN telemetry_series AS series ON series.id = point.series_id
              WHERE point.at >= %s AND point.at < %s AND series.id IN (
                  SELECT id FROM telemetry_series WHERE {"true" if name == "*" else "name = %s"} {clause})"""  # noqa: S608
    return Statement(sql, [asked.since, asked.until, *named, *values])

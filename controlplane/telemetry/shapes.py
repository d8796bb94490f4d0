"""What traces are like, in words: their routes, models and releases, and whose spans failed. A shape is a set of words.

``telemetry_trace_head`` has the shape of every trace by its first span, with the name, service and duration of that, ``telemetry_shape_15m`` and ``_6h`` how many traces had which,
``telemetry_trace_shape`` the words of those of a day. They answer filters that name nothing else, in any combination.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from controlplane.telemetry.resolutions import Rung, floor
from controlplane.telemetry.spansums import FINE_S, RAW
from controlplane.telemetry.store import TraceFilter, Wanted

MARK = "shapes"
HEADS = "telemetry_trace_head"
STEPS = ((900, "15m"), (21600, "6h"))
RUNGS = (*(Rung(step_s, f"telemetry_shape_{name}", MARK) for step_s, name in reversed(STEPS)), Rung(FINE_S, RAW))
COLUMNS = ("route", "model", "release")  # of spans, that words are made of: "route=chat"
OF_HEADS = ("text", "service", "min_ms", "max_ms")  # of a filter, that first spans answer by themselves
# The word for a trace of which a span failed: "failed=acme" when it is one of that tenant, "failed=" and this when of the first span's.
FAILED = "failed"
HERE = "(here)"  # no slug of a tenant
_DAY_S = 86400
Statement = tuple[str, list[Any]]


def answers(wanted: TraceFilter) -> bool:
    """Return whether shapes tell of a filter all that it names."""
    return counts(wanted) and not by_heads(wanted)


def counts(wanted: TraceFilter) -> bool:
    """Return whether heads, with their shapes, tell which traces fit."""
    return wanted == TraceFilter(tenant=wanted.tenant, status=wanted.status, **_named(wanted, (*COLUMNS, *OF_HEADS)))


def by_heads(wanted: TraceFilter) -> bool:
    """Return whether heads have to be looked at one by one, for their own names, services or durations."""
    return any(_named(wanted, OF_HEADS).values())


def has_words(wanted: TraceFilter) -> bool:
    """Return whether a filter names anything that shapes are made of."""
    return any((wanted.status, *_named(wanted).values()))


def _named(wanted: TraceFilter, columns: Sequence[str] = COLUMNS) -> dict[str, str]:
    return {column: getattr(wanted, column) for column in columns}


def fitting(wanted: Wanted, since: datetime, until: datetime) -> Statement:
    """Return SQL for the shapes of traces that fit, among those of the days of a span of time."""
    clauses, values = "", list[Any]([floor(since, _DAY_S), until])
    words = [f"{column}={value}" for column, value in _named(wanted.filter).items() if value]
    if wanted.filter.status == "ok":
        clauses += " AND NOT words @> %s"
        values.append([FAILED])
    elif wanted.filter.status == "error" and wanted.slugs is None:
        words.append(FAILED)
    elif wanted.filter.status == "error":
        clauses += " AND words && %s"
        values.append([f"{FAILED}={HERE}", *(f"{FAILED}={slug}" for slug in wanted.slugs or ())])
    if words:
        clauses += " AND words @> %s"
        values.append(words)
    return f"SELECT id FROM telemetry_trace_shape WHERE starts_at >= %s AND starts_at < %s{clauses}", values  # noqa: S608

"""Which tables hold the windows of a span of time: the coarsest that fit inside it, finer ones at its edges.

Pure. A rung of the ladder is a table of windows of one length; its mark says until when it is complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Interval = tuple[datetime, datetime]  # the start is included, the end is not


class Rung(NamedTuple):
    """Windows of ``step_s`` in ``table``. Without a mark they are complete up to now."""

    step_s: int
    table: str
    mark: str = ""


class Piece(NamedTuple):
    """Part of a span of time, and the table to read it from."""

    table: str
    since: datetime
    until: datetime


EVERYBODY = "*"  # stands for all tenants together; no tenant is called so
_LONG = {"1d": 86400, "6h": 21600, "3h": 10800, "15m": 900}


def _whole(dimension: str) -> tuple[Rung, ...]:
    """Return the windows that are one row for each name of a dimension."""
    return tuple(
        Rung(step_s, f"telemetry_{dimension}_{label}", f"{dimension}_{label}") for label, step_s in _LONG.items()
    )


WHOLE_TENANTS = _whole("tenant")
WHOLE = {"tenant": WHOLE_TENANTS, "route": _whole("route"), "model": _whole("model")}
BY_TENANT = (
    Rung(21600, "telemetry_window_6h", "window_6h"),
    Rung(3600, "telemetry_window_1h", "windows"),
    Rung(900, "telemetry_window_15m", "window_15m"),
    Rung(60, "telemetry_window_1m"),
    Rung(10, "telemetry_window_10s"),
)
TOGETHER = (
    Rung(21600, "telemetry_total_6h", "total_6h"),
    Rung(3600, "telemetry_total_1h", "total_1h"),
    Rung(900, "telemetry_total_15m", "total_15m"),
    Rung(60, "telemetry_total_1m", "total_1m"),
    Rung(10, "telemetry_total_10s", "total_10s"),
    Rung(10, "telemetry_window_10s"),
)

ALL_IN_ALL = (
    *WHOLE_TENANTS[:3],
    Rung(3600, "telemetry_all_1h", "all_1h"),
    TOGETHER[1],
    WHOLE_TENANTS[3],
    Rung(300, "telemetry_all_5m", "all_5m"),
    *TOGETHER[3:],
)  # one row for each window, where there are such
APART = (*WHOLE_TENANTS, BY_TENANT[3])  # a row for each tenant
TENANT_STEPS = Rung(300, "telemetry_tenant_5m", "tenant_5m")  # counts and percentiles, but no buckets
NOW = "now"  # the mark of what is complete as soon as it is there
FINE = (BY_TENANT[3]._replace(mark=NOW), BY_TENANT[4])


def floor(at: datetime, step_s: int) -> datetime:
    """Return the start of the window that ``at`` is in."""
    return EPOCH + timedelta(seconds=(at - EPOCH).total_seconds() // step_s * step_s)


def ceiling(at: datetime, step_s: int) -> datetime:
    """Return the first start of a window that is not before ``at``."""
    found = floor(at, step_s)
    return found if found == at else found + timedelta(seconds=step_s)


def whole_windows(step_s: int, intervals: Iterable[Interval], limit: datetime) -> list[Interval]:
    """Return whole windows around ``intervals`` that end by ``limit``, none of them twice."""
    found: list[Interval] = []
    for begins, ends in sorted((floor(a, step_s), min(limit, ceiling(b, step_s))) for a, b in intervals if a < b):
        if begins >= ends:
            continue
        if found and begins <= found[-1][1]:
            found[-1] = (found[-1][0], max(ends, found[-1][1]))
        else:
            found.append((begins, ends))
    return found


def fits(rung: Rung, since: datetime, step_s: int | None) -> bool:
    """Return whether windows of a rung lie within steps of ``step_s`` from ``since`` on; within a whole range they may lie anyhow."""
    return step_s is None or (step_s % rung.step_s == 0 and floor(since, rung.step_s) == since)


def pieces(
    since: datetime,
    until: datetime,
    rungs: Sequence[Rung],
    marks: Mapping[str, datetime],
    *,
    step_s: int | None = None,
    finest_s: int = 60,
) -> list[Piece]:
    """Return what to read, in order of time, without gap or overlap. Windows count where they start.

    ``finest_s``: finer rungs are not looked at, but for the last, when nothing else is left.
    """
    usable = [each for each in rungs if fits(each, since, step_s) and (each.step_s >= finest_s or not each.mark)]
    return _cut(since, until, usable or list(rungs[-1:]), marks)


def _cut(since: datetime, until: datetime, rungs: Sequence[Rung], marks: Mapping[str, datetime]) -> list[Piece]:
    if since >= until:
        return []
    first, *finer = rungs
    if not finer or not first.mark:
        return [Piece(first.table, since, until)]
    begins = ceiling(since, first.step_s)
    ends = floor(min(until, marks.get(first.mark, EPOCH)), first.step_s)
    if begins >= ends:
        return _cut(since, until, finer, marks)
    return [*_cut(since, begins, finer, marks), Piece(first.table, begins, ends), *_cut(ends, until, finer, marks)]

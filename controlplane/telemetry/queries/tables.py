"""Which windows a question about calls is answered from: as few as say it all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from controlplane.telemetry.queries.reading import rows
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

DISTRIBUTIONS = ("latency_us", "tokens", "call_cost_nusd", "queue_depth", "sessions")
COUNTS = (
    "calls", "errors", "refused", "fallbacks", "retries", "input_tokens", "cached_input_tokens", "output_tokens", "cost_nusd",
)  # fmt: skip
_FINE_FOR = timedelta(minutes=15)  # spans of time up to this are read at ten seconds
_MINUTES_FOR = timedelta(hours=26)
_LAG = timedelta(minutes=5)  # what is further behind than that is not read
_NAMES = ("tenant", "route", "model", "category")
_COLUMNS = ", ".join(("starts_at", *_NAMES, *COUNTS, "kinds", *DISTRIBUTIONS))
# Hours as far as they are folded, minutes since.
BY_HOURS = f"""(SELECT {_COLUMNS} FROM telemetry_window_1h
              WHERE starts_at < (SELECT until FROM telemetry_fold WHERE kind = 'windows')
              UNION ALL SELECT {_COLUMNS} FROM telemetry_window_1m
              WHERE starts_at >= coalesce((SELECT until FROM telemetry_fold WHERE kind = 'windows'), '-infinity')) AS windows"""  # noqa: S608


_LENGTHS = {rung.table: rung.step_s for rung in ALL_IN_ALL}


def folded() -> dict[str, datetime]:
    """Return until when each kind of rollup is complete."""
    return dict(rows("SELECT kind, until FROM telemetry_fold", []))


def windows_of(
    slugs: Sequence[str] | None,
    since: datetime,
    until: datetime,
    *,
    by: str = "",
    route: str | None = "",
    model: str | None = "",
    category: str | None = "",
    step_s: int | None = None,
    told: bool = False,
    marks: Mapping[str, datetime] | None = None,
) -> str:
    """Return what to read windows from for a question about all tenants, or those of ``slugs``: rows that tell no more apart than it does.

    It asks by one name, and for one ``route``, ``model`` and ``category`` where they are given; the rest as in ``table_of``.
    """
    named = route or model or category
    together = slugs is None and by != "tenant" and not category
    return table_of(
        since,
        until,
        step_s=step_s,
        together=together,
        all_in_all=together and not (by or named),
        apart=by == "tenant" and not named,
        told=told,
        marks=marks,
    )


def table_of(
    since: datetime,
    until: datetime,
    *,
    step_s: int | None = None,
    together: bool = False,
    all_in_all: bool = False,
    apart: bool = False,
    told: bool = False,
    marks: Mapping[str, datetime] | None = None,
) -> str:
    """Return what to read windows of a span of time from: few long ones inside, short ones at its edges.

    With ``step_s`` they lie within steps from ``since`` on. ``together``: tenants and categories need not be told apart; ``all_in_all``:
    nor routes and models; ``apart``: tenants only. ``told``: with ``latency_told``, where windows are one row and as long as steps; of ``queue_depth`` only its head counts then.
    """
    marks = {**(folded() if marks is None else marks), NOW: until}
    fine = until - since <= _FINE_FOR
    rungs: Sequence[Rung] = BY_TENANT[-1:] if fine else BY_TENANT[:-1]
    if apart:
        rungs = FINE if fine else APART
    if (together or all_in_all) and _caught_up(marks, until):
        rungs = TOGETHER[3:] if fine else ALL_IN_ALL if all_in_all else TOGETHER
    parts = pieces(since, until, rungs, marks, step_s=step_s, finest_s=10)
    return (
        "(" + " UNION ALL ".join(_part(part, step_s if told else None, apart=apart) for part in parts) + ") AS windows"
    )


def _caught_up(marks: Mapping[str, datetime], until: datetime) -> bool:
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

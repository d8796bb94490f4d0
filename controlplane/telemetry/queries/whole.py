"""Lines of whole tenants, of all together, and of all by route or model, from windows that hold their percentiles: nothing has to be merged
to tell a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from controlplane.telemetry.queries.metrics import Metric
from controlplane.telemetry.queries.reading import where
from controlplane.telemetry.queries.tables import folded, windows_of
from controlplane.telemetry.resolutions import EVERYBODY, WHOLE, Piece, Rung, pieces

_NEWEST = "newest"  # what is not in them yet is read as if they were not there
_STEP_S = WHOLE["tenant"][-1].step_s
Select = Callable[..., str]
Statement = tuple[str, list[Any]]


def _cut(rungs: Sequence[Rung], since: datetime, until: datetime, step_s: int | None) -> list[Piece]:
    return pieces(since, until, (*rungs, Rung(10, _NEWEST)), folded(), step_s=step_s, finest_s=10)


def holds(by: str, slugs: Sequence[str] | None, step_s: int) -> bool:
    """Return whether they answer a question in such steps: of tenants apart, of some of them together or of all, of all by route or model."""
    return step_s % _STEP_S == 0 and (by == "" or (by in WHOLE and (by == "tenant") == (slugs is not None)))


def heaviest(metric: Metric, since: datetime, until: datetime, limit: int) -> Statement:
    """Return SQL for the tenants that weigh most, and how many there are."""
    parts, values = [], list[Any]()
    for piece in _cut(WHOLE["tenant"], since, until, None):
        old = piece.table != _NEWEST
        held = f"{metric.column}_told" if old and metric.spread else metric.column
        weight = f"coalesce({held}[2], 0)" if metric.column else metric.amount
        if old and metric.column == "latency_us":
            weight = "coalesce(latency_us_total, 0)"  # its index has it
        table = piece.table if old else windows_of(None, piece.since, piece.until, by="tenant")
        parts.append(
            f"SELECT tenant, sum({weight}) AS weight FROM {table} WHERE starts_at >= %s AND starts_at < %s "  # noqa: S608 - names of ours
            f"AND tenant <> '{EVERYBODY}' GROUP BY tenant"
        )
        values += [piece.since, piece.until]
    sql = f"""SELECT tenant, count(*) OVER () FROM ({" UNION ALL ".join(parts)}) AS part
              GROUP BY tenant ORDER BY sum(weight) DESC, tenant LIMIT {limit}"""  # noqa: S608 - names of ours
    return sql, values


def statement(
    select: Select,
    metric: Metric,
    by: str,
    slugs: Sequence[str] | None,
    since: datetime,
    until: datetime,
    step_s: int | None,
) -> Statement:
    """Return a source's SQL for steps of ``step_s``; without it for the range as a whole, from as few long windows as there are."""
    dimension = by or "tenant"
    parts, values = [], list[Any]()
    for piece in _cut(WHOLE[dimension], since, until, step_s):
        clause, named = where(list(slugs) if slugs is not None else None)
        if piece.table != _NEWEST and slugs is None and not by:
            clause, named = "AND tenant = %s", [EVERYBODY]
        table = piece.table
        if table == _NEWEST:
            table = windows_of(slugs, piece.since, piece.until, by=by, step_s=step_s)
        alone = by != "" or slugs is None or len(slugs) == 1  # else rows of several tenants are merged
        ready = (
            alone and metric.spread and any(rung.step_s == step_s and rung.table == table for rung in WHOLE[dimension])
        )
        columns = {"amount": metric.amount, "part": metric.part, "whole": metric.whole, "weight": metric.amount}
        if metric.column:
            columns |= _distribution(metric.column, ready=ready, spread=metric.spread)
        head = select(by or "''", "starts_at", **columns)
        parts.append(f"{head} FROM {table} WHERE starts_at >= %s AND starts_at < %s {clause}")
        values += [piece.since, piece.until, *named]
    return " UNION ALL ".join(parts), values


def _distribution(column: str, *, ready: bool, spread: bool) -> dict[str, str]:
    held = f"{column}_told" if ready else column
    columns = {label: f"{held}[{place}]" for place, label in enumerate(("samples", "total", "least", "most"), 1)}
    columns["weight"] = f"coalesce({held}[2], 0)"
    if ready:
        columns["tails"] = f"{held}[5:]"
    elif spread:
        columns["entries"] = f"{column}[5:]"
    return columns

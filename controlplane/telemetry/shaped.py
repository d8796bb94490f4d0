"""Reads of traces by their shapes: how many fit a filter, and the newest of them.

The mark of ``telemetry.shapes`` parts them: what began before it is in heads and sums, what began since is asked of the spans.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from controlplane.telemetry import shapes
from controlplane.telemetry.counted import Statement, of_first_span, together
from controlplane.telemetry.models import Fold
from controlplane.telemetry.patience import patient_rows
from controlplane.telemetry.resolutions import EVERYBODY, Piece, floor, pieces
from controlplane.telemetry.spansums import FINE_S, RAW
from controlplane.telemetry.store import TraceFilter, Wanted

_NEVER = datetime(9000, 1, 1, tzinfo=UTC)
_QUARTER_S, _QUARTER = shapes.STEPS[0]
_FIRST_OF = """SELECT r.*, r.parent_span_id <> '' AS rootless FROM ({heads}) AS head
            JOIN telemetry_span AS r ON (r.trace_id, r.span_id, r.starts_at) = (head.trace_id, head.span_id, head.starts_at)"""


def is_shaped(wanted: Wanted) -> bool:
    """Return whether shapes answer a filter, and it names more than a tenant."""
    return shapes.answers(wanted.filter) and wanted.filter != TraceFilter(tenant=wanted.filter.tenant)


def _marks() -> dict[str, datetime]:
    return dict(Fold.objects.filter(kind=shapes.MARK).values_list("kind", "until"))


def shaped_traces(wanted: Wanted, step_s: int, of_spans: Callable[[Wanted], Statement]) -> Statement:
    """Return SQL for rows of ``starts_at``, traces and errors that fall into steps of ``step_s``; ``of_spans``: for what is not folded."""
    marks = _marks()
    mark = marks.get(shapes.MARK, wanted.since)
    parts = []
    rungs = shapes.RUNGS[-1:] if shapes.by_heads(wanted.filter) else shapes.RUNGS
    for piece in pieces(wanted.since, wanted.until or _NEVER, rungs, marks, step_s=step_s, finest_s=FINE_S):
        folded = piece._replace(until=min(piece.until, max(piece.since, mark))) if piece.table == RAW else piece
        if folded.since < folded.until:
            parts.append(_of_shapes(wanted, folded))
        if folded.until < piece.until:
            parts.append(of_spans(replace(wanted, since=folded.until, until=piece.until)))
    return together(parts)


def _of_shapes(wanted: Wanted, piece: Piece) -> Statement:
    """Return SQL for the rows of a table of sums, or for heads where it is that of the spans."""
    if piece.table == RAW:
        return _heads(wanted, piece.since, piece.until, "starts_at, 1 AS traces, (status = 2)::int AS errors")
    fitting, values = shapes.fitting(wanted, piece.since, piece.until)
    tenants = [EVERYBODY] if wanted.slugs is None else list(wanted.slugs)
    sql = f"""SELECT starts_at, traces, errors FROM {piece.table}
              WHERE tenant = ANY(%s) AND starts_at >= %s AND starts_at < %s AND shape IN ({fitting})"""  # noqa: S608 - names of ours
    return sql, [tenants, piece.since, piece.until, *values]


def _heads(wanted: Wanted, since: datetime, until: datetime, columns: str) -> Statement:
    clauses, values = of_first_span(wanted.filter)
    scope, tenants = ("", []) if wanted.slugs is None else ("tenant = ANY(%s) AND", [list(wanted.slugs)])
    if shapes.has_words(wanted.filter):
        fitting, words = shapes.fitting(wanted, since, until)
        clauses, values = f"{clauses} AND shape IN ({fitting})", [*values, *words]
    sql = f"SELECT {columns} FROM {shapes.HEADS} WHERE {scope} starts_at >= %s AND starts_at < %s{clauses}"  # noqa: S608 - as above
    return sql, [*tenants, since, until, *values]


def newest_shaped(wanted: Wanted, limit: int) -> tuple[Statement, datetime]:
    """Return SQL for the newest first spans that are folded, and from when on they are to be asked of the spans."""
    at, _, trace_id = wanted.cursor.partition("~")
    mark = max(wanted.since, _marks().get(shapes.MARK, wanted.since))
    before = min(mark, wanted.until or _NEVER)
    heads, values = _heads(wanted, _enough_since(wanted, limit, before), before, "trace_id, span_id, starts_at")
    if trace_id:
        heads, values = f"{heads} AND (starts_at, trace_id) < (%s::timestamptz, %s)", [*values, at, trace_id]
    heads = f"{heads} ORDER BY starts_at DESC, trace_id DESC LIMIT %s"
    return (_FIRST_OF.format(heads=heads), [*values, limit]), mark


def _enough_since(wanted: Wanted, limit: int, before: datetime) -> datetime:
    """Return when a time begins that has so many traces that fit, as sums of quarters of an hour tell."""
    at, _, _ = wanted.cursor.partition("~")
    over = floor(min(before, datetime.fromisoformat(at)) if at else before, _QUARTER_S)
    sql, values = _of_shapes(wanted, Piece(f"telemetry_shape_{_QUARTER}", floor(wanted.since, _QUARTER_S), over))
    sql = f"SELECT starts_at, tg_whole(sum(traces)) FROM ({sql}) AS kept GROUP BY 1 ORDER BY 1 DESC"  # noqa: S608 - as above
    found, since = 0, wanted.since
    for begins, traces in patient_rows(sql, list[Any](values)):
        found += traces
        if found >= limit:
            since = max(since, begins)
            break
    return since

"""Estimates of how many traces fit a filter that nothing kept answers: from the traces whose ids a hash has drawn, one in so many.

All spans of a trace are drawn or none, the same ones every time, and those of a smaller sample are among those of a larger one. What is
counted of a sample stands for so many times as much, give or take ``margin``.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from math import ceil, sqrt

from controlplane.telemetry import shapes
from controlplane.telemetry.counted import counted_traces
from controlplane.telemetry.models import Fold
from controlplane.telemetry.patience import patient_rows
from controlplane.telemetry.shaped import is_shaped, shaped_traces
from controlplane.telemetry.store import TraceFilter, Wanted

MOST_HEADS = 40_000  # first spans that are looked at one by one for one answer
MOST_TRACES = (
    640  # traces that are, with all their spans; twice as many of all tenants together, whose sample is often asked for
)
INDEXED = (16, 256)  # samples that have an index, by a migration
NEAR = " AND c.starts_at >= r.starts_at - interval '1 day' AND c.starts_at < r.starts_at + interval '1 day'"
_SURE = 1.96  # standard deviations, for 95 in 100


def share_for(count: int, most: int, *, least: int = 1) -> int:
    """Return one in how many of ``count`` are drawn so that they are about ``most``: a power of two, 1 for all, else ``least`` or more."""
    if count <= most:
        return 1
    return max(least, 1 << (ceil(count / most) - 1).bit_length())


def share_of(wanted: Wanted, step_s: int) -> int:
    """Return one in how many traces are looked at for a filter that sums don't answer."""
    count = known(wanted, step_s)
    if shapes.counts(wanted.filter):
        return share_for(count, MOST_HEADS, least=INDEXED[0])
    return share_for(count, MOST_TRACES * (2 if wanted.slugs is None else 1))


def margin(count: int, one_in: int) -> int:
    """Return how far an estimate of ``count`` is from the truth at most, in 95 of 100 cases; of nought: how many may have been missed."""
    if one_in == 1:
        return 0
    return ceil(_SURE * sqrt(count * (one_in - 1))) if count else 3 * one_in


def drawn(one_in: int) -> str:
    """Return a clause that traces ``r`` of a sample fit, and before it that of the index that has them."""
    indexed = max((each for each in INDEXED if each <= one_in), default=one_in)
    return "".join(f" AND hashtextextended(r.trace_id, 0) & {each - 1} = 0" for each in sorted({indexed, one_in}))


def folded_until(wanted: Wanted) -> datetime:
    """Return until when heads have the traces of a question: its start when they have none."""
    mark = Fold.objects.filter(kind=shapes.MARK).values_list("until", flat=True).first() or wanted.since
    return max(wanted.since, min(mark, wanted.until or mark))


def known(wanted: Wanted, step_s: int) -> int:
    """Return how many of the traces that are folded fit what sums tell of a filter: no fewer than fit all of it."""
    until = folded_until(wanted)
    if until == wanted.since:
        return 0
    names = {name: getattr(wanted.filter, name) for name in ("tenant", "status", *shapes.COLUMNS)}
    asked = replace(wanted, filter=TraceFilter(**names), until=until)
    sql, values = shaped_traces(asked, step_s, _none) if is_shaped(asked) else counted_traces(asked, step_s)
    ((count,),) = patient_rows(f"SELECT tg_whole(coalesce(sum(traces), 0)) FROM ({sql}) AS counted", values)  # noqa: S608 - names of ours
    return int(count)


def _none(_: Wanted) -> tuple[str, list[object]]:
    return "SELECT NULL::timestamptz AS starts_at, 0 AS traces, 0 AS errors WHERE FALSE", []


def without_words(wanted: TraceFilter) -> TraceFilter:
    """Return what shapes don't tell of a filter."""
    return replace(wanted, status="", route="", model="", release="")


def heads(one_in: int, *, words: str, clauses: str) -> str:
    """Return SQL for rows of ``starts_at``, traces and errors of a sample of heads. Parameters: since, until, of ``words``, of ``clauses``."""
    fits = f" AND r.shape IN ({words})" if words else ""
    return f"""SELECT starts_at, {one_in} AS traces, {one_in} * (status = 2)::int AS errors FROM {shapes.HEADS} AS r
              WHERE r.starts_at >= %s AND r.starts_at < %s{drawn(one_in)}{fits}{clauses}"""  # noqa: S608 - names of ours

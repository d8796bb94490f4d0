"""Finding the traces of which a span says something, where few say so: in the minutes whose filter of terms may have it.

The mark of ``telemetry.terms`` parts time: what spans say that began before it is in filters, but for those that came late and are noted.
Both what began since and what is noted is looked at as it is. Spans are sought from an hour before the chosen time on, and with no end to it: those of
a trace that began in it may begin a little before what is called the first, and much later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings

from controlplane.telemetry.models import Fold, LateSpans
from controlplane.telemetry.patience import patient_rows
from controlplane.telemetry.resolutions import Interval, floor, whole_windows
from controlplane.telemetry.spansums import MARK as SUMS
from controlplane.telemetry.store import Wanted
from controlplane.telemetry.terms import MARK, STEP_S, TABLE, Sought, probe_of, sought_by

FEW_SPANS = 50_000  # that are looked at for one answer at once
BEFORE = timedelta(hours=1)  # a span may begin so long before what is called the first
_BEHIND = timedelta(minutes=5)
_MOST_NOTES = 100
_DENSE = 48  # minutes of an hour: what is said as often is found sooner by looking at the newest traces
_NEVER = datetime(9000, 1, 1, tzinfo=UTC)
_STEP = timedelta(seconds=STEP_S)


class Narrowed(NamedTuple):
    """Where spans that say something may be, the newest first: spans of time with how many spans there are in each; and what else is wanted."""

    sought: Sought
    times: list[tuple[Interval, int]]
    rest: Wanted

    @property
    def spans(self) -> int:
        return sum(count for _, count in self.times)

    @property
    def is_few(self) -> bool:
        return self.spans <= FEW_SPANS

    def traces(self, times: Sequence[tuple[Interval, int]] | None = None) -> list[str]:
        """Return the traces of which a span says it, in all those times or in some of them."""
        chosen = whole_windows(1, [interval for interval, _ in (self.times if times is None else times)], _NEVER)
        sql = f"""SELECT DISTINCT said.trace_id FROM unnest(%s::timestamptz[], %s::timestamptz[]) AS time (since, until) CROSS JOIN LATERAL (
                      SELECT c.trace_id FROM telemetry_span AS c
                      WHERE c.starts_at >= time.since AND c.starts_at < time.until AND {self.sought.clause} OFFSET 0) AS said"""  # noqa: S608
        begins, ends = [each[0] for each in chosen], [each[1] for each in chosen]
        return [trace_id for (trace_id,) in patient_rows(sql, [begins, ends, *self.sought.values])]

    def portions(self) -> Iterator[tuple[list[str], datetime]]:
        """Yield traces, those with the newest spans first, and from when on all are told that began; ever more of them."""
        most, place, found = FEW_SPANS, 0, set[str]()
        while place < len(self.times):
            over, count = place, 0
            while over < len(self.times) and (over == place or count + self.times[over][1] <= most):
                count += self.times[over][1]
                over += 1
            found.update(self.traces(self.times[place:over]))
            left = self.times[over:]
            yield list(found), left[0][0][1] + BEFORE if left else self.rest.since
            place, most = over, 2 * most


def narrowed(wanted: Wanted) -> Narrowed | None:
    """Return where to look for what a filter seeks that the fewest spans may say; ``None`` where that is not known, or nearly everywhere."""
    sought = sought_by(wanted.filter)
    if not sought:
        return None
    marks = dict(Fold.objects.filter(kind__in=(MARK, SUMS)).values_list("kind", "until"))
    noted = list(LateSpans.objects.order_by("id").values_list("since", "until")[:_MOST_NOTES])
    if len(marks) < 2 or marks[SUMS] - marks[MARK] > _BEHIND or len(noted) == _MOST_NOTES:
        return None
    places = [place for each in sought if (place := _narrowed(each, wanted, marks[MARK], noted)) is not None]
    return min(places, key=lambda each: each.spans, default=None)


def _narrowed(sought: Sought, wanted: Wanted, mark: datetime, noted: Sequence[Interval]) -> Narrowed | None:
    since = wanted.since - BEFORE
    kept = floor(mark, 86400) - timedelta(
        days=settings.SPAN_RETENTION_DAYS
    )  # what is older is not folded, but may be there yet
    ends = min(mark, wanted.until or mark)
    if len(_minutes(sought, ends - timedelta(hours=1), ends)) >= _DENSE:
        return None
    told = _minutes(sought, max(since, kept), mark)
    unknown = [(max(begins, since), over) for begins, over in (*noted, (since, kept), (mark, _NEVER)) if over > since]
    each = max((count for _, count in told), default=0)
    times = [((at, at + _STEP), count) for at, count in told]
    times += [
        ((begins, over), each * max(1, (min(over, mark) - begins) // _STEP))
        for begins, over in unknown
        if begins < over
    ]
    times.sort(key=lambda time: time[0][1], reverse=True)
    rest = replace(wanted, filter=replace(wanted.filter, **{sought.field: ""}))
    return Narrowed(sought, times, rest)


def _minutes(sought: Sought, since: datetime, mark: datetime) -> list[tuple[datetime, int]]:
    """Return the minutes in which a span may say one of the terms, and how many spans each has."""
    if since >= mark:
        return []
    hashes = ", ".join(sql for sql, _ in sought.terms)
    ((terms,),) = patient_rows(f"SELECT ARRAY[{hashes}]", [value for _, values in sought.terms for value in values])
    probes = [probe_of(term) for term in terms]
    each = f"""SELECT starts_at, spans FROM {TABLE} WHERE part = ANY(%s) AND starts_at >= %s AND starts_at < %s
               AND blocks[1 + %s %% cardinality(blocks)] & %s::bigint = %s::bigint"""  # noqa: S608 - a table of ours
    values = list[Any]()
    for probe in probes:
        values += [probe.parts, floor(since, STEP_S), mark, probe.place, str(probe.bits), str(probe.bits)]
    return patient_rows(f"SELECT DISTINCT * FROM ({' UNION ALL '.join([each] * len(probes))}) AS told", values)  # noqa: S608

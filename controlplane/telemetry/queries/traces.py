"""Traces, sessions and the mesh of who calls whom, from spans, scoped by an asker."""

from __future__ import annotations

from datetime import datetime, timedelta

from controlplane.problems import NotFound
from controlplane.telemetry.models import LogRecord, Message, Span
from controlplane.telemetry.postgres import PostgresSpans
from controlplane.telemetry.queries.reading import slugs_read
from controlplane.telemetry.store import Edge, Session, Slot, Slots, SpanStore, Trace, TraceFilter, TraceMark, Wanted
from controlplane.tenancy.queries import Asker, slugs_seen_by

MOST_SPANS = 50_000
MOST_MESSAGES = 200
_store: SpanStore = PostgresSpans()


def _wanted(asker: Asker, wanted: TraceFilter, since: datetime, until: datetime | None, cursor: str = "") -> Wanted:
    return Wanted(wanted, slugs_read(asker, wanted.tenant or None), since, until, cursor)


def traces_seen_by(
    asker: Asker,
    wanted: TraceFilter,
    since: datetime,
    cursor: str = "",
    limit: int = 50,
    until: datetime | None = None,
) -> list[Trace]:
    """Return traces since ``since``, the newest first; ``cursor`` is that of the last one shown.

    ``ValueError`` for a cursor that is none, ``TooDear`` when the filter finds too little in too much.
    """
    return _store.traces(_wanted(asker, wanted, since, until, cursor), limit)


def trace_slots(asker: Asker, wanted: TraceFilter, since: datetime, until: datetime, step_s: int) -> Slots:
    """Return how many traces began in each step from ``since`` to ``until``, empty ones included, the oldest first.

    They are counted, or estimated when that is dear: ``one_in`` says from how many of all, and ``sampled.margin`` how well.
    """
    found = _store.slots(_wanted(asker, wanted, since, until), step_s)
    told = {slot.at: slot for slot in found.steps}
    steps = max(0, -(-int((until - since).total_seconds()) // step_s))
    times = [since + timedelta(seconds=step_s * number) for number in range(steps)]
    return Slots([told.get(at, Slot(at)) for at in times], found.one_in)


def trace_seen_by(asker: Asker, trace_id: str, limit: int = MOST_SPANS, *, light: bool = False) -> list[Span]:
    """Return the spans of one trace in order of start, at most ``limit``; ``NotFound`` for none that the asker may see.

    ``light`` ones lack attributes, resource, events and links.
    """
    found = _store.spans(trace_id.strip().lower(), slugs_seen_by(asker), limit, light=light)
    if not found:
        raise NotFound(f"There is no trace {trace_id!r} that you may see. Spans are kept for some days only.")
    return found


def span_seen_by(asker: Asker, trace_id: str, span_id: str) -> Span:
    """Return one span; ``NotFound`` when there is none that the asker may see."""
    found = _store.span(trace_id.strip().lower(), span_id.strip().lower(), slugs_seen_by(asker))
    if found is None:
        raise NotFound(f"There is no span {span_id!r} in this trace that you may see.")
    return found


def trace_mark(asker: Asker, trace_id: str) -> TraceMark:
    """Return what differs as soon as a trace has other spans that the asker may see, with how many there are."""
    return _store.mark(trace_id.strip().lower(), slugs_seen_by(asker))


def messages_of(asker: Asker, trace_id: str, span_id: str) -> list[Message]:
    """Return what was said in one span, where that is kept, by name."""
    found = Message.objects.filter(trace_id=trace_id, span_id=span_id)
    slugs = slugs_seen_by(asker)
    if slugs is not None:
        found = found.filter(tenant__in=slugs)
    return list(found.order_by("name")[:MOST_MESSAGES])


def logs_of(asker: Asker, trace_id: str, span_id: str = "", limit: int = 200) -> list[LogRecord]:
    """Return the log records of a trace, or of one span of it, in order of time."""
    found = LogRecord.objects.filter(trace_id=trace_id)
    if span_id:
        found = found.filter(span_id=span_id)
    slugs = slugs_seen_by(asker)
    if slugs is not None:
        found = found.filter(tenant__in=slugs)
    return list(found.order_by("at")[:limit])


def mesh(asker: Asker, since: datetime, until: datetime, tenant: str | None = None) -> list[Edge]:
    """Return who called whom in a span of time: services, agents, tools and models, the most frequent first."""
    return _store.edges(slugs_read(asker, tenant), since, until)


def sessions_seen_by(asker: Asker, wanted: TraceFilter, since: datetime, limit: int = 100) -> list[Session]:
    """Return sessions with a span since ``since``, those seen last first."""
    return _store.sessions(_wanted(asker, wanted, since, None), limit)

"""The seam behind which spans lie: what the rest of the house asks of a store of spans.

PostgreSQL is the one that there is (``telemetry.postgres``). Another one, say ClickHouse for more than some thousand spans a
second, has to answer the same questions and to write batches idempotently by (trace, span, start).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from controlplane.telemetry.models import Span


@dataclass(frozen=True)
class TraceFilter:
    """What traces to list; empty parts match all. Of ``status`` there are ``""``, ``"ok"`` and ``"error"``.

    ``text`` is sought in the name and service of the first span. ``attribute`` is ``key=value``, or ``key`` alone. Route, model,
    release, session, user, agent, tool, operation and attribute may match any span of a trace. Numbers as text: durations in
    milliseconds, costs in dollars.
    """

    tenant: str = ""
    route: str = ""
    model: str = ""
    status: str = ""
    text: str = ""
    trace_id: str = ""
    release: str = ""
    service: str = ""
    session: str = ""
    user: str = ""
    agent: str = ""
    tool: str = ""
    operation: str = ""
    attribute: str = ""
    min_ms: str = ""
    max_ms: str = ""
    min_tokens: str = ""
    min_usd: str = ""


@dataclass(frozen=True)
class Wanted:
    """A filter within a span of time and a scope; ``slugs`` is ``None`` for all tenants."""

    filter: TraceFilter
    slugs: Sequence[str] | None
    since: datetime
    until: datetime | None = None
    cursor: str = ""


@dataclass(frozen=True)
class Trace:
    """One line of the list: the first span, and sums over all. ``rootless`` when the root has not arrived."""

    trace_id: str
    starts_at: datetime
    duration_us: int
    tenant: str
    service: str
    name: str
    status: int
    rootless: bool
    session: str
    user: str
    route: str
    model: str
    release: str
    spans: int
    errors: int
    tokens: int
    cost_nusd: int

    @property
    def cursor(self) -> str:
        """Where the next page goes on."""
        return f"{self.starts_at.isoformat()}~{self.trace_id}"


@dataclass(frozen=True)
class Slot:
    """How many traces began in one step of time, and how many of them failed."""

    at: datetime
    traces: int = 0
    errors: int = 0


@dataclass(frozen=True)
class Slots:
    """Traces per step of time. They are exact with a ``one_in`` of 1; else estimated from one in so many traces."""

    steps: list[Slot] = field(default_factory=list)
    one_in: int = 1

    @property
    def total(self) -> int:
        return sum(slot.traces for slot in self.steps)


@dataclass(frozen=True)
class Edge:
    """How often one party of a trace called another, by kind (``agent``, ``tool``, ``model``, ``service``) and name."""

    from_kind: str
    from_name: str
    to_kind: str
    to_name: str
    calls: int
    errors: int
    tokens: int
    cost_nusd: int
    duration_us: int  # summed


@dataclass(frozen=True)
class Session:
    """What is known of one session from its spans."""

    session: str
    user: str
    tenant: str
    service: str
    first_at: datetime
    last_at: datetime
    turns: int
    spans: int
    errors: int
    tokens: int
    cost_nusd: int


class TraceMark(NamedTuple):
    """What a trace comes to: the same as long as its spans are."""

    spans: int
    begins: datetime | None
    last: datetime | None
    duration_us: int
    cost_nusd: int


class SpanStore(Protocol):
    """Reads of spans. Every one is bounded, and raises ``TooDear`` rather than to hold a page up."""

    def traces(self, wanted: Wanted, limit: int) -> list[Trace]:
        """Return traces, the newest first."""

    def slots(self, wanted: Wanted, step_s: int) -> Slots:
        """Return how many traces began per step, steps without any left out, the oldest first; estimated where it is dear to count."""

    def spans(self, trace_id: str, slugs: Sequence[str] | None, limit: int, *, light: bool = False) -> list[Span]:
        """Return the spans of one trace in order of start; ``light`` ones without attributes, resource, events and links."""

    def span(self, trace_id: str, span_id: str, slugs: Sequence[str] | None) -> Span | None:
        """Return one span."""

    def mark(self, trace_id: str, slugs: Sequence[str] | None) -> TraceMark:
        """Return what differs as soon as a trace has other spans."""

    def edges(self, slugs: Sequence[str] | None, since: datetime, until: datetime) -> list[Edge]:
        """Return who called whom, the most frequent first."""

    def sessions(self, wanted: Wanted, limit: int) -> list[Session]:
        """Return sessions with a span in the time, those seen last first."""

"""Spans of guarded calls as OTLP/JSON. Spans are collected in a bounded queue and encoded by the background thread.

W3C Trace Context, level 2: a call continues the ``traceparent`` that it is given, else the guarded call around it, else starts a trace.
The ``tracestate`` beside it is carried unchanged.
Attribute names are those of OpenTelemetry's semantic conventions for generative AI where there are any.
"""

from __future__ import annotations

import gzip
import json
import math
import random
import re
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tidegate.sampling import Sampler

MAX_SPANS = 4096
SLOW_S = 10.0  # calls that took so long always have a span, also those that pass on credit
BATCH = 512
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_MEMBER = re.compile(
    r"[a-z0-9][a-z0-9_*/@-]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]", re.ASCII
)
MAX_MEMBERS = 32  # of a tracestate
SAMPLED, RANDOM_ID = 0x01, 0x02  # trace flags; the others are nobody's yet and are not passed on
_INTERNAL, _CLIENT = 1, 3
_OK, _ERROR = 1, 2

Attributes = dict[str, str | int | float | bool]


class Event(NamedTuple):
    name: str
    at_ns: int
    attributes: Attributes


class Span(NamedTuple):
    trace_id: int
    span_id: int
    parent_id: int  # 0: a root
    name: str
    start_ns: int
    end_ns: int
    attributes: Attributes
    error: str | None  # None: it went well
    events: tuple[Event, ...] = ()
    attempt: bool = False


class Traceparent(NamedTuple):
    trace_id: int
    parent_id: int
    flags: int
    state: str = ""  # the ``tracestate`` that belongs to it, as it came


def parse_traceparent(text: str) -> Traceparent | None:
    """Return what a W3C ``traceparent`` says, or ``None`` when it is not a valid one.

    Versions that are yet to come may say more after the flags; version ff is none, and upper case is not allowed.
    """
    match = _TRACEPARENT.fullmatch(text.strip())
    if match is None or match[1] == "ff" or (match[1] == "00" and match[5]):
        return None
    found = Traceparent(int(match[2], 16), int(match[3], 16), int(match[4], 16) & (SAMPLED | RANDOM_ID))
    return found if found.trace_id and found.parent_id else None


def sound_tracestate(text: str) -> str:
    """Return a W3C ``tracestate`` as it came, or "" when it is not a valid one: malformed, or of more than 32 members.

    Members may be empty. Two of one key are for those who know the key to judge.
    """
    members = [member for each in text.split(",") if (member := each.strip(" \t"))]
    if not members or len(members) > MAX_MEMBERS or not all(_MEMBER.fullmatch(member) for member in members):
        return ""
    return text.strip(" \t")


def carried(traceparent: str | None, tracestate: str | None) -> Traceparent | None:
    """Return the trace to continue, with the state that belongs to it; ``None`` without a valid ``traceparent``."""
    found = parse_traceparent(traceparent) if traceparent else None
    if found is None or not tracestate:
        return found
    return found._replace(state=sound_tracestate(tracestate))


class Tracer:
    """Collects spans; what does not fit is dropped and counted. With a ``sampler`` only what that keeps."""

    def __init__(self, *, enabled: bool, sampler: Sampler | None = None) -> None:
        self.enabled = enabled
        self.sampler = sampler
        self.slow_s = (SLOW_S if sampler is None else sampler.sampling.slow_s) if enabled else math.inf
        self.dropped = 0
        self.waiting: deque[Span] = deque()
        self._ids = random.Random()  # noqa: S311  ids, not secrets; seeded from the system's entropy

    def new_trace_id(self) -> int:
        return self._ids.getrandbits(128) or 1

    def new_span_id(self) -> int:
        return self._ids.getrandbits(64) or 1

    def add(self, span: Span) -> None:
        if len(self.waiting) >= MAX_SPANS:
            self.dropped += 1
            return
        self.waiting.append(span)

    def ended(self, spans: Sequence[Span]) -> None:
        """Take the spans of one call that has ended, its own last."""
        if self.sampler is not None:
            spans = self.sampler.sift(spans)
        for span in spans:
            self.add(span)

    def batch(self) -> list[Span]:
        """Take the oldest spans out of the queue."""
        taken: list[Span] = []
        while self.waiting and len(taken) < BATCH:
            taken.append(self.waiting.popleft())
        return taken

    def put_back(self, spans: list[Span]) -> None:
        """Put a batch that could not be sent yet back where it was."""
        self.waiting.extendleft(reversed(spans))


def encode(spans: list[Span], resource: Attributes, version: str) -> bytes:
    """Return an ExportTraceServiceRequest in gzipped JSON."""
    scope = {"name": "tidegate", "version": version}
    body = {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(resource)},
                "scopeSpans": [{"scope": scope, "spans": [_span(span) for span in spans]}],
            }
        ]
    }
    return gzip.compress(json.dumps(body, separators=(",", ":")).encode(), compresslevel=5)


def _span(span: Span) -> dict[str, Any]:
    encoded: dict[str, Any] = {
        "traceId": f"{span.trace_id:032x}",
        "spanId": f"{span.span_id:016x}",
        "name": span.name,
        "kind": _CLIENT if span.attempt else _INTERNAL,
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.end_ns),
        "attributes": _attributes(span.attributes),
        "status": {"code": _OK} if span.error is None else {"code": _ERROR, "message": span.error},
    }
    if span.parent_id:
        encoded["parentSpanId"] = f"{span.parent_id:016x}"
    if span.events:
        encoded["events"] = [
            {"name": event.name, "timeUnixNano": str(event.at_ns), "attributes": _attributes(event.attributes)}
            for event in span.events
        ]
    return encoded


def _attributes(attributes: Attributes) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: str | float | bool) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": value}

"""OTLP traces, protobuf or JSON, as rows of spans (OpenTelemetry protocol 1.x)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from controlplane.telemetry.otlp.attributes import Attribute, Word, clean, from_json, from_wire, known_attributes, made
from controlplane.telemetry.otlp.decoding import BadRequest, Decoded, Origin, Reading, Said, hex_of, names_nothing
from controlplane.telemetry.otlp.events import NONE, Event, events_json, links_json, wire_event, wire_link
from controlplane.telemetry.otlp.facts import Facts, facts_of
from controlplane.telemetry.otlp.usage import usage_of
from controlplane.telemetry.otlp.vocabulary import INPUT, OUTPUT, SESSION, TENANT, USER
from controlplane.telemetry.otlp.wire import LEN, VARINT, Malformed, fields, varint
from controlplane.telemetry.schemas import SpanRow

MAX_ATTRIBUTES = 256
MAX_EVENTS = 128
MAX_NAME, MAX_STATUS = 200, 500  # characters
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
_new = tuple.__new__  # what a NamedTuple does in the end; its constructor takes as long as five columns
_EPOCH_NS = 946_684_800 * 10**9  # PostgreSQL counts from the year 2000
_FIXED64 = struct.Struct("<Q").unpack_from
_ATTRIBUTE = 74  # the tag of one
_TRACE_ID, _SPAN_ID, _PARENT_ID = 0x100A, 0x0812, 0x0822  # tags with the lengths that ids have
_IDS = struct.Struct("<H16sH8sH").unpack_from
_TIMES = struct.Struct("<BBBQBQ").unpack_from
_LEAST_HEAD = 40  # two ids, a parent and the tag of a name with its length
_ENUMS = {
    **{f"SPAN_KIND_{name}": n for n, name in enumerate(("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"))},
    **{f"STATUS_CODE_{name}": n for n, name in enumerate(("UNSET", "OK", "ERROR"))},
}  # fmt: skip


class _Raw:
    """One span out of either encoding. Ids are hex, times nanoseconds. What most spans don't say is of the class."""

    trace_id = span_id = parent_id = name = message = ""
    kind = start_ns = end_ns = status = dropped = dropped_events = dropped_links = 0
    attributes: list[Attribute]
    events: Sequence[Event] = ()
    links: Sequence[Event] = ()


def decode_protobuf(body: bytes, reading: Reading) -> Decoded[SpanRow]:
    """Return the spans of a protobuf request; ``BadRequest`` when it is none."""
    made_ = _Rows(reading)
    try:
        for number, kind, start, end in fields(body, 0, len(body)):
            if number == 1 and kind == LEN:
                _resource_spans(body, start, end, made_)
    except (Malformed, IndexError, struct.error) as error:
        raise BadRequest(f"The body is no ExportTraceServiceRequest: {error}.") from None
    return made_.end()


def _resource_spans(body: bytes, start: int, end: int, made_: _Rows) -> None:
    resource: list[Attribute] = []
    scopes: list[tuple[int, int]] = []
    for number, kind, begin, stop in fields(body, start, end):
        if kind == LEN and number == 1:
            pairs = fields(body, begin, stop)
            resource += [from_wire(body[a:b]) for field, sort, a, b in pairs if field == 1 and sort == LEN]
        elif kind == LEN and number == 2:
            scopes.append((begin, stop))
    origin = Origin.of(resource)
    for begin, stop in scopes:
        scope, spans = "", list[tuple[int, int]]()
        for number, kind, a, b in fields(body, begin, stop):
            if kind == LEN and number == 2:
                spans.append((a, b))
            elif kind == LEN and number == 1:
                scope = _scope_name(body, a, b)
        for a, b in spans:
            made_.add(_wire_span(body, a, b), origin, scope)


def _scope_name(body: bytes, start: int, end: int) -> str:
    named = [body[a:b] for number, kind, a, b in fields(body, start, end) if number == 1 and kind == LEN]
    return clean(named[-1].decode("utf-8", "replace")) if named else ""


def _wire_span(data: bytes, at: int, end: int) -> _Raw:  # noqa: C901  (calls would cost more than what they do)
    """Walk over one span. The loop reads short tags and lengths itself: it runs for every field of every span."""
    raw = _Raw()
    attributes = raw.attributes = list[Attribute]()
    keep, seen = attributes.append, known_attributes
    at = _head(raw, data, at, end)
    while at < end:
        tag = data[at]
        if tag == _ATTRIBUTE and (length := data[at + 1]) < 0x80:  # as nearly all are
            stop = at + 2 + length
            pair = data[at + 2 : stop]
            keep(seen.get(pair) or from_wire(pair))
            at = stop
            continue
        at += 1
        if tag >= 0x80:
            tag, at = varint(data, at - 1)
        kind = tag & 7
        if kind == LEN:
            length = data[at]
            at += 1
            if length >= 0x80:
                length, at = varint(data, at - 1)
            stop = at + length
            if stop > end:
                raise Malformed("a field is longer than what is around it")
            if tag == _ATTRIBUTE:
                pair = data[at:stop]
                keep(seen.get(pair) or from_wire(pair))
            elif length:
                _long_field(raw, tag >> 3, data, at, stop)
            at = stop
        elif kind == 1:
            if tag == 57:
                raw.start_ns = _FIXED64(data, at)[0]
            elif tag == 65:
                raw.end_ns = _FIXED64(data, at)[0]
            at += 8
        elif kind == VARINT:
            value = data[at]
            at += 1
            if value >= 0x80:
                value, at = varint(data, at - 1)
            if tag == 48:
                raw.kind = value
            elif tag == 80:
                raw.dropped = value
            elif tag == 96:
                raw.dropped_events += value
            elif tag == 112:
                raw.dropped_links += value
        elif kind == 5:
            at += 4
        else:
            raise Malformed(f"a field of a span is of the kind {kind}")
    if at != end:
        raise Malformed("a field is longer than its span")
    return raw


def _head(raw: _Raw, data: bytes, at: int, end: int) -> int:
    """Take what nearly all spans begin with, as exporters write it: ids, name, kind and times. Return where that ends; the walk takes the rest."""
    if end - at < _LEAST_HEAD:
        return at
    first, trace_id, second, span_id, third = _IDS(data, at)
    if first != _TRACE_ID or second != _SPAN_ID:
        return at
    raw.trace_id, raw.span_id = trace_id.hex(), span_id.hex()
    at += 28
    if third == _PARENT_ID:
        raw.parent_id = data[at + 2 : at + 10].hex()
        at += 10
    if data[at] == 42 and data[at + 1] < 0x80:
        stop = at + 2 + data[at + 1]
        raw.name = clean(data[at + 2 : stop].decode("utf-8", "replace"))
        at = stop
    if end - at >= 20:
        kind_tag, kind, start_tag, start_ns, end_tag, end_ns = _TIMES(data, at)
        if kind_tag == 48 and kind < 0x80 and start_tag == 57 and end_tag == 65:
            raw.kind, raw.start_ns, raw.end_ns = kind, start_ns, end_ns
            at += 20
    return at


def _long_field(raw: _Raw, number: int, data: bytes, start: int, end: int) -> None:
    """Take one of the fields with a length, other than an attribute."""
    if number == 1:
        raw.trace_id = data[start:end].hex()
    elif number == 2:
        raw.span_id = data[start:end].hex()
    elif number == 4:
        raw.parent_id = data[start:end].hex()
    elif number == 5:
        raw.name = clean(data[start:end].decode("utf-8", "replace"))
    elif number == 11:
        if len(raw.events) < MAX_EVENTS:
            raw.events = [*raw.events, wire_event(data, start, end)]
        else:
            raw.dropped_events += 1
    elif number == 13:
        if len(raw.links) < MAX_EVENTS:
            raw.links = [*raw.links, wire_link(data, start, end)]
        else:
            raw.dropped_links += 1
    elif number == 15:
        _status(raw, data, start, end)


def _status(raw: _Raw, data: bytes, start: int, end: int) -> None:
    for field, kind, begin, stop in fields(data, start, end):
        if field == 3 and kind == VARINT:
            raw.status = begin
        elif field == 2 and kind == LEN:
            raw.message = clean(data[begin:stop].decode("utf-8", "replace"))


def decode_json(body: bytes, reading: Reading) -> Decoded[SpanRow]:
    """Return the spans of a JSON request; ``BadRequest`` when it is none."""
    made_ = _Rows(reading)
    try:
        for group in orjson.loads(body).get("resourceSpans") or []:
            resource = [from_json(pair) for pair in (group.get("resource") or {}).get("attributes") or []]
            origin = Origin.of(resource)
            for scope in group.get("scopeSpans") or []:
                name = clean(str((scope.get("scope") or {}).get("name") or ""))
                for span in scope.get("spans") or []:
                    made_.add(_json_span(span), origin, name)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadRequest(f"The body is no ExportTraceServiceRequest in JSON: {error!r}.") from None
    return made_.end()


def _json_span(span: Mapping[str, Any]) -> _Raw:
    raw = _Raw()
    status = span.get("status") or {}
    raw.trace_id = hex_of(span.get("traceId"))
    raw.span_id = hex_of(span.get("spanId"))
    raw.parent_id = hex_of(span.get("parentSpanId"))
    raw.name = clean(str(span.get("name") or ""))
    raw.kind = _enum(span.get("kind"))
    raw.start_ns = int(span.get("startTimeUnixNano") or 0)
    raw.end_ns = int(span.get("endTimeUnixNano") or 0)
    raw.status = _enum(status.get("code"))
    raw.message = clean(str(status.get("message") or ""))
    raw.dropped = int(span.get("droppedAttributesCount") or 0)
    raw.attributes = [from_json(pair) for pair in span.get("attributes") or []]
    events, links = span.get("events") or [], span.get("links") or []
    raw.dropped_events = int(span.get("droppedEventsCount") or 0) + max(0, len(events) - MAX_EVENTS)
    raw.dropped_links = int(span.get("droppedLinksCount") or 0) + max(0, len(links) - MAX_EVENTS)
    raw.events = [
        Event(
            clean(str(event.get("name") or "")),
            int(event.get("timeUnixNano") or 0),
            [from_json(pair) for pair in event.get("attributes") or []],
        )
        for event in events[:MAX_EVENTS]
    ]
    raw.links = [
        Event(
            f"{hex_of(link.get('traceId'))}/{hex_of(link.get('spanId'))}",
            0,
            [from_json(pair) for pair in link.get("attributes") or []],
        )
        for link in links[:MAX_EVENTS]
    ]
    return raw


def _enum(value: Any) -> int:
    """Return the number of an enum. The specification allows numbers only; some exporters write names all the same."""
    return _ENUMS.get(value, 0) if isinstance(value, str) else int(value or 0)


class _Rows:
    """Makes rows of raw spans, and counts those that can't be kept."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._said = Said()
        self.decoded: Decoded[SpanRow] = Decoded()

    def add(self, raw: _Raw, origin: Origin, scope: str) -> None:
        fault = _fault(raw, self._reading.until_ns)
        if fault:
            self.decoded.reject(fault)
            return
        said = dict(origin.said)
        words: list[Word] = []
        ranks: dict[int, int] = {}
        kept: list[bytes] = []
        messages: list[tuple[str, Any]] = []
        cuts: dict[str, int] = {}
        for key, json, slot, rank, value, cut, message, says, word in raw.attributes[:MAX_ATTRIBUTES]:
            if cut:
                cuts[key] = cut
            if message:
                messages.append((key, value))
                continue
            kept.append(json)
            if word is not None:
                words.append(word)
            elif slot and (slot not in ranks or rank <= ranks[slot]):
                ranks[slot] = rank
                said[slot] = says
        self._finish(raw, origin, scope, said, facts_of(origin.words, tuple(words)), kept, messages, cuts)

    def _finish(
        self,
        raw: _Raw,
        origin: Origin,
        scope: str,
        said: dict[int, Any],
        facts: Facts,
        kept: list[bytes],
        messages: list[tuple[str, Any]],
        cuts: dict[str, int],
    ) -> None:
        get = said.get
        tenant = self._reading.tenant_of(get(TENANT, ""))[:64]
        starts_us = (raw.start_ns - _EPOCH_NS) // 1000
        operation = facts.operation or ("chat" if INPUT in said or OUTPUT in said else "")
        usage = usage_of(said, facts, operation, raw.kind, self._reading.price_of)
        events = NONE
        if raw.events:
            events, in_events = events_json(raw.events, cuts)
            messages += in_events
        if raw.dropped or len(raw.attributes) > MAX_ATTRIBUTES:
            cuts["(attributes)"] = raw.dropped + max(0, len(raw.attributes) - MAX_ATTRIBUTES)
        if raw.dropped_events or raw.dropped_links or len(raw.name) > MAX_NAME or len(raw.message) > MAX_STATUS:
            cuts.update(_shortened(raw))
        if cuts:
            kept.append(made("tidegate.cut", cuts).json)
        if usage.estimated:
            kept.append(b'"tidegate.cost.estimated":true')
        if messages:
            kept.append(b'"tidegate.messages":"%b"' % self._keep(messages, starts_us, raw, tenant))
        row = (
            starts_us,
            max(0, raw.end_ns - raw.start_ns) // 1000,
            raw.kind if 0 <= raw.kind <= 5 else 0,
            raw.status if 0 <= raw.status <= 2 else 0,
            usage.by,
            usage.input_tokens,
            usage.output_tokens,
            usage.cached_tokens,
            usage.reasoning_tokens,
            usage.cost_nusd,
            usage.ttft_us,
            raw.trace_id,
            raw.span_id,
            raw.parent_id if raw.parent_id != _NO_SPAN and raw.parent_id.strip("0") else "",
            tenant,
            origin.service,
            scope[:120],
            raw.name[:MAX_NAME],
            raw.message[:MAX_STATUS],
            operation,
            *facts[1:],
            get(SESSION, "")[:120],
            get(USER, "")[:120],
            b"{%b}" % b",".join(kept),
            origin.json,
            events,
            links_json(raw.links) if raw.links else NONE,
        )
        self.decoded.rows.append(_new(SpanRow, row))

    def _keep(self, messages: Iterable[tuple[str, Any]], starts_us: int, raw: _Raw, tenant: str) -> bytes:
        """Put what was said aside, to be redacted, where the tenant wants that; else drop it. Return which of the two."""
        redactor = self._reading.redactor_of(tenant)
        if redactor is None:
            return b"withheld"
        self._said.add(redactor, starts_us, raw.trace_id, raw.span_id, tenant, messages)
        return b"kept"

    def end(self) -> Decoded[SpanRow]:
        """Return all that was made."""
        self.decoded.messages += self._said.masked()
        return self.decoded


def _shortened(raw: _Raw) -> dict[str, int]:
    """Return of what of a span less is kept than there was: how many are not, or how long a text was."""
    found = {"(events)": raw.dropped_events, "(links)": raw.dropped_links}
    found["(name)"] = len(raw.name) if len(raw.name) > MAX_NAME else 0
    found["(status)"] = len(raw.message) if len(raw.message) > MAX_STATUS else 0
    return {name: amount for name, amount in found.items() if amount}


def _fault(raw: _Raw, until_ns: int) -> str:
    """Return why a span can't be kept. Its ids are hex, however it came."""
    if len(raw.trace_id) != 32 or raw.trace_id == _NO_TRACE:
        return "a trace id must have 16 bytes that are not all zero"
    if len(raw.span_id) != 16 or raw.span_id == _NO_SPAN:
        return "a span id must have 8 bytes that are not all zero"
    if len(raw.parent_id) != 16 and not names_nothing(raw.parent_id):
        return "a parent span id must have 8 bytes"
    if not 0 < raw.start_ns < until_ns or raw.end_ns >= until_ns:
        return "a span must start and end at a time, in nanoseconds since 1970, that is not to come"
    return ""

"""Events and links of spans: as JSON for the table, with what somebody said taken out of them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from controlplane.telemetry.otlp.attributes import Attribute, clean, from_wire
from controlplane.telemetry.otlp.vocabulary import is_message_event
from controlplane.telemetry.otlp.wire import I64, LEN, fields

MAX_ATTRIBUTES = 64
NONE = b"[]"
_FIXED64 = struct.Struct("<Q").unpack_from
_HARMLESS = frozenset({"gen_ai.system", "gen_ai.provider.name", "role", "index", "finish_reason", "id", "name"})


class Event(NamedTuple):
    """An event, or a link: then ``name`` is ``trace/span``."""

    name: str
    at_ns: int
    attributes: list[Attribute]


def wire_event(data: bytes, start: int, end: int) -> Event:
    """Return the event that stands in ``data`` from ``start`` to ``end``; ``Malformed`` when none does."""
    name, at_ns, attributes = "", 0, list[Attribute]()
    for number, kind, begin, stop in fields(data, start, end):
        if number == 1 and kind == I64:
            at_ns = _FIXED64(data, begin)[0]
        elif number == 2 and kind == LEN:
            name = clean(data[begin:stop].decode("utf-8", "replace"))
        elif number == 3 and kind == LEN:
            attributes.append(from_wire(data[begin:stop]))
    return Event(name, at_ns, attributes)


def wire_link(data: bytes, start: int, end: int) -> Event:
    """Return the link that stands there, its ids in hex, as an event at 0."""
    trace_id, span_id, attributes = "", "", list[Attribute]()
    for number, kind, begin, stop in fields(data, start, end):
        if kind != LEN:
            continue
        if number == 1:
            trace_id = data[begin:stop].hex()
        elif number == 2:
            span_id = data[begin:stop].hex()
        elif number == 4:
            attributes.append(from_wire(data[begin:stop]))
    return Event(f"{trace_id}/{span_id}", 0, attributes)


def events_json(events: Sequence[Event], cuts: dict[str, int]) -> tuple[bytes, list[tuple[str, Any]]]:
    """Return ``[{"name", "at_ns", "attributes"}]``, and what was said in the events by name; what was cut is noted in ``cuts``."""
    if not events:
        return NONE, []
    said: list[tuple[str, Any]] = []
    made = []
    for event in events:
        tells = is_message_event(event.name)
        kept = []
        if len(event.attributes) > MAX_ATTRIBUTES:
            cuts[f"{event.name}/(attributes)"] = len(event.attributes) - MAX_ATTRIBUTES
        for attribute in event.attributes[:MAX_ATTRIBUTES]:
            if attribute.cut:
                cuts[f"{event.name}/{attribute.key}"] = attribute.cut
            if attribute.message or (tells and attribute.key not in _HARMLESS):
                said.append((f"{event.name}/{attribute.key}", attribute.value))
            else:
                kept.append(attribute.json)
        made.append(
            b'{"name":%b,"at_ns":%d,"attributes":{%b}}' % (orjson.dumps(event.name[:200]), event.at_ns, b",".join(kept))
        )
    return b"[" + b",".join(made) + b"]", said


def links_json(links: Sequence[Event]) -> bytes:
    """Return ``[{"trace_id", "span_id", "attributes"}]``."""
    if not links:
        return NONE
    made = []
    for link in links:
        trace_id, _, span_id = link.name.partition("/")
        kept = b",".join(attribute.json for attribute in link.attributes[:MAX_ATTRIBUTES] if not attribute.message)
        made.append(
            b'{"trace_id":%b,"span_id":%b,"attributes":{%b}}'
            % (orjson.dumps(trace_id[:32]), orjson.dumps(span_id[:16]), kept)
        )
    return b"[" + b",".join(made) + b"]"

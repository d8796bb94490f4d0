"""Export requests as genuine exporters send them, and as broken ones do."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from controlplane.telemetry.otlp.decoding import BadRequest, Decoded, Reading
from controlplane.telemetry.otlp.response import answer
from controlplane.telemetry.otlp.spans import decode_json, decode_protobuf
from controlplane.telemetry.schemas import SpanRow

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


PLAIN = Reading(lambda claimed: claimed)


def unpacked(body: bytes) -> bytes:
    return gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body


@pytest.mark.parametrize("capture", ["py-traceloop", "py-openinference", "js-traceloop-json"])
def test_decode__a_genuine_capture__has_the_spans_and_tokens_that_it_states(shared: Path, capture: str) -> None:
    suite = shared / "suites" / "otlp"
    truth = json.loads((suite / "truth.json").read_text())[capture]
    bodies = sorted((suite / "captures" / capture).glob("*-traces.body"))
    decode = decode_json if capture.endswith("json") else decode_protobuf

    rows = [row for body in bodies for row in decode(unpacked(body.read_bytes()), PLAIN).rows]

    leaves = [row for row in rows if row.input_tokens]
    assert len(rows) == truth["spans"]
    assert sum(row.status == 2 for row in rows) == truth["error_spans"]
    assert {row.service for row in rows} == set(truth["services"])
    assert sum(row.input_tokens or 0 for row in leaves) == truth["input_tokens"]
    assert sum(row.output_tokens or 0 for row in leaves) == truth["output_tokens"]


def span(**more: Any) -> dict[str, Any]:
    return {"traceId": TRACE, "spanId": SPAN, "name": "chat", "startTimeUnixNano": "1790000000000000000", **more}


def decode(*spans: dict[str, Any], reading: Reading = PLAIN) -> Decoded[SpanRow]:
    return decode_json(orjson.dumps({"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}), reading)


@pytest.mark.parametrize(
    "broken",
    [
        {"traceId": "0" * 32},
        {"traceId": "12"},
        {"spanId": "x" * 16},
        {"parentSpanId": "12"},
        {"startTimeUnixNano": "0"},
    ],
)
def test_decode__a_span_that_can_not_be_kept__is_counted_with_the_reason(broken: dict[str, Any]) -> None:
    decoded = decode(span(), span(**broken))

    assert (len(decoded.rows), decoded.rejected) == (1, 1)
    assert (
        decoded.reason in orjson.loads(answer(decoded, "rejectedSpans", as_json=True))["partialSuccess"]["errorMessage"]
    )


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"resourceSpans": 3}', b'{"resourceSpans": [{"scopeSpans": [3]}]}']
)
def test_decode_json__what_is_no_request__is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        decode_json(body, PLAIN)


def test_decode_protobuf__bytes_of_something_else__are_refused_and_none_are_an_empty_request() -> None:
    with pytest.raises(BadRequest):
        decode_protobuf(b"\xff\xff\xff", PLAIN)
    assert decode_protobuf(b"", PLAIN).rows == []


def test_decode__hostile_text__becomes_what_the_database_can_keep() -> None:
    attributes = [
        {"key": "a\x00b", "value": {"stringValue": "c\x00d" + "e" * 100_000}},
        {"key": "n", "value": {"doubleValue": "NaN"}},
    ]

    (row,) = decode(span(name="x\x00" * 300, attributes=attributes)).rows

    kept = orjson.loads(row.attributes)
    assert "\x00" not in orjson.dumps(kept).decode() + row.name
    assert len(row.name) == 200
    assert len(kept["a�b"]) == 8193
    assert kept["tidegate.cut"] == {"a�b": 100_003, "(name)": 600}
    assert kept["n"] == "nan"


def test_decode__more_events_and_links_than_are_kept__says_how_many() -> None:
    link = {"traceId": TRACE, "spanId": SPAN}
    many = {"key": "e", "value": {"stringValue": "e" * 9000}}
    whole = {"events": [{"name": "e", "attributes": [many] * 70}] * 130, "links": [link] * 131, "droppedEventsCount": 3}

    (row,) = decode(span(**whole, status={"message": "m" * 501})).rows

    assert orjson.loads(row.attributes)["tidegate.cut"] == {
        "(events)": 5, "(links)": 3, "(status)": 501, "e/(attributes)": 6, "e/e": 9000,
    }  # fmt: skip
    assert (len(orjson.loads(row.events)), len(orjson.loads(row.links))) == (128, 128)


def test_decode_protobuf__more_events_and_links_than_are_kept__says_how_many() -> None:
    request = ExportTraceServiceRequest()
    made = request.resource_spans.add().scope_spans.add().spans.add(name="chat", start_time_unix_nano=10**18)
    made.trace_id, made.span_id = bytes.fromhex(TRACE), bytes.fromhex(SPAN)
    made.dropped_events_count, made.dropped_links_count = 3, 4
    for _ in range(130):
        made.events.add(name="e")
        made.links.add(trace_id=bytes.fromhex(TRACE), span_id=bytes.fromhex(SPAN))

    (row,) = decode_protobuf(request.SerializeToString(), PLAIN).rows

    assert orjson.loads(row.attributes)["tidegate.cut"] == {"(events)": 5, "(links)": 6}


def test_decode__lists_and_depths_beyond_what_is_kept__say_so() -> None:
    deep: dict[str, Any] = {"stringValue": "x"}
    for _ in range(20):
        deep = {"arrayValue": {"values": [deep]}}
    attributes = [
        {"key": "list", "value": {"arrayValue": {"values": [{"boolValue": True}] * 300}}},
        {"key": "map", "value": {"kvlistValue": {"values": [{"key": f"k{n}", "value": {}} for n in range(258)]}}},
        {"key": "deep", "value": deep},
    ]

    (row,) = decode(span(attributes=attributes)).rows

    kept = orjson.loads(row.attributes)
    assert (len(kept["list"]), kept["list"][-1]) == (257, "… 44 more")
    assert kept["map"]["…"] == "2 more"
    assert "…" in orjson.dumps(kept["deep"]).decode()


def test_decode__values_that_are_equal_but_not_the_same__are_told_apart() -> None:
    first, second = ([{"key": "on", "value": {"boolValue": value}}] for value in (1, True))

    decode(span(attributes=first))
    (row,) = decode(span(attributes=second)).rows

    assert orjson.loads(row.attributes) == {"on": True}


def test_decode__bytes_in_either_encoding__are_the_same_text() -> None:
    request = ExportTraceServiceRequest()
    made = request.resource_spans.add().scope_spans.add().spans.add(name="chat", start_time_unix_nano=10**18)
    made.trace_id, made.span_id = bytes.fromhex(TRACE), bytes.fromhex(SPAN)
    made.attributes.add(key="b").value.bytes_value = b"\xff\x00"

    (ours,) = decode(span(attributes=[{"key": "b", "value": {"bytesValue": "/wA="}}])).rows
    (theirs,) = decode_protobuf(request.SerializeToString(), PLAIN).rows

    assert ours.attributes == theirs.attributes == b'{"b":"ff00"}'


@pytest.mark.parametrize("times", [{"startTimeUnixNano": 10**18 + 1}, {"endTimeUnixNano": str(10**40)}])
def test_decode__a_span_of_a_time_to_come__is_refused(times: dict[str, Any]) -> None:
    reading = PLAIN._replace(until_ns=10**18)

    assert len(decode(span(startTimeUnixNano=10**18 - 1), reading=reading).rows) == 1
    assert "not to come" in decode(span(**{"startTimeUnixNano": 1, **times}), reading=reading).reason


def test_decode__protobuf_and_json_of_one_span__are_the_same_row() -> None:
    request = ExportTraceServiceRequest()
    made = request.resource_spans.add().scope_spans.add().spans.add()
    made.trace_id, made.span_id, made.name = bytes.fromhex(TRACE), bytes.fromhex(SPAN), "chat"
    made.start_time_unix_nano = 1790000000000000000
    tokens = made.attributes.add()
    tokens.key, tokens.value.int_value = "gen_ai.usage.input_tokens", 7

    (theirs,) = decode_protobuf(request.SerializeToString(), PLAIN).rows
    (ours,) = decode(span(attributes=[{"key": "gen_ai.usage.input_tokens", "value": {"intValue": "7"}}])).rows

    assert theirs == ours
    assert ours.input_tokens == 7

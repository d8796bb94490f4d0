"""The direct walk over protobuf, held against protobuf's own parser."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, TracesData

from controlplane.telemetry.otlp.attributes import from_json, from_wire
from controlplane.telemetry.otlp.decoding import BadRequest, Reading
from controlplane.telemetry.otlp.spans import decode_json, decode_protobuf
from controlplane.telemetry.otlp.wire import Malformed, fields

PLAIN = Reading(lambda claimed: claimed)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
scalars = st.one_of(
    texts.map(lambda text: AnyValue(string_value=text)),
    st.booleans().map(lambda truth: AnyValue(bool_value=truth)),
    st.integers(-(2**63), 2**63 - 1).map(lambda number: AnyValue(int_value=number)),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda number: AnyValue(double_value=number)),
    st.binary(max_size=20).map(lambda data: AnyValue(bytes_value=data)),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: AnyValue(array_value=ArrayValue(values=items))),
        st.dictionaries(texts, inner, max_size=3).map(
            lambda items: AnyValue(
                kvlist_value=KeyValueList(values=[KeyValue(key=k, value=v) for k, v in items.items()])
            )
        ),
    ),
    max_leaves=6,
)


def plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: plain(pair.value) for pair in value.kvlist_value.values}
    if kind == "bytes_value":
        return value.bytes_value.hex()
    return getattr(value, kind) if kind else None


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20), values)
def test_from_wire__any_attribute__has_the_value_that_the_parser_reads(key: str, value: AnyValue) -> None:
    pair = KeyValue(key=key, value=value)

    found = from_wire(pair.SerializeToString())

    assert found.key == key
    assert found.value == plain(value)
    assert orjson.loads(b"{" + found.json + b"}") == orjson.loads(orjson.dumps({key: plain(value)}))


@given(st.binary(max_size=60))
def test_fields__any_bytes__are_walked_or_refused(data: bytes) -> None:
    try:
        found = list(fields(data, 0, len(data)))
    except Malformed:
        return
    assert all(0 <= stop <= len(data) for _, _, _, stop in found)


@settings(max_examples=300)
@given(st.binary(max_size=80))
def test_decode_protobuf__any_bytes__are_spans_or_a_bad_request(data: bytes) -> None:
    body = TracesData(resource_spans=[ResourceSpans()]).SerializeToString() + b"\x0a" + bytes([len(data)]) + data

    try:
        decoded = decode_protobuf(body, PLAIN)
    except BadRequest:
        return
    assert len(decoded.rows) + decoded.rejected <= len(data)


def test_decode_protobuf__cut_anywhere__never_reads_past_the_end() -> None:
    data = TracesData()
    span = data.resource_spans.add().scope_spans.add().spans.add(name="chat" * 50, start_time_unix_nano=1, kind=3)
    span.trace_id, span.span_id = b"t" * 16, b"s" * 8
    span.attributes.add(key="k").value.string_value = "v" * 200
    body = data.SerializeToString()

    for length in range(1, len(body)):
        with pytest.raises(BadRequest):
            decode_protobuf(body[:length], PLAIN)
    assert len(decode_protobuf(body, PLAIN).rows) == 1


def test_from_json__numbers_as_text_and_as_numbers__are_the_same() -> None:
    as_text = from_json({"key": "n", "value": {"intValue": "7"}})
    as_number = from_json({"key": "n", "value": {"intValue": 7}})
    truth = from_json({"key": "n", "value": {"boolValue": True}})

    assert as_text.value == as_number.value == 7
    assert truth.value is True


def test_decode_json__everything_left_out__is_an_empty_request() -> None:
    assert decode_json(b'{"resourceSpans": [{"scopeSpans": [{}]}, {}], "more": 1}', PLAIN).rows == []

"""The OTLP/HTTP contract, asked in process: encodings, compressions, limits, refusals in the words of exporters."""

from __future__ import annotations

import asyncio
import gzip
import time
import zlib
from collections.abc import Iterator
from typing import Any

import orjson
import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from google.rpc.status_pb2 import Status  # the stock exporter brings it
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from controlplane.edge import http, writer
from controlplane.edge.app import Edge
from controlplane.telemetry.actions import points, spans
from controlplane.telemetry.models import Span
from tests.edge.conftest import Caller, Reply

TRACE = "0af7651916cd43dd8448eb211c80319c"
JSON = {"content-type": "application/json"}
PROTOBUF = {"content-type": "application/x-protobuf"}


def request(count: int = 1, first: int = 1) -> ExportTraceServiceRequest:
    made = ExportTraceServiceRequest()
    group = made.resource_spans.add()
    name = group.resource.attributes.add()
    name.key, name.value.string_value = "service.name", "app"
    spans = group.scope_spans.add().spans
    for number in range(count):
        span = spans.add(name="chat", kind=3, start_time_unix_nano=1_700_000_000_000_000_000 + number)
        span.end_time_unix_nano = span.start_time_unix_nano + 5_000_000
        span.trace_id, span.span_id = bytes.fromhex(TRACE), (first + number).to_bytes(8, "big")
        for key, value in (("gen_ai.usage.input_tokens", 7), ("gen_ai.usage.output_tokens", 3)):
            attribute = span.attributes.add()
            attribute.key, attribute.value.int_value = key, value
        operation = span.attributes.add()
        operation.key, operation.value.string_value = "gen_ai.operation.name", "chat"
    return made


def json_body(**more: Any) -> bytes:
    span = {
        "traceId": TRACE.upper(),
        "spanId": "B7AD6B7169203331",
        "name": "chat",
        "startTimeUnixNano": 1_700_000_000 * 10**9,
    }
    return orjson.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [{**span, **more}]}]}], "unknown": {"a": 1}})


async def stored() -> list[Span]:
    def read() -> list[Span]:
        return list(Span.objects.order_by("starts_at", "span_id"))

    return await sync_to_async(read)()


@pytest.mark.parametrize(
    "kind", ["application/x-protobuf", "application/x-protobuf; charset=utf-8", "Application/X-Protobuf"]
)
async def test_traces__protobuf__are_stored_before_an_empty_200_in_protobuf(kind: str, ask: Caller) -> None:
    reply = await ask("POST", "/v1/traces", request(3).SerializeToString(), {"content-type": kind})

    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["content-type"] == "application/x-protobuf"
    assert [(span.tenant, span.service, span.input_tokens) for span in await stored()] == [("acme", "app", 7)] * 3


async def test_traces__json_with_upper_case_ids_numbers_and_unknown_fields__are_stored(ask: Caller) -> None:
    reply = await ask(
        "POST", "/v1/traces", json_body(kind=3, endTimeUnixNano="1700000001000000000", oddField=[1]), JSON
    )

    (span,) = await stored()
    assert (reply.status, reply.body, reply.headers["content-type"]) == (200, b"{}", "application/json")
    assert (span.trace_id, span.span_id, span.duration_us, span.kind) == (TRACE, "b7ad6b7169203331", 1_000_000, 3)


def packings() -> Iterator[tuple[str, bytes]]:
    body = request(2).SerializeToString()
    bare = zlib.compressobj(wbits=-15)
    yield "gzip", gzip.compress(body, mtime=0)
    yield "GZIP", gzip.compress(body, mtime=0)
    yield "gzip", gzip.compress(body[:50], mtime=0) + gzip.compress(body[50:], mtime=0)
    yield "deflate", zlib.compress(body)
    yield "deflate", bare.compress(body) + bare.flush()
    yield "identity", body
    yield "", body


@pytest.mark.parametrize(("encoding", "body"), list(packings()))
async def test_traces__any_compression__is_unpacked(encoding: str, body: bytes, ask: Caller) -> None:
    reply = await ask("POST", "/v1/traces", body, {**PROTOBUF, "content-encoding": encoding})

    assert reply.status == 200
    assert len(await stored()) == 2


@pytest.mark.parametrize("headers", [JSON, PROTOBUF])
async def test_traces__empty_request__is_taken(headers: dict[str, str], ask: Caller) -> None:
    assert (await ask("POST", "/v1/traces", b"", headers)).status == 200
    assert (await ask("POST", "/v1/traces", b"{}" if headers is JSON else b"", headers)).status == 200


async def test_traces__some_can_not_be_kept__are_counted_and_the_others_stored(ask: Caller) -> None:
    made = request(3)
    made.resource_spans[0].scope_spans[0].spans[1].trace_id = b"short"

    reply = await ask("POST", "/v1/traces", made.SerializeToString(), PROTOBUF)

    partial = ExportTraceServiceResponse.FromString(reply.body).partial_success
    assert (reply.status, partial.rejected_spans) == (200, 1)
    assert "trace id" in partial.error_message
    assert len(await stored()) == 2


def status_of(reply: Reply) -> Status:
    assert reply.headers["content-type"] == "application/x-protobuf"
    return Status.FromString(reply.body)


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"\xff\xff\xff", {}, 400, 3),
        (b"\x1f\x8bnot", {"content-encoding": "gzip"}, 400, 3),
        (gzip.compress(b"x" * 1000, mtime=0)[:-9], {"content-encoding": "gzip"}, 400, 3),
        (zlib.compress(b"") + b"more", {"content-encoding": "deflate"}, 400, 3),
        (b"", {"content-encoding": "zstd"}, 415, 3),
        (b"", {"authorization": "Bearer nobody"}, 401, 16),
    ],
)
async def test_traces__refused__says_why_as_a_status_in_protobuf(
    body: bytes, headers: dict[str, str], status: int, code: int, ask: Caller
) -> None:
    reply = await ask("POST", "/v1/traces", body, {**PROTOBUF, **headers})

    said = status_of(reply)
    assert (reply.status, said.code) == (status, code)
    assert said.message
    assert len(said.details) == (status == 400)


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
async def test_traces__identity__is_taken_as_it_is(encoding: str, ask: Caller) -> None:
    body = request().SerializeToString()

    assert (await ask("POST", "/v1/traces", body, {**PROTOBUF, "content-encoding": encoding})).status == 200


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/metrics", "/v1/logs"])
async def test_otlp__encoding_that_is_not_known__names_those_that_are_in_a_status(path: str, ask: Caller) -> None:
    refused = await ask("POST", path, b"x", {**JSON, "content-encoding": "br"})

    assert (refused.status, refused.json()["code"]) == (415, 3)
    assert "gzip, deflate, identity" in refused.json()["message"]


async def test_traces__refused__says_why_as_a_status_in_json(ask: Caller) -> None:
    bad = await ask("POST", "/v1/traces", b"{", JSON)
    type_ = await ask("POST", "/v1/traces", b"x", {"content-type": "text/plain"})

    assert (bad.status, bad.json()["code"], bad.json()["details"][0]["fieldViolations"][0]["field"]) == (400, 3, "body")
    assert (type_.status, type_.json()["code"]) == (415, 3)


async def test_otlp__other_methods_and_paths__are_refused_and_never_redirected(ask: Caller) -> None:
    for path in ("/v1/traces", "/v1/metrics", "/v1/logs"):
        refused = await ask("GET", path, b"", PROTOBUF)
        assert (refused.status, refused.headers["allow"], status_of(refused).code) == (405, "POST", 12)
    assert (await ask("PUT", "/v1/logs", b"", JSON)).json()["code"] == 12
    assert (await ask("POST", "/v1/traces/", b"", PROTOBUF)).status == 404


async def test_traces__a_batch_sent_twice__leaves_the_same_rows(ask: Caller) -> None:
    body = request(5).SerializeToString()

    first = await ask("POST", "/v1/traces", body, PROTOBUF)
    before = [vars(span) for span in await stored()]
    second = await ask("POST", "/v1/traces", request(7).SerializeToString(), PROTOBUF)
    third = await ask("POST", "/v1/traces", body, PROTOBUF)

    rows = await stored()
    assert [first.status, second.status, third.status] == [200] * 3
    assert len(before) == 5
    assert sum(row.input_tokens or 0 for row in rows) == 7 * 7


async def test_traces__many_at_once_and_twice__are_each_stored_once(ask: Caller, edge: Edge) -> None:
    bodies = [request(20, first=1 + 20 * number).SerializeToString() for number in range(30)] * 2

    replies = await asyncio.gather(*(ask("POST", "/v1/traces", body, PROTOBUF) for body in bodies))

    assert {reply.status for reply in replies} == {200}
    assert len(await stored()) == 600
    assert edge._otlp.traces.writer.groups < 60


async def test_traces__more_than_the_limit__is_413_without_unpacking_it_all(
    ask: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "OTLP_MAX_BYTES", 100_000)
    bomb = gzip.compress(bytes(50_000_000), 9)

    packed = await ask("POST", "/v1/traces", bomb, {**PROTOBUF, "content-encoding": "gzip"})
    plain = await ask("POST", "/v1/traces", bytes(100_001), PROTOBUF)
    announced = await ask("POST", "/v1/traces", b"", {**PROTOBUF, "content-length": "100001"})

    assert [packed.status, plain.status, announced.status] == [413] * 3
    assert status_of(packed).code == 3


async def test_traces__no_room__is_429_to_come_back_soon(ask: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MAX_QUEUED_BYTES", 0)

    reply = await ask("POST", "/v1/traces", request().SerializeToString(), PROTOBUF)

    assert (reply.status, reply.headers["retry-after"], status_of(reply).code) == (429, "1", 8)
    assert await stored() == []


async def test_traces__no_memory_for_the_body__is_429_and_what_was_held_is_free_again(
    ask: Caller, edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlplane.edge.otlp.MAX_HELD", 10)

    reply = await ask("POST", "/v1/traces", request().SerializeToString(), PROTOBUF)

    assert reply.status == 429
    assert edge._otlp.held == 0


async def test_traces__others_hold_all_that_may_be_held__is_429(
    ask: Caller, edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlplane.edge.otlp.MAX_OTHERS", 1000)
    body = request().SerializeToString()

    alone = await ask("POST", "/v1/traces", body, PROTOBUF)
    edge._otlp.held += 1001
    beside = await ask("POST", "/v1/traces", body, PROTOBUF)
    edge._otlp.held -= 1001

    assert (alone.status, beside.status, beside.headers["retry-after"]) == (200, 429, "1")
    assert edge._otlp.held == 0


async def test_traces__others_have_waited_too_long__is_429_before_it_is_read(ask: Caller, edge: Edge) -> None:
    body = request().SerializeToString()
    turn = object()
    edge._otlp._since[turn] = asyncio.get_running_loop().time() - 3.5
    late = await ask("POST", "/v1/traces", body, PROTOBUF)
    del edge._otlp._since[turn]

    assert (late.status, late.headers["retry-after"]) == (429, "1")
    assert (await ask("POST", "/v1/traces", body, PROTOBUF)).status == 200


async def test_traces__a_body_that_does_not_come__times_out(
    ask: Caller, edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "BODY_S", 0.05)
    sent: list[Any] = []
    pieces = [{"type": "http.request", "body": b"\x0a", "more_body": True}]

    async def receive() -> Any:
        if pieces:
            return pieces.pop()
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", f"Bearer {ask.key}".encode()), (b"content-type", b"application/x-protobuf")]
    scope = {"type": "http", "method": "POST", "path": "/v1/traces", "query_string": b"", "headers": headers}
    await edge(scope, receive, send)

    assert sent[0]["status"] == 408


async def test_traces__one_batch_that_the_database_refuses__does_not_harm_the_others(
    ask: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = spans.store

    async def picky(connection: Any, rows: Any, messages: Any = ()) -> None:
        if any(b"poison" in row for row in rows):
            raise psycopg.DataError("no poison here")
        await real(connection, rows, messages)

    monkeypatch.setattr(spans, "store", picky)
    bodies = [request(2, first=10 * number).SerializeToString() for number in range(1, 4)]
    poisoned = request(1, first=99)
    poisoned.resource_spans[0].scope_spans[0].spans[0].name = "poison"

    replies = await asyncio.gather(
        *(ask("POST", "/v1/traces", body, PROTOBUF) for body in [*bodies, poisoned.SerializeToString()])
    )

    assert [reply.status for reply in replies] == [200, 200, 200, 400]
    assert "no poison" in status_of(replies[3]).message
    assert len(await stored()) == 6


async def test_metrics__one_batch_that_can_not_be_written__does_not_harm_the_others(
    ask: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = points.store

    async def picky(connection: Any, batches: Any, *, now: Any) -> None:
        if any(row.key.name == "poison" for batch in batches for row in batch.rows):
            raise TypeError("Integer exceeds 64-bit range")
        await real(connection, batches, now=now)

    monkeypatch.setattr(points, "store", picky)

    def gauge(name: str) -> bytes:
        point = {"timeUnixNano": str(time.time_ns()), "asInt": "1"}
        metric = {"name": name, "gauge": {"dataPoints": [point]}}
        return orjson.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]})

    replies = await asyncio.gather(*(ask("POST", "/v1/metrics", gauge(n), JSON) for n in ("a", "b", "poison", "c")))

    assert [reply.status for reply in replies] == [200, 200, 400, 200]


async def test_traces__spans_of_next_week__are_refused_one_by_one(ask: Caller) -> None:
    week_ns = 7 * 86_400 * 10**9
    first, second = json_body(), json_body(startTimeUnixNano=str(time.time_ns() + week_ns))

    assert (await ask("POST", "/v1/traces", first, JSON)).json() == {}
    said = (await ask("POST", "/v1/traces", second, JSON)).json()["partialSuccess"]
    assert said["rejectedSpans"] == "1"
    assert "not to come" in said["errorMessage"]

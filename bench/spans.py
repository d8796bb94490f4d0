"""Export requests to send: of agents, of plain calls, or of what instrumentations really sent once, made anew."""

from __future__ import annotations

import base64
import gzip
import random
import string
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

BATCH = 512
AGENTS, CALLS, CAPTURES = "agents", "calls", "captures"
SHAPES = (AGENTS, CALLS, CAPTURES)
MODELS = ("gpt-4o-2024-08-06", "gpt-4o-mini", "claude-sonnet-4-5", "text-embedding-3-small")
CAPTURED = Path(__file__).resolve().parents[2] / "shared" / "suites" / "otlp" / "captures"
_LETTERS = string.ascii_letters + string.digits
_INFERENCE = 1  # a place in a trace of eight that is one


class Batch(NamedTuple):
    """One request: its body as it is sent, and how many spans it holds."""

    body: bytes
    packed: bytes
    spans: int


def make(batches: int, seed: int, shape: str = AGENTS) -> list[Batch]:
    """Make batches of traces that ended a moment ago, one instance of a service each.

    ``agents``: eight spans a trace; ``calls``: one inference a trace; ``captures``: traces as they were captured, of several
    instrumentations in turns, their ids, times, tokens and texts made anew.
    """
    chance, now_ns = random.Random(seed), time.time_ns() - 60 * 10**9
    if shape == CAPTURES:
        captures = _captures()
        requests = [_again(captures[number % len(captures)], now_ns, chance) for number in range(batches)]
    else:
        requests = [_agents(8 if shape == AGENTS else 1, now_ns, chance) for _ in range(batches)]
    return [_batch(request) for request in requests]


def _batch(request: ExportTraceServiceRequest) -> Batch:
    body = request.SerializeToString()
    return Batch(body, gzip.compress(body, 5), sum(len(scope.spans) for scope in request.resource_spans[0].scope_spans))


def _set(attributes: Any, **values: object) -> None:
    for name, value in values.items():
        pair = attributes.add(key=name.replace("__", "."))
        if isinstance(value, int):
            pair.value.int_value = value
        else:
            pair.value.string_value = str(value)


def _agents(per_trace: int, now_ns: int, chance: random.Random) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    _set(group.resource.attributes, service__name="support-bot", service__version="7.3.0", telemetry__sdk__language="python",
         telemetry__sdk__name="opentelemetry", telemetry__sdk__version="1.38.0", host__name=f"host-{chance.randrange(20)}")  # fmt: skip
    scope = group.scope_spans.add()
    scope.scope.name = "opentelemetry.instrumentation.openai_v2"
    for number in range(BATCH):
        place = number % per_trace
        if place == 0:
            trace_id, root = chance.randbytes(16), chance.randbytes(8)
        span = scope.spans.add()
        span.trace_id, span.span_id = trace_id, chance.randbytes(8) if place else root
        span.parent_span_id = root if place else b""
        _fill(span, place if per_trace > 1 else _INFERENCE, now_ns + number * 10**6, chance)
    return request


def _fill(span: Any, place: int, start_ns: int, chance: random.Random) -> None:
    span.start_time_unix_nano, span.end_time_unix_nano = start_ns, start_ns + chance.randrange(10**6, 3 * 10**9)
    session = f"conv-{chance.randrange(5000)}"
    if place == 0:
        span.name, span.kind = "invoke_agent coordinator", 1
        _set(span.attributes, gen_ai__operation__name="invoke_agent", gen_ai__agent__name="coordinator",
             gen_ai__conversation__id=session, enduser__id=f"user-{chance.randrange(900)}", tidegate__tenant="")  # fmt: skip
    elif place in (3, 6):
        span.name, span.kind = "execute_tool search_orders", 1
        _set(span.attributes, gen_ai__operation__name="execute_tool", gen_ai__tool__name="search_orders",
             gen_ai__tool__call__id=f"call_{chance.getrandbits(96):024x}", gen_ai__tool__type="function")  # fmt: skip
    else:
        model = chance.choice(MODELS)
        span.name, span.kind = f"chat {model}", 3
        _set(span.attributes, gen_ai__operation__name="chat", gen_ai__provider__name="openai", gen_ai__request__model=model,
             gen_ai__response__model=model, gen_ai__response__id=f"chatcmpl-{chance.getrandbits(112):029x}",
             gen_ai__request__max_tokens=1024, gen_ai__usage__input_tokens=chance.randrange(100, 9000),
             gen_ai__usage__output_tokens=chance.randrange(5, 900), gen_ai__conversation__id=session,
             server__address="api.openai.com", server__port=443, gen_ai__response__finish_reasons="stop")  # fmt: skip
    if chance.random() < 0.02:
        span.status.code, span.status.message = 2, "upstream timed out"


def _captures() -> list[ExportTraceServiceRequest]:
    """Return the requests that were captured, as protobuf, whatever they came as."""
    found = []
    for head in sorted(CAPTURED.glob("*/*-traces.json")):
        headers = orjson.loads(head.read_bytes())["headers"]
        body = head.with_suffix(".body").read_bytes()
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        request = ExportTraceServiceRequest()
        if headers["content-type"].startswith("application/json"):
            ParseDict(_with_ids_of_protobuf(orjson.loads(body)), request)
        else:
            request.ParseFromString(body)
        found.append(request)
    if not found:
        sys.exit(f"There are no captured requests: {CAPTURED} is not beside this checkout. Other shapes need none.")
    return found


def _with_ids_of_protobuf(document: Any) -> Any:
    """Return an OTLP document in which ids are as protobuf's own JSON has bytes: in base64 where OTLP says hex."""
    if isinstance(document, list):
        return [_with_ids_of_protobuf(each) for each in document]
    if not isinstance(document, dict):
        return document
    return {
        name: base64.b64encode(bytes.fromhex(value)).decode()
        if name in {"traceId", "spanId", "parentSpanId"}
        else _with_ids_of_protobuf(value)
        for name, value in document.items()
    }


def _again(captured: ExportTraceServiceRequest, now_ns: int, chance: random.Random) -> ExportTraceServiceRequest:
    """Return a batch of what one application sent, as often as it goes into one, its traces as long as they were."""
    request = ExportTraceServiceRequest()
    request.CopyFrom(captured)
    (group,) = request.resource_spans
    for pair in group.resource.attributes:
        if pair.key == "service.instance.id":
            pair.value.string_value = f"i-{chance.randrange(20)}"
    originals = [(scope, list(scope.spans)) for scope in captured.resource_spans[0].scope_spans]
    latest_ns = max(span.end_time_unix_nano for _, spans in originals for span in spans)
    for scope in group.scope_spans:
        scope.ClearField("spans")
    for number in range(BATCH // sum(len(spans) for _, spans in originals)):
        ids: dict[bytes, bytes] = {b"": b""}
        fresh = _Fresh(chance)
        for scope, (_, spans) in zip(group.scope_spans, originals, strict=True):
            for original in spans:
                span = scope.spans.add()
                span.CopyFrom(original)
                _renew(span, ids, now_ns + number * 10**6 - latest_ns, fresh, chance)
    return request


def _renew(span: Any, ids: dict[bytes, bytes], later_ns: int, fresh: _Fresh, chance: random.Random) -> None:
    for name in ("trace_id", "span_id", "parent_span_id"):
        value = getattr(span, name)
        setattr(span, name, ids.setdefault(value, chance.randbytes(len(value))))
    span.start_time_unix_nano += later_ns
    span.end_time_unix_nano += later_ns
    for event in span.events:
        event.time_unix_nano += later_ns
    fresh.answer()
    for pair in span.attributes:
        fresh.renew(pair)


class _Fresh:
    """What another call would have had other than the one that was captured."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._words = {"conv-1": f"conv-{chance.randrange(5000)}"}

    def answer(self) -> None:
        """Begin with another call: an answer of its own to a prompt of its own."""
        word = "".join(self._chance.choices(_LETTERS, k=29))
        self._words.update({"chatcmpl-h8": f"chatcmpl-{word}", "Hello": f"Hello {word}", "#": f"{word} #"})

    def renew(self, pair: Any) -> None:
        """Change an attribute where the captured call was not like any other."""
        if pair.value.HasField("string_value"):
            for word, other in self._words.items():
                pair.value.string_value = pair.value.string_value.replace(word, other)
        elif pair.value.int_value and "token" in pair.key and "max" not in pair.key:
            pair.value.int_value = self._chance.randrange(1, 2 * pair.value.int_value + 1)

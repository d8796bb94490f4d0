"""OTLP traces, protobuf or JSON, as rows of spans (OpenTelemetry protocol 1.x).

Attribute names follow the GenAI semantic conventions, and what OpenInference and OpenLLMetry write instead of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from controlplane.problems import Problem
from controlplane.telemetry.schemas import SpanRow

MAX_TEXT = 32_768
MAX_DEPTH = 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_NS = 4_102_444_800 * 10**9  # the year 2100
_KINDS = {
    "SPAN_KIND_UNSPECIFIED": 0,
    "SPAN_KIND_INTERNAL": 1,
    "SPAN_KIND_SERVER": 2,
    "SPAN_KIND_CLIENT": 3,
    "SPAN_KIND_PRODUCER": 4,
    "SPAN_KIND_CONSUMER": 5,
}
_STATUSES = {"STATUS_CODE_UNSET": 0, "STATUS_CODE_OK": 1, "STATUS_CODE_ERROR": 2}

_ROUTE = ("tidegate.route",)
_MODEL = ("gen_ai.response.model", "gen_ai.request.model", "llm.model_name", "embedding.model_name")
_SESSION = ("session.id", "gen_ai.conversation.id")
_USER = ("user.id", "enduser.id")
_INPUT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt")
_OUTPUT = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion")
_COST = ("tidegate.cost_nusd",)

TenantOf = Callable[[str], str]


class BadTraces(Problem):
    """The body is no export request."""


class Decoded(NamedTuple):
    """The spans of a request, and how many of it can't be kept, with one reason."""

    rows: list[SpanRow]
    rejected: int
    reason: str


class _Raw(NamedTuple):
    """One span out of either encoding, ids in lower-case hex, times in nanoseconds."""

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    kind: int
    start_ns: int
    end_ns: int
    status: int
    status_message: str
    attributes: dict[str, Any]
    events: list[dict[str, Any]]


def decode_protobuf(body: bytes, tenant_of: TenantOf) -> Decoded:
    """Return the spans of a protobuf request; ``BadTraces`` when it is none. ``tenant_of`` maps what a span claims."""
    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise BadTraces(f"The body is no ExportTraceServiceRequest: {error}.") from None
    collected = _Collected(tenant_of)
    for group in request.resource_spans:
        resource = _plain(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                raw = _Raw(
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_span_id=span.parent_span_id.hex(),
                    name=span.name,
                    kind=span.kind,
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    status=span.status.code,
                    status_message=span.status.message,
                    attributes=_plain(span.attributes),
                    events=[
                        {
                            "name": _text(event.name),
                            "at_ns": event.time_unix_nano,
                            "attributes": _plain(event.attributes),
                        }
                        for event in span.events
                    ],
                )
                collected.add(raw, resource)
    return collected.result()


def decode_json(body: bytes, tenant_of: TenantOf) -> Decoded:
    """Return the spans of a JSON request; ``BadTraces`` when it is none."""
    try:
        request = orjson.loads(body)
        collected = _Collected(tenant_of)
        for group in request.get("resourceSpans", []):
            resource = _plain_json(group.get("resource", {}).get("attributes", []))
            for scope in group.get("scopeSpans", []):
                for span in scope.get("spans", []):
                    collected.add(_raw_json(span), resource)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadTraces(f"The body is no ExportTraceServiceRequest in JSON: {error}.") from None
    return collected.result()


def _raw_json(span: Mapping[str, Any]) -> _Raw:
    status = span.get("status") or {}
    return _Raw(
        trace_id=str(span.get("traceId", "")).lower(),
        span_id=str(span.get("spanId", "")).lower(),
        parent_span_id=str(span.get("parentSpanId") or "").lower(),
        name=str(span.get("name", "")),
        kind=_enum(span.get("kind", 0), _KINDS),
        start_ns=int(span.get("startTimeUnixNano") or 0),
        end_ns=int(span.get("endTimeUnixNano") or 0),
        status=_enum(status.get("code", 0), _STATUSES),
        status_message=str(status.get("message", "")),
        attributes=_plain_json(span.get("attributes", [])),
        events=[
            {
                "name": _text(str(event.get("name", ""))),
                "at_ns": int(event.get("timeUnixNano") or 0),
                "attributes": _plain_json(event.get("attributes", [])),
            }
            for event in span.get("events", [])
        ],
    )


def _enum(value: Any, names: Mapping[str, int]) -> int:
    return names.get(value, 0) if isinstance(value, str) else int(value)


def answer(decoded: Decoded, *, as_json: bool) -> bytes:
    """Return the body of the response, with what was rejected."""
    if as_json:
        partial = {"rejectedSpans": str(decoded.rejected), "errorMessage": decoded.reason}
        return orjson.dumps({"partialSuccess": partial} if decoded.rejected else {})
    response = ExportTraceServiceResponse()
    if decoded.rejected:
        response.partial_success.rejected_spans = decoded.rejected
        response.partial_success.error_message = decoded.reason
    return bytes(response.SerializeToString())


class _Collected:
    def __init__(self, tenant_of: TenantOf) -> None:
        self._tenant_of = tenant_of
        self._rows: list[SpanRow] = []
        self._rejected = 0
        self._reason = ""

    def add(self, raw: _Raw, resource: dict[str, Any]) -> None:
        fault = _fault(raw)
        if fault:
            self._rejected += 1
            self._reason = fault
            return
        said = raw.attributes
        self._rows.append(
            SpanRow(
                starts_at=_EPOCH + timedelta(microseconds=raw.start_ns // 1000),
                trace_id=raw.trace_id,
                span_id=raw.span_id,
                parent_span_id=raw.parent_span_id if raw.parent_span_id.strip("0") else "",
                duration_us=max(0, raw.end_ns - raw.start_ns) // 1000,
                tenant=self._tenant_of(_first(said, ("tidegate.tenant",)) or _first(resource, ("tidegate.tenant",)))[
                    :64
                ],
                service=_first(resource, ("service.name",))[:120],
                name=_text(raw.name)[:200],
                kind=raw.kind if 0 <= raw.kind <= 5 else 0,
                status=raw.status if 0 <= raw.status <= 2 else 0,
                status_message=_text(raw.status_message)[:500],
                route=_first(said, _ROUTE)[:64],
                model=_first(said, _MODEL)[:120],
                session=_first(said, _SESSION)[:120],
                user=_first(said, _USER)[:120],
                input_tokens=_number(said, _INPUT),
                output_tokens=_number(said, _OUTPUT),
                cost_nusd=_number(said, _COST),
                attributes=said,
                resource=resource,
                events=raw.events,
            )
        )

    def result(self) -> Decoded:
        return Decoded(self._rows, self._rejected, self._reason)


def _fault(raw: _Raw) -> str:
    if not _is_id(raw.trace_id, 32):
        return "a trace id must have 16 bytes that are not all zero"
    if not _is_id(raw.span_id, 16):
        return "a span id must have 8 bytes that are not all zero"
    if raw.parent_span_id.strip("0") and not _is_id(raw.parent_span_id, 16):
        return "a parent span id must have 8 bytes"
    if not 0 < raw.start_ns < _LATEST_NS:
        return "a span must start at a time, in nanoseconds since 1970"
    return ""


def _is_id(text: str, length: int) -> bool:
    return len(text) == length and text.strip("0") != "" and all(digit in "0123456789abcdef" for digit in text)


def _first(attributes: Mapping[str, Any], names: Iterable[str]) -> str:
    for name in names:
        value = attributes.get(name)
        if value not in (None, ""):
            return str(value)
    return ""


def _number(attributes: Mapping[str, Any], names: Iterable[str]) -> int | None:
    for name in names:
        value = attributes.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**53:
            return int(value)
        if isinstance(value, str) and value.isdecimal() and len(value) < 16:
            return int(value)
    return None


def _text(value: str) -> str:
    """Return text that PostgreSQL can keep: without NUL, and not endless."""
    value = value.replace("\x00", "\ufffd")
    return value if len(value) <= MAX_TEXT else f"{value[:MAX_TEXT]}…"


def _plain(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {_text(pair.key): _plain_value(pair.value) for pair in pairs}


def _plain_value(value: AnyValue, depth: int = 0) -> Any:
    kind = value.WhichOneof("value")
    if kind is None or depth > MAX_DEPTH:
        return None
    if kind == "array_value":
        return [_plain_value(item, depth + 1) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {_text(pair.key): _plain_value(pair.value, depth + 1) for pair in value.kvlist_value.values}
    return _scalar(getattr(value, kind))


def _plain_json(pairs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {_text(str(pair["key"])): _plain_json_value(pair.get("value") or {}) for pair in pairs}


def _plain_json_value(value: Mapping[str, Any], depth: int = 0) -> Any:
    if not value or depth > MAX_DEPTH:
        return None
    kind, content = next(iter(value.items()))
    if kind == "arrayValue":
        return [_plain_json_value(item, depth + 1) for item in content.get("values", [])]
    if kind == "kvlistValue":
        return {
            _text(str(item["key"])): _plain_json_value(item.get("value") or {}, depth + 1) for item in content["values"]
        }
    if kind == "intValue":
        return _scalar(int(content))
    if kind == "doubleValue":
        return _scalar(float(content))
    return _scalar(content)


def _scalar(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bytes):
        return value[:MAX_TEXT].hex()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value

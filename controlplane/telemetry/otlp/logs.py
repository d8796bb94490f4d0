"""OTLP logs, protobuf or JSON, as rows. A record has no id of its own: a digest of all of it tells it from others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from controlplane.telemetry.otlp import vocabulary as v
from controlplane.telemetry.otlp.attributes import Attribute, clean, from_json, from_wire, json_value, made, wire_value
from controlplane.telemetry.otlp.decoding import BadRequest, Decoded, Origin, Reading, Said, hex_id
from controlplane.telemetry.schemas import LogRow

MAX_BODY = 16_384
MAX_ATTRIBUTES = 128
_EPOCH_NS = 946_684_800 * 10**9


class _Raw:
    """One record out of either encoding."""

    __slots__ = ("at_ns", "attributes", "body", "event", "severity", "span_id", "trace_id")

    def __init__(
        self, at_ns: int, severity: int, event: str, body: Any, trace_id: str, span_id: str, attributes: list[Attribute]
    ) -> None:
        self.at_ns = at_ns
        self.severity = severity
        self.event = event
        self.body = body
        self.trace_id = trace_id if hex_id(trace_id, 32) else ""
        self.span_id = span_id if hex_id(span_id, 16) else ""
        self.attributes = attributes


def decode_protobuf(body: bytes, reading: Reading) -> Decoded[LogRow]:
    """Return the records of a protobuf request; ``BadRequest`` when it is none."""
    request = ExportLogsServiceRequest()
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise BadRequest(f"The body is no ExportLogsServiceRequest: {error}.") from None
    rows = _Rows(reading)
    for group in request.resource_logs:
        origin = Origin.of([from_wire(pair.SerializeToString()) for pair in group.resource.attributes])
        for scope in group.scope_logs:
            for record in scope.log_records:
                rows.add(_wire_record(record), origin, clean(scope.scope.name))
    return rows.end()


def _wire_record(record: LogRecord) -> _Raw:
    body = record.body.SerializeToString()
    return _Raw(
        record.time_unix_nano or record.observed_time_unix_nano,
        record.severity_number,
        clean(record.event_name),
        wire_value(body, 0, len(body)),
        record.trace_id.hex(),
        record.span_id.hex(),
        [from_wire(pair.SerializeToString()) for pair in record.attributes],
    )


def decode_json(body: bytes, reading: Reading) -> Decoded[LogRow]:
    """Return the records of a JSON request; ``BadRequest`` when it is none."""
    rows = _Rows(reading)
    try:
        for group in orjson.loads(body).get("resourceLogs") or []:
            origin = Origin.of([from_json(pair) for pair in (group.get("resource") or {}).get("attributes") or []])
            for scope in group.get("scopeLogs") or []:
                name = clean(str((scope.get("scope") or {}).get("name") or ""))
                for record in scope.get("logRecords") or []:
                    rows.add(_json_record(record), origin, name)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadRequest(f"The body is no ExportLogsServiceRequest in JSON: {error!r}.") from None
    return rows.end()


def _json_record(record: Mapping[str, Any]) -> _Raw:
    return _Raw(
        int(record.get("timeUnixNano") or 0) or int(record.get("observedTimeUnixNano") or 0),
        int(record.get("severityNumber") or 0),
        clean(str(record.get("eventName") or "")),
        json_value(record.get("body") or {}),
        str(record.get("traceId") or "").lower(),
        str(record.get("spanId") or "").lower(),
        [from_json(pair) for pair in record.get("attributes") or []],
    )


class _Rows:
    """Makes rows of records, and counts those that can't be kept."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._alike: dict[bytes, int] = {}
        self._said = Said()
        self.decoded: Decoded[LogRow] = Decoded()

    def add(self, raw: _Raw, origin: Origin, scope: str) -> None:
        if not 0 < raw.at_ns < self._reading.until_ns:
            self.decoded.reject("a record has a time, in nanoseconds since 1970, that is not to come")
            return
        said = {**origin.said, **{a.slot: a.value for a in raw.attributes if a.slot and a.value not in (None, "")}}
        event = raw.event or next((str(a.value) for a in raw.attributes if a.key == "event.name"), "")
        tenant = self._reading.tenant_of(str(said.get(v.TENANT, "")))[:64]
        text, messages = _told(raw, event)
        kept = [a.json for a in raw.attributes[:MAX_ATTRIBUTES] if not a.message]
        cuts = {a.key: a.cut for a in raw.attributes if a.cut}
        if len(raw.attributes) > MAX_ATTRIBUTES:
            cuts["(attributes)"] = len(raw.attributes) - MAX_ATTRIBUTES
        if cuts:
            kept.append(made("tidegate.cut", cuts).json)
        if messages:
            kept.append(made("tidegate.messages", self._keep(messages, event, raw, tenant)).json)
        attributes = b"{" + b",".join(kept) + b"}"
        self.decoded.rows.append(
            LogRow(
                at_us=(raw.at_ns - _EPOCH_NS) // 1000,
                severity=raw.severity if 0 <= raw.severity <= 24 else 0,
                digest=self._digest(raw, origin, event, text, attributes),
                tenant=tenant,
                service=origin.service,
                scope=scope[:120],
                event=event[:120],
                trace_id=raw.trace_id,
                span_id=raw.span_id,
                body=text if len(text) <= MAX_BODY else f"{text[:MAX_BODY]}… ({len(text)} characters)",
                attributes=attributes,
                resource=origin.json,
            )
        )

    def _digest(self, raw: _Raw, origin: Origin, event: str, text: str, attributes: bytes) -> bytes:
        """Return the digest of a record; of records alike in one request each gets its own, the same when sent again."""
        names = f"{raw.at_ns}\0{raw.severity}\0{event}\0{raw.trace_id}\0{raw.span_id}\0{text}\0"
        whole = names.encode("utf-8", "replace") + attributes + origin.json
        plain = hashlib.blake2b(whole, digest_size=16).digest()
        seen = self._alike[plain] = self._alike.get(plain, 0) + 1
        return plain if seen == 1 else hashlib.blake2b(plain + str(seen).encode(), digest_size=16).digest()

    def _keep(self, messages: list[tuple[str, Any]], event: str, raw: _Raw, tenant: str) -> str:
        redactor = self._reading.redactor_of(tenant)
        if redactor is None or not raw.trace_id:
            return "withheld"
        named = [(f"{event}/{name}" if event else name, value) for name, value in messages]
        self._said.add(redactor, (raw.at_ns - _EPOCH_NS) // 1000, raw.trace_id, raw.span_id, tenant, named)
        return "kept"

    def end(self) -> Decoded[LogRow]:
        """Return all that was made."""
        self.decoded.messages += self._said.masked()
        return self.decoded


def _told(raw: _Raw, event: str) -> tuple[str, list[tuple[str, Any]]]:
    """Return the body as text, and what somebody said: then the body is part of that and no text of the record."""
    body = raw.body
    text = "" if body is None else body if isinstance(body, str) else orjson.dumps(body).decode()
    messages = [(a.key, a.value) for a in raw.attributes if a.message]
    if text and v.is_message_event(event):
        return "", [*messages, ("body", text)]
    return text, messages

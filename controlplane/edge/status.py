"""Refusals of OTLP requests: ``google.rpc.Status`` in the encoding of the request, as the specification demands."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from controlplane.edge.http import JSON, Response
from controlplane.problems import Problem

PROTOBUF = (b"content-type", b"application/x-protobuf")
MAX_RETRY_S = 2  # stock exporters give up at once when they are told to wait longer than their own patience
_CODES = {400: 3, 401: 16, 403: 7, 404: 12, 405: 12, 408: 4, 413: 3, 415: 3, 422: 3, 429: 8, 500: 13, 503: 14}
_BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"


def refusal(error: Problem, *, as_json: bool) -> Response:
    """Return what an exporter is told of ``error``; bad data name what is wrong in a ``BadRequest`` detail."""
    code = _CODES.get(error.status, 2)
    body = _json(code, error) if as_json else _protobuf(code, error)
    headers: tuple[tuple[bytes, bytes], ...] = (JSON if as_json else PROTOBUF,)
    if error.retry_after_s is not None:
        headers += ((b"retry-after", str(min(MAX_RETRY_S, max(1, round(error.retry_after_s)))).encode()),)
    if error.status in {408, 413}:
        headers += ((b"connection", b"close"),)  # what is left of the body is not read
    return Response(error.status, body, headers)


def _violations(error: Problem) -> Mapping[str, str]:
    return error.errors or ({"body": error.detail} if error.status == 400 else {})


def _json(code: int, error: Problem) -> bytes:
    status: dict[str, object] = {"code": code, "message": error.detail}
    violations = [{"field": name, "description": text} for name, text in _violations(error).items()]
    if violations:
        status["details"] = [{"@type": _BAD_REQUEST, "fieldViolations": violations}]
    return orjson.dumps(status)


def _protobuf(code: int, error: Problem) -> bytes:
    body = b"\x08" + bytes([code]) + _bytes(2, error.detail.encode())
    violations = b"".join(
        _bytes(1, _bytes(1, name.encode()) + _bytes(2, text.encode())) for name, text in _violations(error).items()
    )
    if violations:
        body += _bytes(3, _bytes(1, _BAD_REQUEST.encode()) + _bytes(2, violations))
    return body


def _bytes(number: int, data: bytes) -> bytes:
    """Return a field that has a length."""
    length, left = b"", len(data)
    while left >= 0x80:
        length += bytes([left & 0x7F | 0x80])
        left >>= 7
    return bytes([number << 3 | 2]) + length + bytes([left]) + data

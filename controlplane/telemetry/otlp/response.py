"""What an exporter is answered when its request was taken: nothing, or what of it could not be kept."""

from __future__ import annotations

from typing import Any

import orjson

from controlplane.telemetry.otlp.decoding import Decoded


def answer(decoded: Decoded[Any], rejected: str, *, as_json: bool) -> bytes:
    """Return the body of the response. ``rejected`` is JSON's name for the number of records that were not kept.

    The responses of all three signals have the same numbers: 1 partial_success, in it 1 the count and 2 the message.
    """
    if not decoded.rejected:
        return b"{}" if as_json else b""
    if as_json:
        return orjson.dumps({"partialSuccess": {rejected: str(decoded.rejected), "errorMessage": decoded.reason}})
    reason = decoded.reason.encode()[:120]
    inside = b"\x08" + _varint(decoded.rejected) + b"\x12" + _varint(len(reason)) + reason
    return b"\x0a" + _varint(len(inside)) + inside


def _varint(value: int) -> bytes:
    made = bytearray()
    while value >= 0x80:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)

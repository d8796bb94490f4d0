"""A walk over protobuf's wire format: the fields of a message where they lie, nothing built for those that nobody reads."""

from __future__ import annotations

from collections.abc import Iterator

VARINT, I64, LEN, I32 = 0, 1, 2, 5
_FIXED = {I64: 8, I32: 4}  # bytes


class Malformed(ValueError):
    """The bytes are no message."""


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at ``at`` and where it ends."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Malformed("a number breaks off or is too long")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7


def fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield ``(number, kind, begin, stop)`` of the fields from ``start`` to ``end``; a varint's value is in ``begin``."""
    at = start
    while at < end:
        tag = data[at]
        at += 1
        if tag >= 0x80:
            tag, at = varint(data, at - 1)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise Malformed("a field has no number")
        if kind == VARINT:
            value, at = varint(data, at)
            yield number, kind, value, at
            continue
        if kind == LEN:
            if at < end and data[at] < 0x80:
                length = data[at]
                at += 1
            else:
                length, at = varint(data, at)
        elif kind in _FIXED:
            length = _FIXED[kind]
        else:
            raise Malformed(f"a field is of the kind {kind}, which nothing here has")
        if at + length > end:
            raise Malformed("a field is longer than what is around it")
        yield number, kind, at, at + length
        at += length
    if at != end:
        raise Malformed("a field is longer than what is around it")

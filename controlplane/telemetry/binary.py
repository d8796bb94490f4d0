"""Rows in PostgreSQL's binary COPY format, put together without an adapter per value."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from controlplane.telemetry.schemas import LogRow, MessageRow, SpanRow

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"
_COUNT = struct.Struct(">h").pack
_LENGTH = struct.Struct(">i").pack
_BIGINT = struct.Struct(">iq").pack
_DOUBLE = struct.Struct(">id").pack
_SMALLINT = struct.Struct(">ih").pack
_MESSAGE = struct.Struct(">hiq").pack
_SPAN = struct.Struct(">hiqiqihihih").pack
_LENGTHS = [_LENGTH(length) for length in range(1024)]
_TEXTS: dict[str, bytes] = {}
_MOST_TEXTS = 20_000

SPAN_COLUMNS = ("starts_at", *SpanRow._fields[1:])
MESSAGE_COLUMNS = ("starts_at", *MessageRow._fields[1:])
LOG_COLUMNS = ("at", *LogRow._fields[1:])


def text(value: str) -> bytes:
    """Return a text of its own: ids, names."""
    data = value.encode("utf-8", "replace")
    return (_LENGTHS[len(data)] if len(data) < 1024 else _LENGTH(len(data))) + data


def known(value: str) -> bytes:
    """Return a text that comes again and again: tenants, models."""
    found = _TEXTS.get(value)
    if found is None:
        if len(_TEXTS) >= _MOST_TEXTS:
            _TEXTS.clear()
        found = _TEXTS[value] = text(value)
    return found


def json(value: bytes) -> bytes:
    """Return a ``jsonb``."""
    return _LENGTH(len(value) + 1) + b"\x01" + value


def bigint(value: int | None) -> bytes:
    """Return a ``bigint``, or a ``timestamptz`` in microseconds from the year 2000."""
    return NULL if value is None else _BIGINT(8, value)


def smallint(value: int) -> bytes:
    return _SMALLINT(2, value)


def double(value: float | None) -> bytes:
    return NULL if value is None else _DOUBLE(8, value)


def raw(value: bytes) -> bytes:
    """Return a ``bytea``."""
    return _LENGTH(len(value)) + value


def bigints(values: Sequence[int] | None) -> bytes:
    """Return a ``bigint[]``."""
    if values is None:
        return NULL
    if not values:
        return _LENGTH(12) + struct.pack(">iii", 0, 0, 20)
    items = b"".join(_BIGINT(8, value) for value in values)
    return _LENGTH(20 + len(items)) + struct.pack(">iiiii", 1, 0, 20, len(values), 1) + items


def row(*columns: bytes) -> bytes:
    """Return a row of columns."""
    return _COUNT(len(columns)) + b"".join(columns)


def document(rows: Iterable[bytes]) -> bytes:
    """Return what is sent with COPY."""
    return b"".join((HEADER, *rows, TRAILER))


_FIELDS = len(SPAN_COLUMNS)
_MESSAGE_FIELDS = len(MESSAGE_COLUMNS)
_NO_NUMBERS = NULL * 6
_NO_LIST = json(b"[]")
_GROUPS: dict[tuple[str, ...], bytes] = {}


def _numbers(*values: int | None) -> bytes:
    if values == (None, None, None, None, None, None):
        return _NO_NUMBERS
    return b"".join([NULL if value is None else _BIGINT(8, value) for value in values])


def _group(values: tuple[str, ...]) -> bytes:
    """Return texts that come again and again together."""
    found = _GROUPS.get(values)
    if found is None:
        if len(_GROUPS) >= _MOST_TEXTS:
            _GROUPS.clear()
        found = _GROUPS[values] = b"".join(map(known, values))
    return found


def span(each: SpanRow) -> bytes:
    """Return one span, with the columns of ``SPAN_COLUMNS``."""
    (
        starts_us, duration_us, kind, status, usage_by, given, out, cached, reasoning, cost, ttft, trace_id, span_id, parent,
        tenant, service, scope, name, message, operation, provider, model, route, release, decision, agent, tool, session,
        user, attributes, resource, events, links,
    ) = each  # fmt: skip
    return b"".join(
        (
            _SPAN(_FIELDS, 8, starts_us, 8, duration_us, 2, kind, 2, status, 2, usage_by),
            _numbers(given, out, cached, reasoning, cost, ttft),
            _LENGTHS[len(trace_id)],
            trace_id.encode(),
            _LENGTHS[len(span_id)],
            span_id.encode(),
            _LENGTHS[len(parent)],
            parent.encode(),
            _group((tenant, service, scope, name, message, operation, provider, model, route, release, decision, agent, tool)),
            known(session),
            known(user),
            json(attributes),
            json(resource),
            _NO_LIST if events == b"[]" else json(events),
            _NO_LIST if links == b"[]" else json(links),
        )
    )  # fmt: skip


def message(each: MessageRow) -> bytes:
    """Return one message, with the columns of ``MESSAGE_COLUMNS``."""
    starts_us, trace_id, span_id, name, tenant, content = each
    return b"".join(
        (
            _MESSAGE(_MESSAGE_FIELDS, 8, starts_us),
            text(trace_id),
            text(span_id),
            known(name),
            known(tenant),
            text(content),
        )
    )


def log(each: LogRow) -> bytes:
    """Return one log record, with the columns of ``LOG_COLUMNS``."""
    return row(
        bigint(each.at_us),
        smallint(each.severity),
        raw(each.digest),
        *map(known, (each.tenant, each.service, each.scope, each.event)),
        *map(text, (each.trace_id, each.span_id, each.body)),
        json(each.attributes),
        json(each.resource),
    )

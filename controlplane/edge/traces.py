"""``POST /v1/traces``: spans of any OpenTelemetry exporter, durable before the 200."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from controlplane.edge.database import Gone, Pool
from controlplane.edge.encoding import read_body
from controlplane.edge.http import Request, Response
from controlplane.edge.mirror import Mirror
from controlplane.problems import Problem
from controlplane.telemetry.actions.spans import store
from controlplane.telemetry.otlp import answer, decode_json, decode_protobuf

MAX_BYTES = 16 * 1024 * 1024
# Bodies beyond this are decoded on a thread, so that the loop keeps answering the others.
_SMALL = 16 * 1024
_DECODERS = {b"application/x-protobuf": decode_protobuf, b"application/json": decode_json}


class UnknownType(Problem):
    status, kind, title = 415, "unknown-type", "The type of the body is not known"


async def traces(mirror: Mirror, pool: Pool, told: Callable[[frozenset[str]], None], request: Request) -> Response:
    """Store the spans of an export request; say what could not be kept."""
    key = await mirror.key_of(request.headers.get(b"authorization"))
    kind = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    decode = _DECODERS.get(kind)
    if decode is None:
        raise UnknownType("Content-Type must be application/x-protobuf or application/json.")
    body = await read_body(request, limit=MAX_BYTES)

    def tenant_of(claimed: str) -> str:
        return key.tenant_of(claimed or key.scope or "")

    decoded = decode(body, tenant_of) if len(body) <= _SMALL else await asyncio.to_thread(decode, body, tenant_of)
    with Gone():
        async with pool.connection() as connection:
            await store(connection, decoded.rows)
    if decoded.rows:
        told(frozenset({"telemetry"}))
    return Response(200, answer(decoded, as_json=kind == b"application/json"), ((b"content-type", kind),))

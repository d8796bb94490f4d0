"""``POST /sdk/v1/sync``: usage up, leases down."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import msgspec
from django.conf import settings

from controlplane.edge.batch import Batcher
from controlplane.edge.encoding import read_body
from controlplane.edge.http import JSON, Request, Response
from controlplane.edge.mirror import Mirror
from controlplane.edge.schemas import SyncAnswer, SyncRequest
from controlplane.problems import Invalid

_BACKSLASH, _MAYBE_NUL = b"\\", b"\\u0000"  # JSON has no other way to spell it; one byte is found sooner than six
MAX_BYTES = 16 * 1024 * 1024
_decoder = msgspec.json.Decoder(SyncRequest)
_encoder = msgspec.json.Encoder()


async def sync(mirror: Mirror, batcher: Batcher, request: Request) -> Response:
    """Answer once everything in the request is durable."""
    key = await mirror.key_of(request.headers.get(b"authorization"))
    said = parse(await read_body(request, limit=MAX_BYTES))
    outcome = await batcher.submit(key, said)
    head = mirror.head_now(key.scope_id)
    answer = SyncAnswer(
        seq=said.seq,
        windows_acked=outcome.windows_acked,
        next_sync_ms=settings.SYNC_INTERVAL_MS,
        server_ms=time.time_ns() // 1_000_000,
        config_etag=head.etag if head else None,
        leases=outcome.leases,
        shares=outcome.shares,
    )
    return Response(200, _encoder.encode(answer), (JSON,))


def parse(body: bytes) -> SyncRequest:
    """Return the request in ``body``; ``Invalid`` says which field is wrong."""
    try:
        said = _decoder.decode(body)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        raise Invalid(f"The sync is not valid: {error}.", errors={path.strip("`.") or "": text}) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"The sync is not JSON: {error}.") from None
    if (
        _BACKSLASH in body
        and _MAYBE_NUL in body
        and (where := _nul_in(msgspec.to_builtins(said, enc_hook=dict), "")) is not None
    ):
        raise Invalid("The sync is not valid: a text has a NUL.", errors={where: "texts have no NUL"})
    if len(said.leases) > 1 and len({line.number for line in said.leases}) != len(said.leases):
        raise Invalid("The sync names a lease twice.", errors={"leases": "every number at most once"})
    return said


def _nul_in(value: Any, path: str) -> str | None:
    """Return where a text has a NUL, which PostgreSQL can't store.

    Looked for only in requests that spell one: a pattern on every name took longer than all else about reading a sync.
    """
    if isinstance(value, str):
        return path if "\0" in value else None
    parts: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        parts = [*((f"{path}.{key}", each) for key, each in value.items()), *((path, key) for key in value)]
    elif isinstance(value, list | tuple):
        parts = ((f"{path}[{index}]", each) for index, each in enumerate(value))
    found = (_nul_in(each, below) for below, each in parts)
    return next((where.lstrip(".") for where in found if where is not None), None)

"""``GET /sdk/v1/config`` and ``GET /sdk/v1/prices/<etag>``: answered from memory, held open while nothing changes."""

from __future__ import annotations

import asyncio

from controlplane.edge.http import JSON, Request, Response
from controlplane.edge.mirror import NO_REST, REST, REVALIDATE, Head, Mirror
from controlplane.problems import Invalid, NotFound

MAX_WAIT_S = 30.0
_FOREVER = (b"cache-control", b"public, max-age=31536000, immutable")


def known_already(head: Head, request: Request) -> bool:
    """Tell whether the client says that it has the head."""
    said = request.headers.get(b"if-none-match", b"")
    return said == head.quoted or head.quoted in said


async def config(mirror: Mirror, request: Request) -> Response:
    """Answer 200 with the snapshot of the key's scope, or 304, at once or after waiting for a change."""
    key = await mirror.key_of(request.headers.get(b"authorization"))
    head = mirror.head_now(key.scope_id) or await mirror.head_of(key.scope_id)
    wait_s = _wait_of(request)
    if wait_s and known_already(head, request):
        await change_of(head, wait_s)
        head = mirror.head_now(key.scope_id) or head
    rest = NO_REST if wait_s else REST
    if known_already(head, request):
        return Response(304, b"", ((b"etag", head.quoted), rest, REVALIDATE))
    return Response(200, head.body, (JSON, (b"etag", head.quoted), rest, REVALIDATE))


def _wait_of(request: Request) -> float:
    if not request.query_string:
        return 0.0
    text = request.query.get("wait", "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise Invalid(
            f"wait must be a number of seconds from 0 to {MAX_WAIT_S:g}.", errors={"wait": f"got {text[:40]!r}"}
        )
    return min(seconds, MAX_WAIT_S)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def change_of(head: Head, wait_s: float) -> None:
    """Wait until ``head`` is replaced, at most ``wait_s`` seconds."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()
    head.waiting.add(waiter)
    timer = loop.call_later(wait_s, _wake, waiter)
    try:
        await waiter
    finally:
        timer.cancel()
        head.waiting.discard(waiter)


async def prices(mirror: Mirror, request: Request) -> Response:
    """Answer with the price book of that etag, which never changes."""
    await mirror.key_of(request.headers.get(b"authorization"))
    etag = request.path.rpartition("/")[2]
    body = await mirror.prices(etag)
    if body is None:
        raise NotFound("There is no price book of that name: fetch the snapshot again.")
    return Response(200, body, (JSON, (b"etag", f'"{etag}"'.encode()), _FOREVER))

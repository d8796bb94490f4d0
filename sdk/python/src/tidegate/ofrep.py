"""The routes of OpenFeature's remote evaluation as a local ASGI application over a gate: stock providers get answers from memory.

    app = tidegate.ofrep.local_app(gate)     # uvicorn.run(app, host="127.0.0.1", port=8016)

Nobody is asked for a key: it listens where only the host's own programs can reach it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tidegate.client import Gate
from tidegate.core.ofrep import (
    EVENTS,
    MAX_BODY,
    PATH,
    STILL_THERE,
    Answer,
    Refusal,
    changed_event,
    evaluate,
    evaluate_all,
    read_context,
)
from tidegate.core.snapshot import Snapshot

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
LOOK_S = 0.1  # between two looks for a new snapshot, while somebody listens
HEARTBEAT_S = 15.0


def local_app(gate: Gate) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Return the application. It has OFREP's two routes, its stream of events, and nothing else."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == EVENTS and scope["method"] == "GET":
            await _stream(gate, _header(scope, b"last-event-id"), receive, send)
            return
        answer = _answer(gate, scope, await _body(receive))
        headers = [(b"content-type", b"application/json")]
        if answer.etag:
            headers.append((b"etag", answer.etag.encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        body = b"" if answer.document is None else json.dumps(answer.document).encode()
        await send({"type": "http.response.body", "body": body})

    return app


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        chunk: bytes = message.get("body", b"")
        body += chunk
        if not message.get("more_body") or len(body) > MAX_BODY:
            return body[: MAX_BODY + 1]


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def _answer(gate: Gate, scope: Scope, body: bytes) -> Answer:
    path: str = scope["path"]
    flag = path[len(PATH) + 1 :]
    if scope["method"] != "POST" or not (path == PATH or path.startswith(f"{PATH}/")):
        return Answer(404, {"errorDetails": "There is nothing here but OFREP's evaluation of flags, by POST."})
    snapshot = gate.guard.snapshot
    try:
        if len(body) > MAX_BODY:
            raise Refusal("PARSE_ERROR", f"The body has more than {MAX_BODY} bytes.")
        if snapshot is None:
            return Answer(503, {"errorDetails": "The control plane was never reached: nothing is known yet."})
        context = read_context(body)
    except Refusal as refusal:
        return Answer(400, {"key": flag, "errorCode": refusal.code, "errorDetails": refusal.details})
    if flag:
        return evaluate(snapshot, flag, context)
    known = _header(scope, b"if-none-match")
    return evaluate_all(snapshot, context, known=known, version=_version(snapshot), events=EVENTS)


def _version(snapshot: Snapshot | None) -> str:
    """Name the releases of a snapshot: every change of who gets what has a step of its own."""
    deployments = snapshot.deployments.values() if snapshot is not None else ()
    said = json.dumps(sorted((one.slug, one.step, one.stable.name) for one in deployments))
    return hashlib.sha256(said.encode()).hexdigest()[:32]


async def _stream(gate: Gate, last: str, receive: Receive, send: Send) -> None:
    """Tell of every change until the client goes; first of one since the last that it saw."""
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    gone = asyncio.create_task(_gone(receive))
    try:
        quiet = HEARTBEAT_S
        while not gone.done():
            version = _version(gate.guard.snapshot)
            if version != last or quiet >= HEARTBEAT_S:
                piece = changed_event(version) if version != last else STILL_THERE
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                last, quiet = version, 0.0
            await asyncio.wait({gone}, timeout=LOOK_S)
            quiet += LOOK_S
    finally:
        gone.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue

"""The routes of OpenFeature's remote evaluation as a local ASGI application over a gate: stock providers get answers from memory.

    app = tidegate.ofrep.local_app(gate)     # uvicorn.run(app, host="127.0.0.1", port=8016)

Nobody is asked for a key: it listens where only the host's own programs can reach it.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tidegate.client import Gate
from tidegate.core.ofrep import MAX_BODY, PATH, Answer, Refusal, evaluate, evaluate_all, read_context

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def local_app(gate: Gate) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Return the application. It has OFREP's two routes and nothing else."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
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
    known = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"if-none-match"), "")
    version = json.dumps(sorted((one.slug, one.step, one.stable.name) for one in snapshot.deployments.values()))
    return evaluate_all(snapshot, context, known=known, version=version)

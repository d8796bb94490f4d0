"""OpenFeature's routes as a local application: the same answers as the server's, from memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
from types import SimpleNamespace
from typing import Any

from sdk.python.tests.test_releases import snapshot
from tidegate.core.ofrep import EVENTS, PATH
from tidegate.ofrep import local_app


async def ask(
    path: str, context: Any = None, *, known: bytes = b"", method: str = "POST", governed: bool = True
) -> tuple[int, Any, dict[bytes, bytes]]:
    gate: Any = SimpleNamespace(guard=SimpleNamespace(snapshot=snapshot() if governed else None))
    got: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps({"context": context or {}}).encode(), "more_body": False}

    async def send(message: Any) -> None:
        got.append(message)

    headers = [(b"if-none-match", known)] if known else []
    await local_app(gate)({"type": "http", "method": method, "path": path, "headers": headers}, receive, send)
    return got[0]["status"], json.loads(got[1]["body"] or b"null"), dict(got[0]["headers"])


async def test_flag__unit__gets_what_the_gate_gives_it() -> None:
    status, answer, _ = await ask(f"{PATH}/assistant.m", {"targetingKey": "s-1"})

    expected = snapshot().deployments["assistant"].assign("acme/s-1", tenant="acme")
    assert status == 200
    assert (answer["value"], answer["variant"], answer["reason"]) == (expected.config["m"], expected.version, "SPLIT")


async def test_bulk__known_already__is_not_sent_again() -> None:
    _, answer, headers = await ask(PATH, {"targetingKey": "s-1"})
    status, nothing, _ = await ask(PATH, {"targetingKey": "s-1"}, known=headers[b"etag"])

    assert [flag["key"] for flag in answer["flags"]] == ["assistant", "assistant.m"]
    assert (status, nothing) == (304, None)


async def test_bulk__nobody_named__each_flag_says_so() -> None:
    _, answer, _ = await ask(PATH)

    assert {flag["errorCode"] for flag in answer["flags"]} == {"TARGETING_KEY_MISSING"}


async def test_flag__elsewhere_or_ungoverned__is_an_error() -> None:
    assert (await ask("/else"))[0] == 404
    assert (await ask(f"{PATH}/assistant", method="GET"))[0] == 404
    assert (await ask(f"{PATH}/assistant", governed=False))[0] == 503
    assert (await ask(f"{PATH}/assistant", [1]))[0] == 400


async def test_events__new_release__is_told_until_the_client_goes() -> None:
    guard = SimpleNamespace(snapshot=snapshot())
    gate: Any = SimpleNamespace(guard=guard)
    gone, pieces = asyncio.Event(), asyncio.Queue[bytes]()

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message.get("body"):
            await pieces.put(message["body"])

    scope = {"type": "http", "method": "GET", "path": EVENTS, "headers": [(b"last-event-id", b"older")]}
    serving = asyncio.create_task(local_app(gate)(scope, receive, send))
    first = await asyncio.wait_for(pieces.get(), 10)
    guard.snapshot = snapshot(step=4)
    second = await asyncio.wait_for(pieces.get(), 10)
    gone.set()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait_for(serving, 10)

    _, bulk, _ = await ask(PATH, {"targetingKey": "s-1"})
    assert bulk["eventStreams"][0]["endpoint"]["requestUri"] == EVENTS
    assert b"refetchEvaluation" in first
    assert b"refetchEvaluation" in second
    assert first != second

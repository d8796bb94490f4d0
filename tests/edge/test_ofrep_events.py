"""The stream of events for pages: told of changes, told what was missed, and closed to strangers."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import orjson
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.utils import timezone

from controlplane.edge import ofrep
from controlplane.rollouts.actions.rollouts import act
from controlplane.rollouts.models import Rollout
from controlplane.tenancy.actions.keys import revoke_key
from controlplane.tenancy.models import SdkKey
from controlplane.tenancy.queries import SYSTEM
from tests.edge import test_ofrep
from tests.edge.conftest import Caller
from tests.edge.test_ofrep import FLAGS

rollout = test_ofrep.rollout


class Stream:
    """One connection to the events, as a browser holds it."""

    def __init__(self, ask: Caller, address: str, last: str = "") -> None:
        self.pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.ended = asyncio.Event()
        self._gone = asyncio.Event()
        path, _, query = address.partition("?")
        headers = [(b"last-event-id", last.encode())] if last else []
        headers.append((b"origin", b"https://shop.example"))
        scope = {"type": "http", "method": "GET", "path": path, "query_string": query.encode(), "headers": headers}
        self.task = asyncio.create_task(ask.edge(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        elif message.get("body"):
            await self.pieces.put(message["body"])
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.ended.set()

    async def event(self) -> dict[str, str]:
        """Return the next piece as fields; a comment has none."""
        piece = await asyncio.wait_for(self.pieces.get(), 10)
        lines = (line.partition(": ") for line in piece.decode().strip().splitlines())
        return {name: value for name, _, value in lines if name}

    async def close(self) -> None:
        self._gone.set()
        await asyncio.wait_for(self.task, 10)


async def address_of(ask: Caller) -> str:
    reply = await ask("POST", FLAGS, orjson.dumps({"context": {"targetingKey": "u-1"}}))
    (stream,) = reply.json()["eventStreams"]
    assert stream["type"] == "sse"
    address: str = stream["endpoint"]["requestUri"]
    return address


@pytest.fixture
async def address(ask: Caller, rollout: Rollout) -> str:
    return await address_of(ask)


async def test_events__release_rolled_back__is_told_and_named(
    ask: Caller,
    rollout: Rollout,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "OFREP_ORIGINS", ["https://shop.example"])
    stream = Stream(ask, address)
    first = await stream.event()
    await sync_to_async(act)(by=SYSTEM, rollout=rollout, verb="rollback", expected_version=None, now=timezone.now())

    second = await stream.event()
    while not second:
        second = await stream.event()

    await stream.close()
    assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream")
    assert stream.headers["access-control-allow-origin"] == "https://shop.example"
    assert second["event"] == "message"
    assert json.loads(second["data"]) == {"type": "refetchEvaluation", "etag": second["id"]}
    assert second["id"] != first["id"]


async def test_events__came_back_with_the_newest__is_told_nothing_and_with_an_older_one_at_once(
    ask: Caller, address: str
) -> None:
    stream = Stream(ask, address)
    newest = (await stream.event())["id"]
    await stream.close()

    same, missed = Stream(ask, address, last=newest), Stream(ask, address, last="older")

    assert await same.event() == {}
    assert (await missed.event())["id"] == newest
    await same.close()
    await missed.close()


@pytest.mark.parametrize("change", [("sign=", "sign=0"), ("key=", "key=9"), ("day=", "day=1"), ("sign=", "other=")])
async def test_events__address_that_is_not_ours__is_unauthorized(
    ask: Caller, address: str, change: tuple[str, str]
) -> None:
    stream = Stream(ask, address.replace(*change))
    await asyncio.wait_for(stream.task, 10)

    assert stream.status == 401


async def test_events__two_days_later__asks_for_a_new_address(
    ask: Caller, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = time.time() + 2 * ofrep.DAY_S
    monkeypatch.setattr("controlplane.edge.ofrep.time.time", lambda: later)
    stream = Stream(ask, address)
    await asyncio.wait_for(stream.task, 10)

    assert stream.status == 401
    assert await address_of(ask) != address


async def test_events__key_revoked__ends(ask: Caller, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ofrep, "HEARTBEAT_S", 0.05)
    stream = Stream(ask, address)
    await stream.event()
    await sync_to_async(lambda: revoke_key(by=SYSTEM, key=SdkKey.objects.get(name="app")))()

    await asyncio.wait_for(stream.ended.wait(), 10)
    await stream.close()


async def test_bulk__told_of_a_version_that_is_not_here_yet__waits_for_it_a_moment(
    ask: Caller,
    rollout: Rollout,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ofrep, "CATCH_UP_S", 10.0)
    body = orjson.dumps({"context": {"targetingKey": "u-1"}})
    waiting = asyncio.create_task(ask("POST", f"{FLAGS}?flagConfigEtag=newer", body))
    await asyncio.sleep(0)
    await sync_to_async(act)(by=SYSTEM, rollout=rollout, verb="rollback", expected_version=None, now=timezone.now())

    reply = await asyncio.wait_for(waiting, 9)

    assert {flag["variant"] for flag in reply.json()["flags"]} == {"1"}

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis
from asgiref.sync import sync_to_async
from django.conf import settings

from controlplane.edge.app import Edge
from controlplane.state.changes import name_of
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.queries import SYSTEM
from tests.edge.conftest import Caller
from tests.edge.test_state import do, op


@contextlib.asynccontextmanager
async def line(ask: Caller, edge: Edge) -> AsyncIterator[Callable[[], Any]]:
    """Keep a line open; what it yields returns the next thing said on it."""
    said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    gone = asyncio.Event()
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/sdk/v1/state/changes",
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {ask.key}".encode())],
    }

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        for text in message.get("body", b"").splitlines():
            said.put_nowait(json.loads(text))

    task = asyncio.create_task(edge(scope, receive, send))
    yield lambda: asyncio.wait_for(said.get(), 5)
    gone.set()
    await asyncio.wait_for(task, 5)


async def until(read: Callable[[], Any], wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    for _ in range(50):
        said: dict[str, Any] = await read()
        if wanted(said):
            return said
    raise AssertionError("it was not said")


@pytest.fixture
async def other_edge(edge: Edge) -> AsyncIterator[Edge]:
    made = Edge()
    await made.start()
    yield made
    await made.stop()


async def test_changes__a_write_on_another_edge__is_told_by_name_and_version(ask: Caller, other_edge: Edge) -> None:
    async with line(ask, other_edge) as read:
        await until(read, lambda said: "proven" not in said)
        wrote = await do(ask, op("set", "session", "s-1", key="a", value=1))
        told = await until(read, lambda said: bool(said["c"]))

    assert told["c"] == [[name_of("acme", "session", "s-1", "a"), wrote[0]["version"]]]


async def test_changes__an_owner_is_erased__is_told_as_a_whole(ask: Caller, edge: Edge) -> None:
    async with line(ask, edge) as read:
        await do(ask, op("erase", "user", "u-1"))
        told = await until(read, lambda said: bool(said["c"]))

    assert told["c"] == [[name_of("acme", "user", "u-1"), 0]]


async def test_changes__another_tenants_write__is_not_told(ask: Caller, ask_everywhere: Caller, edge: Edge) -> None:
    await sync_to_async(create_tenant)(by=SYSTEM, slug="globex", name="Globex")
    async with line(ask, edge) as read, line(ask_everywhere, edge) as read_all:
        await do(ask_everywhere, op("set", "user", "u-1", tenant="globex", key="a", value=1))
        await do(ask, op("set", "user", "u-1", key="a", value=1))
        mine = await until(read, lambda said: bool(said["c"]))
        first = await until(read_all, lambda said: bool(said["c"]))

    assert [name for name, _ in mine["c"]] == [name_of("acme", "user", "u-1", "a")]
    assert first["c"][0][0] == name_of("globex", "user", "u-1", "a")


async def test_changes__no_ping_comes_back__nothing_is_vouched_for(ask: Caller, edge: Edge) -> None:
    with contextlib.closing(redis.Redis.from_url(settings.VALKEY_URL)) as valkey:
        async with line(ask, edge) as read:
            await until(read, lambda said: "proven" not in said)
            valkey.client_pause(4000)
            try:
                said = await until(read, lambda said: said.get("proven") is False)
            finally:
                valkey.client_unpause()
            again = await until(read, lambda said: "proven" not in said)

    assert said["c"] == []
    assert again["c"] == []

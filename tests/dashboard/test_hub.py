"""Frames: whatever a viewer misses, what they have taken in the end is the fresh page; and who gets any."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.routing import URLRouter
from django.contrib.sessions.models import Session
from django.db import connections
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from controlplane.tenancy.actions.audit import record
from controlplane.tenancy.actions.operators import create_operator, deactivate_operator
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import SYSTEM, asker_of
from dashboard import consumers
from dashboard.hub import Hub, Room, Viewer
from dashboard.hub import hub as hub_of_process
from dashboard.page import Params
from dashboard.registry import PAGES
from dashboard.routing import websocket_urlpatterns

PASSWORD = "correct horse battery"
parts = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["<p>1</p>", "<p>2</p>", "<p>3</p>"]), min_size=4)
# What happens in a room: it renders these parts, or the viewer takes what is left for them (None).
happenings = st.lists(st.one_of(parts, st.none()), min_size=1, max_size=30)


def _take(viewer: Viewer, state: dict[str, str]) -> None:
    frame, viewer._pending = viewer._pending, None
    if frame is not None:
        state.update(json.loads(frame)["parts"])


@given(happenings, st.integers(0, 10))
def test_frames__taken_late_or_joined_late__give_the_fresh_page(
    steps: list[dict[str, str] | None], joins_at: int
) -> None:
    room, viewer, state = Room(PAGES["audit"], SYSTEM, Params()), Viewer(), dict[str, str]()

    for number, step in enumerate(steps):
        if number == joins_at:
            room.viewers.add(viewer)
        if step is None:
            _take(viewer, state)
        else:
            room.publish(step)
    if viewer not in room.viewers:
        room.viewers.add(viewer)
    room.publish(dict(room.parts))
    _take(viewer, state)

    assert state == room.parts


def test_frames__nothing_changed__carry_only_a_number() -> None:
    room, viewer = Room(PAGES["audit"], SYSTEM, Params()), Viewer()
    room.viewers.add(viewer)
    room.publish({"a": "1"})
    _take(viewer, {})

    room.publish({"a": "1"})

    assert json.loads(viewer._pending or b"") == {"seq": 2, "parts": {}}


def test_frames__two_viewers_alike__get_the_same_bytes() -> None:
    room, viewers = Room(PAGES["audit"], SYSTEM, Params()), [Viewer(), Viewer()]
    room.viewers.update(viewers)

    room.publish({"a": "1"})

    assert viewers[0]._pending is viewers[1]._pending


@pytest.fixture
async def people(transactional_db: None) -> AsyncIterator[dict[str, Any]]:
    @sync_to_async
    def make() -> dict[str, Any]:
        other = create_tenant(by=SYSTEM, slug="other", name="Other")
        made: dict[str, Any] = {"other": other}
        for name, tenant in (("anna", None), ("gus", other)):
            made[name] = create_operator(by=SYSTEM, username=name, password=PASSWORD, role=Role.VIEWER, tenant=tenant)
        return made

    yield await make()
    await sync_to_async(connections.close_all)()


async def _frames(viewer: Viewer, wanted: str, part: str) -> dict[str, Any]:
    """Return the first frame in which ``part`` holds ``wanted``."""
    async with asyncio.timeout(10):
        while True:
            frame = await viewer.next()
            assert frame is not None
            read: dict[str, Any] = json.loads(frame)
            if wanted in read["parts"].get(part, ""):
                return read


async def test_hub__a_change_while_somebody_looks__is_sent_without_waiting(people: dict[str, Any]) -> None:
    hub, viewer = Hub(), Viewer()
    key = hub.join(PAGES["audit"], asker_of(people["anna"]), Params(), viewer)
    await _frames(viewer, "Created tenant other", "audit_list")

    await sync_to_async(record)(by=SYSTEM, action="x", target_kind="x", target="x", summary="A wonder")
    hub.changed()

    frame = await _frames(viewer, "A wonder", "audit_list")
    hub.leave(key, viewer)
    assert "rail_links" not in frame["parts"]
    assert not hub._rooms


async def test_hub__one_of_another_scope__sees_another_rendering(people: dict[str, Any]) -> None:
    hub, viewers = Hub(), [Viewer(), Viewer()]

    keys = [
        hub.join(PAGES["tenants"], asker_of(people[name]), Params(), viewer)
        for name, viewer in zip(("anna", "gus"), viewers, strict=True)
    ]
    await asyncio.gather(*(_frames(viewer, "Other", "tenant_list") for viewer in viewers))

    assert keys[0] != keys[1]
    for key, viewer in zip(keys, viewers, strict=True):
        hub.leave(key, viewer)


async def test_hub__what_is_looked_at_does_not_exist__ends(people: dict[str, Any]) -> None:
    hub, viewer = Hub(), Viewer()

    hub.join(PAGES["tenant"], asker_of(people["gus"]), Params(slug="none"), viewer)

    async with asyncio.timeout(10):
        assert await viewer.next() is None
    assert not hub._rooms


class Socket:
    """A browser's end of a page's websocket."""

    def __init__(self, path: str, cookie: str = "", origin: str = "http://localhost") -> None:
        path, _, query = path.partition("?")
        headers = [(b"origin", origin.encode()), (b"host", b"localhost")]
        if cookie:
            headers.append((b"cookie", f"sessionid={cookie}".encode()))
        scope = {"type": "websocket", "path": path, "query_string": query.encode(), "headers": headers}
        asgi: Any = ApplicationCommunicator  # asgiref has no types for it
        self._asgi = asgi(URLRouter(websocket_urlpatterns), {**scope, "subprotocols": []})

    async def output(self) -> dict[str, Any]:
        output: dict[str, Any] = await self._asgi.receive_output(10)
        return output

    async def connect(self) -> bool:
        await self._asgi.send_input({"type": "websocket.connect"})
        return bool((await self.output())["type"] == "websocket.accept")

    async def frame(self) -> dict[str, Any]:
        output = await self.output()
        assert output["type"] == "websocket.send", output
        read: dict[str, Any] = json.loads(output["text"])
        return read

    async def disconnect(self) -> None:
        await self._asgi.send_input({"type": "websocket.disconnect", "code": 1000})
        await self._asgi.wait(10)


@sync_to_async
def _cookie(operator: Any) -> str:
    client = Client()
    client.force_login(operator)
    return client.cookies["sessionid"].value


async def test_socket__signed_in__begins_with_every_part(people: dict[str, Any]) -> None:
    socket = Socket("/ws/page/audit/?q=tenant", await _cookie(people["anna"]))

    connected = await socket.connect()
    frame = await socket.frame()

    await socket.disconnect()
    assert connected
    assert set(frame["parts"]) == {"rail_links", "rollout_banner", "incidents", "audit_list", "audit_entry"}
    assert not hub_of_process._rooms


@pytest.mark.parametrize(("path", "who", "code"), [
    ("/ws/page/audit/", "", consumers.SIGNED_OUT),
    ("/ws/page/nothing/", "anna", consumers.NO_PAGE),
    ("/ws/page/tenant/?slug=other-one", "anna", consumers.CHANGED),
])  # fmt: skip
async def test_socket__nobody_or_nothing_to_see__is_closed_with_a_reason(
    path: str, who: str, code: int, people: dict[str, Any]
) -> None:
    socket = Socket(path, await _cookie(people[who]) if who else "")
    await socket.connect()

    closed = await socket.output()

    assert closed == {"type": "websocket.close", "code": code}


async def test_socket__from_another_site__is_refused(people: dict[str, Any]) -> None:
    socket = Socket("/ws/page/audit/", await _cookie(people["anna"]), origin="https://evil.example")

    connected = await socket.connect()

    assert not connected


async def test_socket__operator_deactivated_meanwhile__is_closed(
    people: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "CHECK_EVERY_S", 0.0)
    socket = Socket("/ws/page/audit/", await _cookie(people["anna"]))
    await socket.connect()
    await socket.frame()

    await sync_to_async(deactivate_operator)(by=SYSTEM, operator=people["anna"])

    output: dict[str, Any] = {"type": "websocket.send"}
    async with asyncio.timeout(10):
        while output["type"] == "websocket.send":
            output = await socket.output()
    assert output["code"] == consumers.SIGNED_OUT


async def test_socket__signed_out_meanwhile__is_closed(people: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "CHECK_EVERY_S", 0.0)
    cookie = await _cookie(people["anna"])
    socket = Socket("/ws/page/audit/", cookie)
    await socket.connect()
    await socket.frame()

    await sync_to_async(Session.objects.filter(session_key=cookie).delete)()

    output: dict[str, Any] = {"type": "websocket.send"}
    async with asyncio.timeout(10):
        while output["type"] == "websocket.send":
            output = await socket.output()
    assert output["code"] == consumers.SIGNED_OUT


async def test_hub__a_room_that_is_dear_to_render__rests_and_still_beats(
    people: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.hub.INTERVAL_S", 0.01)
    monkeypatch.setattr("dashboard.hub.REST", 1000)
    hub, viewer = Hub(), Viewer()
    key = hub.join(PAGES["audit"], asker_of(people["anna"]), Params(), viewer)
    await _frames(viewer, "Created tenant other", "audit_list")
    fresh = hub._rooms[key].parts

    async with asyncio.timeout(10):
        beats = [json.loads(await viewer.next() or b"null") for _ in range(3)]

    assert [beat["parts"] for beat in beats] == [{}, {}, {}]
    assert hub._rooms[key].parts is fresh
    hub.leave(key, viewer)

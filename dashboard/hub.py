"""One hub per process: renders what is being looked at once, and hands the same bytes to all who look.

A room is one view of one page in one scope. It renders at 1 Hz and when something changed, and sends the parts that differ
from the last rendering. A viewer holds at most one frame that it has not sent yet: a second one replaces it by the whole
page, so a slow client gets the newest state and never a queue.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import orjson
import structlog
from django.db import close_old_connections, connection
from django.utils import timezone

from controlplane import listen
from controlplane.problems import Problem
from controlplane.tenancy.models import Role, Tenant
from controlplane.tenancy.queries import Asker
from dashboard.page import Page, Params, context_of, render

log = structlog.get_logger(__name__)

INTERVAL_S = 1.0
LEAST_GAP_S = 0.15  # between two renderings of a room, however many changes there are
REST = 8  # a room rests so many times as long as its rendering took: dear ones are refreshed less often
Parts = dict[str, str]
RoomKey = tuple[str, int | None, str, tuple[tuple[str, str], ...]]


def _frame(seq: int, parts: Parts) -> bytes:
    return orjson.dumps({"seq": seq, "parts": parts})


class Viewer:
    """One socket: where the hub leaves the next frame."""

    def __init__(self) -> None:
        self._pending: bytes | None = None
        self._ready = asyncio.Event()
        self.fresh = False  # has been given the whole page
        self.ended = False

    def offer(self, frame: bytes, whole: Callable[[], bytes]) -> None:
        """Leave ``frame``; the whole page instead when the one before was not taken yet, or there was none."""
        self._pending = frame if self.fresh and self._pending is None else whole()
        self.fresh = True
        self._ready.set()

    def end(self) -> None:
        """Say that there will be no more: the page can't be rendered any longer for this viewer."""
        self.ended = True
        self._ready.set()

    async def next(self) -> bytes | None:
        """Wait for a frame; ``None`` after the end."""
        await self._ready.wait()
        self._ready.clear()
        frame, self._pending = self._pending, None
        return None if self.ended else frame


@dataclass
class Room:
    """One view of one page in one scope, while somebody looks."""

    page: Page
    asker: Asker
    params: Params
    viewers: set[Viewer] = field(default_factory=set)
    parts: Parts = field(default_factory=dict)
    seq: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def render(self) -> Parts:
        """Render all parts. Runs in a thread."""
        close_old_connections()
        try:
            return render(self.page, context_of(self.page, self.asker, self.params, timezone.now()))
        finally:
            connection.close()  # back to the pool

    def publish(self, fresh: Parts) -> None:
        """Send what differs from the last rendering to all viewers; nothing but the number when nothing does."""
        changed = {name: html for name, html in fresh.items() if self.parts.get(name) != html}
        self.parts = fresh
        self.seq += 1
        frame = _frame(self.seq, changed)
        made: list[bytes] = []

        def whole() -> bytes:
            if not made:
                made.append(_frame(self.seq, self.parts))
            return made[0]

        for viewer in self.viewers:
            viewer.offer(frame, whole)


class Hub:
    """The rooms of this process. All methods belong to its event loop, but ``changed``."""

    def __init__(self) -> None:
        self._rooms: dict[RoomKey, Room] = {}
        self._tasks: dict[RoomKey, asyncio.Task[None]] = {}
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="hub")

    def join(self, page: Page, asker: Asker, params: Params, viewer: Viewer) -> RoomKey:
        """Let ``viewer`` look: it is in the room before the next rendering begins, so no change is missed."""
        key = (page.name, asker.tenant.pk if asker.tenant else None, asker.role.value, params.key)
        room = self._rooms.get(key)
        if room is None:
            room = self._rooms[key] = Room(page, _faceless(asker.role, asker.tenant), params)
            self._tasks[key] = asyncio.get_running_loop().create_task(self._run(key, room))
        room.viewers.add(viewer)
        room.wake.set()
        return key

    def leave(self, key: RoomKey, viewer: Viewer) -> None:
        """Stop looking; an empty room is closed."""
        room = self._rooms.get(key)
        if room is None:
            return
        room.viewers.discard(viewer)
        if not room.viewers:
            del self._rooms[key]
            self._tasks.pop(key).cancel()

    def changed(self) -> None:
        """Render every room again soon: something in the database changed."""
        for room in self._rooms.values():
            room.wake.set()

    async def _run(self, key: RoomKey, room: Room) -> None:
        loop = asyncio.get_running_loop()
        while True:
            room.wake.clear()
            began = loop.time()
            try:
                fresh = await loop.run_in_executor(self._threads, room.render)
            except Problem as problem:  # gone, or out of sight: who looks has to load the page again to be told
                log.info("hub.room_closed", page=room.page.name, reason=problem.detail)
                self._close(key, room)
                return
            except Exception:
                log.exception("hub.not_rendered", page=room.page.name)
            else:
                room.publish(fresh)
            await self._rest(room, loop.time() - began)

    async def _rest(self, room: Room, took_s: float) -> None:
        """Wait until the next rendering is due or something changed, with a heartbeat every second meanwhile."""
        loop = asyncio.get_running_loop()
        due = loop.time() + max(INTERVAL_S, REST * took_s)
        await asyncio.sleep(max(LEAST_GAP_S, took_s))
        while (left := due - loop.time()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(room.wake.wait(), min(left, INTERVAL_S))
                return
            if due > loop.time() and room.parts:
                room.publish(room.parts)

    def _close(self, key: RoomKey, room: Room) -> None:
        self._rooms.pop(key, None)
        self._tasks.pop(key, None)
        for viewer in room.viewers:
            viewer.end()


def _faceless(role: Role, tenant: Tenant | None) -> Asker:
    """Return an asker for a shared rendering: scope and role, nobody's name."""
    return Asker(name="viewer", role=role, tenant=tenant)


hub = Hub()
_SHOWN_AT_ONCE = frozenset({"intent", "keys", "budgets", "audit"})  # what people do; the rest is shown with the second


def _heard(topics: frozenset[str]) -> None:
    if topics & _SHOWN_AT_ONCE:
        hub.changed()


listen.on_change(_heard)

"""The websocket of a page: who asks, which page, then frames from the hub until either side leaves."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any
from urllib.parse import parse_qsl

from asgiref.sync import sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import close_old_connections

from controlplane.tenancy.models import Operator
from controlplane.tenancy.queries import Asker, asker_of
from dashboard.hub import RoomKey, Viewer, hub
from dashboard.page import Params
from dashboard.registry import PAGES

SIGNED_OUT, NO_PAGE, CHANGED = 4401, 4404, 4409
CHECK_EVERY_S = 15.0


def _look_up(pk: int, session: Any) -> Asker | None:
    """Return who asks; ``None`` when they were deactivated or have signed out."""
    close_old_connections()
    operator = Operator.objects.select_related("tenant").filter(pk=pk, is_active=True).first()
    signed_in = operator is not None and session.exists(session.session_key)
    close_old_connections()
    return asker_of(operator) if operator and signed_in else None


_asker = sync_to_async(_look_up)


class PageConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels has no types
    """Frames of one page: ``{"seq": n, "parts": {id: html}}``, the first with every part."""

    key: RoomKey | None = None
    sender: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        user = self.scope["user"]
        asker = await _asker(user.pk, self.scope["session"]) if user.is_authenticated else None
        await self.accept()  # so that the browser is told the code
        if asker is None:
            await self.close(SIGNED_OUT)
            return
        page = PAGES.get(self.scope["url_route"]["kwargs"]["name"])
        if page is None:
            await self.close(NO_PAGE)
            return
        params = Params.taken(page.params, dict(parse_qsl(self.scope["query_string"].decode("utf-8", "replace"))))
        self.viewer = Viewer()
        self.key = hub.join(page, asker, params, self.viewer)
        self.sender = asyncio.create_task(self._send_frames(user.pk, asker))

    async def _send_frames(self, pk: int, asker: Asker) -> None:
        code = await self._send_until_over(pk, asker)
        if self.key is not None:
            hub.leave(self.key, self.viewer)
        await self.close(code)

    async def _send_until_over(self, pk: int, asker: Asker) -> int:
        """Send frames; return the code to close with when there is no more to send to this asker."""
        loop = asyncio.get_running_loop()
        checked = loop.time() - random.uniform(0, CHECK_EVERY_S)  # noqa: S311 - so that not all ask at once
        while (frame := await self.viewer.next()) is not None:
            await self.send(text_data=frame.decode())
            if loop.time() - checked > CHECK_EVERY_S:
                checked = loop.time()
                if not _same(asker, await _asker(pk, self.scope["session"])):
                    return SIGNED_OUT
        return CHANGED

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Pages have nothing to say."""

    async def disconnect(self, _code: int) -> None:
        if self.key is not None:
            hub.leave(self.key, self.viewer)
        if self.sender is not None and self.sender is not asyncio.current_task():
            self.sender.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.sender


def _same(before: Asker, now: Asker | None) -> bool:
    def scope(asker: Asker) -> tuple[Any, ...]:
        return asker.role, asker.tenant.pk if asker.tenant else None

    return now is not None and scope(before) == scope(now)

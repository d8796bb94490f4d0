"""The sync: counts up, leases down, every interval and at once when a call waits for funding."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import time
import uuid
from collections.abc import Callable
from typing import Any

from tidegate.contact import Backoff, Contact, pause
from tidegate.exchange import Exchange
from tidegate.guard import Guard
from tidegate.leisure import at_leisure
from tidegate.polling import Poller
from tidegate.trace import Tracer
from tidegate.version import VERSION
from tidegate.wire import Unreachable, clean

GAP_S = 0.01  # between two syncs, however urgent
GIVEN_UP = 410  # the status that says so
CLOSING_GAP_S = 0.1
CLOSING_TRIES = 10  # in a row, before a server that is away is given up


class Syncer:
    """One incarnation's syncs, one at a time, in order."""

    def __init__(
        self, *, app: str, contact: Contact, guard: Guard, poller: Poller, tracer: Tracer, renamed: Callable[[], None]
    ) -> None:
        self._app = app
        self._contact = contact
        self._guard = guard
        self._poller = poller
        self._tracer = tracer
        self._renamed = renamed
        self._connection = contact.connection()
        self._exchange = Exchange(guard)
        self.incarnation = str(uuid.uuid4())
        self.hurry = asyncio.Event()

    async def work(self, backoff: Backoff) -> None:
        """Rest until a sync is due, and make it."""
        await pause(self._guard.link.interval_s, self.hurry)
        self.hurry.clear()
        failed_for_s = await self._sync(backoff, closing=False)
        if failed_for_s:
            await self._contact.rest(failed_for_s)
        else:
            await asyncio.sleep(GAP_S)

    async def _sync(self, backoff: Backoff, *, closing: bool) -> float:
        """Sync; return 0 when it went well, else the seconds until the next attempt."""
        known = self._poller.said()
        dropped = self._tracer.dropped
        await at_leisure(self._guard.ease())
        body, sent = self._exchange.request(self.identity(), known, dropped_spans=dropped, closing=closing)
        packed = json.dumps(body, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json"}
        try:
            reply = await self._connection.request(
                "POST", "/sdk/v1/sync", headers=headers, body=packed, timeout_s=self._contact.timeout_s
            )
            if reply.status != 200:
                self._contact.turned_down("sync", reply)
                if reply.status == GIVEN_UP:
                    self._begin_anew()
                self._exchange.turned_down(reply.status)
                return GAP_S if reply.status == 413 else self._failed(backoff.next_s(reply))
            answer = self._exchange.answered(sent, json.loads(reply.body))
        except (Unreachable, ValueError) as error:
            self._contact.lose("sync", str(error))
            return self._failed(backoff.next_s())
        backoff.reset()
        self._contact.reach()
        self._poller.heard_of(answer.config_etag)
        if answer.hurry:
            self.hurry.set()
        return 0.0

    def _begin_anew(self) -> None:
        """Go on as another incarnation: nothing that this one says counts any more."""
        self.incarnation = str(uuid.uuid4())
        self._exchange.given_up()
        self._renamed()

    def _failed(self, next_try_s: float) -> float:
        self._exchange.failed(next_try_s=next_try_s)
        return next_try_s

    def identity(self) -> dict[str, Any]:
        """Return who speaks."""
        return {
            "incarnation": self.incarnation,
            "app": self._app,
            "host": clean(platform.node(), 255),
            "pid": os.getpid(),
            "sdk": f"python/{VERSION}",
        }

    async def finish(self) -> None:
        """Sync until the server has confirmed every window and every lease, as long as there is time and hope."""
        backoff = Backoff()
        failures = 0
        while time.monotonic() < self._contact.deadline and failures < CLOSING_TRIES:
            failed = bool(await self._sync(backoff, closing=True))
            failures = failures + 1 if failed else 0
            with self._guard.lock:
                if self._guard.leases.settled and not self._guard.report.unconfirmed:
                    return
            await asyncio.sleep(CLOSING_GAP_S if failed else GAP_S)

    def close(self) -> None:
        self._connection.close()

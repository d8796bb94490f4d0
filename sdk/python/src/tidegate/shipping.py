"""Spans on their way to ``/v1/traces``: in batches, tried some times, then dropped and counted."""

from __future__ import annotations

import asyncio
import os
import platform
import time

from tidegate.contact import Backoff, Contact
from tidegate.trace import BATCH, Attributes, Span, Tracer, encode
from tidegate.version import VERSION
from tidegate.wire import Reply, Unreachable

INTERVAL_S = 1.0
MAX_TRIES = 5


class Shipper:
    """Sends what the tracer has collected."""

    def __init__(self, *, app: str, incarnation: str, contact: Contact, tracer: Tracer) -> None:
        self._contact = contact
        self._tracer = tracer
        self._connection = contact.connection()
        self._resource: Attributes = {
            "service.name": app,
            "service.instance.id": incarnation,
            "host.name": platform.node(),
            "process.pid": os.getpid(),
            "telemetry.sdk.language": "python",
            "telemetry.sdk.name": "tidegate",
            "telemetry.sdk.version": VERSION,
        }

    def rename(self, incarnation: str) -> None:
        """Speak as another incarnation from now on."""
        self._resource["service.instance.id"] = incarnation

    async def work(self, backoff: Backoff) -> None:
        """Rest for a second, then send what there is. What comes meanwhile waits for the next time, unless it is a whole batch."""
        await asyncio.sleep(INTERVAL_S)
        while batch := self._tracer.batch():
            await self._send(batch, backoff)
            if len(self._tracer.waiting) < BATCH:
                return

    async def _send(self, batch: list[Span], backoff: Backoff) -> None:
        body = encode(batch, self._resource, VERSION)
        taken = False
        try:
            for _ in range(MAX_TRIES):
                reply = await self._post(body)
                taken = reply is not None and reply.status < 300
                if taken or (reply is not None and reply.status in (400, 413, 422)):
                    return
                await self._contact.rest(backoff.next_s(reply))
        except asyncio.CancelledError:
            self._tracer.put_back(batch)
            taken = True
            raise
        finally:
            if taken:
                backoff.reset()
            else:
                self._tracer.dropped += len(batch)

    async def _post(self, body: bytes) -> Reply | None:
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        try:
            reply = await self._connection.request(
                "POST", "/v1/traces", headers=headers, body=body, timeout_s=self._contact.timeout_s
            )
        except Unreachable as error:
            self._contact.say("traces", str(error))
            return None
        if reply.status >= 300:
            self._contact.say("traces", f"the control plane answered {reply.status}")
        return reply

    async def finish(self) -> None:
        """Send what is left, each batch once, as long as there is time."""
        while (batch := self._tracer.batch()) and time.monotonic() < self._contact.deadline:
            reply = await self._post(encode(batch, self._resource, VERSION))
            if reply is None or reply.status >= 300:
                self._tracer.dropped += len(batch)
                return

    def close(self) -> None:
        self._connection.close()

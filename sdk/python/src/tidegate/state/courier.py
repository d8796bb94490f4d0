"""Carries operations to the control plane: gathered while others are under way, each answered by itself."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

from tidegate.contact import Backoff, Contact
from tidegate.state.errors import StateUnavailable
from tidegate.state.memory import Memory
from tidegate.wire import Connection, Reply, Unreachable

WORKERS = 4
MOST_OPS = 128
MOST_BYTES = 4 * 1024 * 1024
TIMEOUT_S = 5.0
PAUSE_S = 0.05
_AGAIN = (429, 500, 502, 503, 504)
_NOT_READ = (400, 413, 422)  # nothing was carried out, because of something in one of the operations


class Errand(NamedTuple):
    """An operation on its way: its JSON, where its answer goes, and until when (time.monotonic) it may be tried."""

    body: bytes
    answer: Future[Any]
    until: float


class Courier:
    """Belongs to one incarnation. ``submit`` is for any thread, the rest runs in the background thread."""

    def __init__(self, contact: Contact, memory: Memory, wake: Callable[[asyncio.Event], None]) -> None:
        """``wake`` sets an event from another thread."""
        self._contact = contact
        self._memory = memory
        self._waiting: deque[Errand] = deque()
        self._came = asyncio.Event()
        self._wake = wake
        self._idle = [contact.connection() for _ in range(WORKERS)]
        self._busy: set[asyncio.Task[None]] = set()
        self._closed = False

    def submit(self, op: dict[str, Any], timeout_s: float = TIMEOUT_S) -> Future[Any]:
        """Send an operation; the future gets its answer, or ``StateUnavailable``."""
        body = json.dumps(op, separators=(",", ":"), ensure_ascii=False).encode()
        errand = Errand(body, Future(), time.monotonic() + timeout_s)
        if self._closed:
            errand.answer.set_exception(StateUnavailable("The gate is closed."))
            return errand.answer
        self._waiting.append(errand)
        self._wake(self._came)
        return errand.answer

    async def work(self, backoff: Backoff) -> None:  # noqa: ARG002  errands have their own pauses
        """Hand what came to a free connection; while none is free, errands gather."""
        if not self._waiting or not self._idle:
            await self._came.wait()
        self._came.clear()
        while self._waiting and self._idle:
            connection = self._idle.pop()
            task = asyncio.create_task(self._go(connection, self._load()))
            self._busy.add(task)
            task.add_done_callback(self._busy.discard)

    def _load(self) -> list[Errand]:
        taken: list[Errand] = []
        size = 0
        while self._waiting and len(taken) < MOST_OPS and size < MOST_BYTES:
            errand = self._waiting.popleft()
            if errand.answer.set_running_or_notify_cancel():
                taken.append(errand)
                size += len(errand.body)
        return taken

    async def _go(self, connection: Connection, errands: list[Errand]) -> None:
        try:
            while errands:
                errands = await self._try(connection, errands)
                if not errands and self._waiting:
                    errands = self._load()
        except BaseException:
            _fail(errands, "the background thread has ended")
            raise
        finally:
            self._idle.append(connection)
            self._came.set()

    async def _try(self, connection: Connection, errands: list[Errand]) -> list[Errand]:
        """Make one request; return the errands that are to be tried again."""
        now = time.monotonic()
        late = [errand for errand in errands if errand.until <= now]
        _fail(late, self._contact.last_error or "no answer came in time")
        errands = [errand for errand in errands if errand.until > now]
        if not errands:
            return []
        hits = [
            {"kind": kind, "count": count, **({} if tenant is None else {"tenant": tenant})}
            for (tenant, kind), count in self._memory.take_hits().items()
        ][:1000]
        body = (
            b'{"ops":[' + b",".join(errand.body for errand in errands) + b'],"hits":' + json.dumps(hits).encode() + b"}"
        )
        try:
            reply = await connection.request(
                "POST",
                "/sdk/v1/state/ops",
                headers={"Content-Type": "application/json"},
                body=body,
                timeout_s=max(0.05, min(errand.until for errand in errands) - now),
            )
        except Unreachable as error:
            self._contact.say("state", str(error))
            await asyncio.sleep(PAUSE_S)
            return errands
        if reply.status in _AGAIN:
            self._contact.say("state", f"the control plane answered {reply.status}")
            await asyncio.sleep(PAUSE_S)
            return errands
        if reply.status in _NOT_READ and len(errands) > 1:  # that of one caller must not be refused for that of another
            return [each for errand in errands for each in await self._try(connection, [errand])]
        return await self._answered(reply, errands)

    async def _answered(self, reply: Reply, errands: list[Errand]) -> list[Errand]:
        again: list[Errand] = []
        try:
            said = json.loads(reply.body)
            if reply.status == 200:
                answers = said["answers"]
            else:
                answers = [{"error": {**said, "status": reply.status}}] * len(errands)
            pairs = list(zip(errands, answers, strict=True))
        except (ValueError, KeyError, TypeError):
            _fail(errands, f"the control plane answered {reply.status} with something that is no answer")
            return []
        for errand, answer in pairs:
            error = answer.get("error")
            if error is not None and error.get("status") in _AGAIN and time.monotonic() < errand.until - PAUSE_S:
                again.append(errand)
            else:
                errand.answer.set_result(answer)
        if again:
            await asyncio.sleep(PAUSE_S)
        return again

    async def finish(self) -> None:
        """Let what is under way come to an end, as long as there is time; then nothing is taken any more."""
        while (self._busy or self._waiting) and time.monotonic() < self._contact.deadline:
            if self._waiting and self._idle:
                self._came.set()
                await self.work(Backoff())
            await asyncio.sleep(0.005)
        self.close()

    def close(self) -> None:
        self._closed = True
        while self._waiting:
            errand = self._waiting.popleft()
            if errand.answer.set_running_or_notify_cancel():
                _fail([errand], "the gate was closed")
        for task in self._busy:
            task.cancel()
        for connection in self._idle:
            connection.close()


def _fail(errands: list[Errand], why: str) -> None:
    for errand in errands:
        if not errand.answer.done():
            errand.answer.set_exception(StateUnavailable(f"The state could not be reached: {why}."))

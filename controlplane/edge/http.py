"""Requests and responses on the raw edge: just enough HTTP over ASGI, bodies bounded before they are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson

from controlplane.problems import Problem, TooLarge

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON = (b"content-type", b"application/json")
NO_BODY = {"type": "http.response.body", "body": b""}
PROBLEM = (b"content-type", b"application/problem+json")
BODY_S = 30.0  # how long a body may take to arrive
_LATE = "the body is late"
_LOOK_S = 0.25


class Disconnected(Exception):
    """The client went away while its request was read."""


class TooSlow(Problem):
    status, kind, title = 408, "too-slow", "The request did not arrive in time"


class Response(NamedTuple):
    """``stream`` goes out piece by piece instead of a body, until it ends or the client goes."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    stream: AsyncGenerator[bytes] | None = None


class Patience:
    """Has messages waited for until it takes too long. One timer for all: one for each cost more than all else about it."""

    def __init__(self) -> None:
        self._due: dict[asyncio.Task[Any], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def receive(self, receive: Receive, deadline: float) -> MutableMapping[str, Any]:
        """Receive a message; ``TooSlow`` once ``deadline`` on the loop's clock has been over for a moment."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("messages are received in a task")
        self._due[task] = deadline
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self._look)
        try:
            return await receive()
        except asyncio.CancelledError as error:
            if error.args != (_LATE,) or task.uncancel():
                raise
            raise TooSlow(f"The body did not arrive within {BODY_S:g} s.") from None
        finally:
            del self._due[task]

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for task in [task for task, deadline in self._due.items() if deadline <= now]:
            task.cancel(_LATE)
        self._timer = loop.call_later(_LOOK_S, self._look) if self._due else None


class Request:
    """One HTTP request. Header names are lower-case bytes, as ASGI has them; the last of a repeated one wins."""

    __slots__ = ("_patience", "_receive", "headers", "method", "path", "query_string")

    def __init__(self, scope: Scope, receive: Receive, patience: Patience) -> None:
        self._receive = receive
        self._patience = patience
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query_string: bytes = scope["query_string"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.query_string.decode("latin-1")))

    async def chunks(self, *, limit: int) -> AsyncIterator[bytes]:
        """Yield the body as it arrives; ``TooLarge`` as soon as it exceeds ``limit`` bytes, ``TooSlow`` when it takes longer
        than ``BODY_S``, ``Disconnected`` if it breaks off."""
        deadline = self._admit(limit)
        size, more = 0, True
        while more:
            chunk, more = await self._chunk(deadline)
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            if chunk:
                yield chunk

    async def body(self, *, limit: int, take: Callable[[int], None] | None = None) -> bytes:
        """Return the whole body as ``chunks`` yields it; ``take`` is told how many bytes are kept, and may refuse."""
        deadline = self._admit(limit)
        chunks: list[bytes] = []
        size, more = 0, True
        while more:
            chunk, more = await self._chunk(deadline)
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            if take is not None and chunk:
                take(len(chunk))
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _admit(self, limit: int) -> float:
        """Return by when the body must have arrived, on the loop's clock, unless it says that it is too large."""
        announced = self.headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > limit:
            raise TooLarge(f"The body has {int(announced)} bytes, at most {limit} are taken: send smaller batches.")
        return asyncio.get_running_loop().time() + BODY_S

    async def _chunk(self, deadline: float) -> tuple[bytes, bool]:
        """Return the next piece of the body, and whether there are more."""
        message = await self._patience.receive(self._receive, deadline)
        if message["type"] == "http.disconnect":
            raise Disconnected
        return message.get("body", b""), message.get("more_body", False)

    async def gone(self) -> None:
        """Return when the client has gone; what it still sends is dropped."""
        while (await self._receive())["type"] != "http.disconnect":
            continue


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body has more than {limit} bytes: send smaller batches.")


def problem(error: Problem) -> Response:
    """Return ``error`` as problem+json, with Retry-After where it names one."""
    headers: tuple[tuple[bytes, bytes], ...] = (PROBLEM,)
    if error.retry_after_s is not None:
        headers += ((b"retry-after", str(max(1, round(error.retry_after_s))).encode()),)
    return Response(error.status, orjson.dumps(error.as_json()), headers)


async def respond(send: Send, response: Response) -> None:
    """Send ``response`` with its length."""
    headers = [*response.headers]
    if response.status != 304:
        headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


async def respond_piecewise(request: Request, send: Send, response: Response, stream: AsyncGenerator[bytes]) -> None:
    """Send ``response`` with the pieces of ``stream`` as its body."""
    await send({"type": "http.response.start", "status": response.status, "headers": [*response.headers]})
    tasks = {asyncio.create_task(_send_pieces(send, stream)), asyncio.create_task(request.gone())}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await stream.aclose()


async def _send_pieces(send: Send, stream: AsyncGenerator[bytes]) -> None:
    async for piece in stream:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send(dict(NO_BODY))

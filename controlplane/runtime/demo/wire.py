"""Just enough HTTP/1.1 for a provider on loopback and its callers, with nothing but the standard library."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

MAX_BODY = 4 << 20


class Malformed(Exception):
    """What came over the connection is not the HTTP that is spoken here."""


class Message(NamedTuple):
    """A request or a response: its first line's words, its headers (names in lower case), its body."""

    start: tuple[str, str, str]
    headers: dict[str, str]
    body: bytes = b""


async def read_head(reader: asyncio.StreamReader) -> Message | None:
    """Return the start line and the headers, or ``None`` when the other side has closed."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise Malformed("the connection broke off inside the headers") from None
        return None
    except asyncio.LimitOverrunError:
        raise Malformed("the headers are too long") from None
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if len(words) < 2:
        raise Malformed(f"{first!r} is no start line")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if name
    }
    return Message((words[0], words[1], words[2] if len(words) > 2 else ""), headers)


async def read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    """Return a body of announced length."""
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) > MAX_BODY:
        raise Malformed("the length of the body is missing or too large")
    return await reader.readexactly(int(length))


def render(start: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """Return a message as it goes over the wire."""
    lines = [start, *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def as_json(status: int, phrase: str, document: Any) -> bytes:
    """Return a whole response with a JSON body; the connection closes after it."""
    body = json.dumps(document).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
    return render(f"HTTP/1.1 {status} {phrase}", headers, body)


@contextlib.asynccontextmanager
async def exchange(host: str, port: int, method: str, path: str, document: Any) -> AsyncIterator[Reply]:
    """Send a request with a JSON body over a connection of its own; yield the answer, to be read while it comes."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        body = json.dumps(document).encode()
        headers = {"host": f"{host}:{port}", "content-type": "application/json", "content-length": str(len(body))}
        writer.write(render(f"{method} {path} HTTP/1.1", {**headers, "connection": "close"}, body))
        await writer.drain()
        head = await read_head(reader)
        if head is None:
            raise Malformed("the connection was closed without an answer")
        yield Reply(int(head.start[1]), head.headers, reader)
    finally:
        writer.close()


class Reply(NamedTuple):
    """An answer whose body is still on its way."""

    status: int
    headers: dict[str, str]
    reader: asyncio.StreamReader

    async def document(self) -> Any:
        """Return the body, which is JSON."""
        return json.loads(await read_body(self.reader, self.headers))

    async def events(self) -> AsyncIterator[str]:
        """Yield the data of server-sent events until the other side closes."""
        async for line in self.reader:
            if line.startswith(b"data: "):
                yield line[6:].decode().rstrip()


def parsed(data: str) -> Any:
    """Return the JSON in an event's data; ``Malformed`` if there is none."""
    try:
        return json.loads(data)
    except ValueError:
        raise Malformed("an event holds no JSON") from None

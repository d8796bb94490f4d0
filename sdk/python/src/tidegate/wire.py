"""HTTP/1.1 over asyncio streams, as much as a client of the control plane needs: one connection, kept alive, one request at a time.

Names are resolved in the loop's own thread, so that no other thread is ever started; nobody but the control plane's own
traffic waits for it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

MAX_HEAD = 64 * 1024
MAX_BODY = 64 * 1024 * 1024
_SOCKETS: set[socket.socket] = set()


class Unreachable(Exception):
    """No answer. ``sent``: the request may have arrived nevertheless."""

    def __init__(self, text: str, *, sent: bool) -> None:
        super().__init__(text)
        self.sent = sent


class Address(NamedTuple):
    host: str
    port: int
    tls: bool
    base: str  # path prefix without a trailing slash

    @property
    def netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    # Of the body, as they came: one buffer of some megabytes takes its time to grow and to be copied.
    pieces: Sequence[bytes]

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


def parse_url(url: str) -> Address:
    """Return where ``url`` points; ``ValueError`` says what is wrong with it."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise ValueError(f"The control plane's url {url!r} can't be read: {error}.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f'The control plane\'s url is written like "https://tidegate.example", got {url!r}.')
    if parts.username or parts.query or parts.fragment:
        raise ValueError(f"The control plane's url has no user, query or fragment, got {url!r}.")
    tls = parts.scheme == "https"
    return Address(parts.hostname, port or (443 if tls else 80), tls, parts.path.rstrip("/"))


def clean(text: str, most: int) -> str:
    """Return ``text`` as every server takes it: no NUL, no lone surrogates, at most ``most`` characters."""
    if text.isascii() and "\0" not in text:
        return text[:most]
    return text[:most].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def abandon_sockets() -> None:
    """In a forked child: let go of the parent's connections without a word on them."""
    for sock in list(_SOCKETS):
        descriptor = sock.detach()
        if descriptor >= 0:
            os.close(descriptor)
    _SOCKETS.clear()


class Connection:
    """A connection that is opened when it is needed and opened again when the server has closed it."""

    def __init__(self, address: Address, headers: Mapping[str, str], context: ssl.SSLContext | None) -> None:
        self._address = address
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._context = context
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._socket: socket.socket | None = None

    async def request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b"", timeout_s: float
    ) -> Reply:
        """Return the answer; ``Unreachable`` when there is none within ``timeout_s``.

        A request on a kept connection that the server closed before it read anything is made once more on a new one.
        """
        sent = False
        try:
            async with asyncio.timeout(timeout_s):
                reused = self._streams is not None
                try:
                    return await self._exchange(method, path, headers or {}, body)
                except (ConnectionError, asyncio.IncompleteReadError):
                    if not reused:
                        raise
                    self.close()
                    sent = True
                    return await self._exchange(method, path, headers or {}, body)
        except asyncio.CancelledError:
            self.close()
            raise
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            sent = sent or self._streams is not None
            self.close()
            text = str(error) or type(error).__name__
            raise Unreachable(f"{self._address.netloc}: {text}", sent=sent) from error

    async def lines(self, path: str, *, quiet_s: float) -> AsyncIterator[bytes]:
        """Yield the lines of an answer that goes on and on. ``Unreachable`` when it is silent for ``quiet_s``, or ends."""
        try:
            async with asyncio.timeout(quiet_s):
                self.close()
                reader, status = await self._begin_lines(path)
            if status != 200:
                raise ValueError(f"{path} was answered with {status}")
            kept = b""
            while True:
                async with asyncio.timeout(quiet_s):
                    kept += await self._next_piece(reader)
                *whole, kept = kept.split(b"\n")
                for line in whole:
                    yield line
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise Unreachable(f"{self._address.netloc}: {str(error) or type(error).__name__}", sent=True) from error
        finally:
            self.close()

    async def _begin_lines(self, path: str) -> tuple[asyncio.StreamReader, int]:
        self._streams = reader, writer = await self._open()
        head = f"GET {self._address.base}{path} HTTP/1.1\r\nHost: {self._address.netloc}\r\n{self._headers}\r\n"
        writer.write(head.encode("latin-1"))
        await writer.drain()
        status, headers = await self._read_head(reader)
        if status == 200 and "chunked" not in headers.get("transfer-encoding", "").lower():
            raise ValueError("an answer that goes on must come in chunks")
        return reader, status

    async def _next_piece(self, reader: asyncio.StreamReader) -> bytes:
        size = _bounded(int((await reader.readuntil(b"\r\n")).split(b";")[0], 16))
        piece = await reader.readexactly(size)
        await reader.readexactly(2)
        if not size:
            raise EOFError("the line was closed")
        return piece

    async def _exchange(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        if self._streams is None:
            self._streams = await self._open()
        reader, writer = self._streams
        head = f"{method} {self._address.base}{path} HTTP/1.1\r\nHost: {self._address.netloc}\r\n{self._headers}"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        if body or method == "POST":
            head += f"Content-Length: {len(body)}\r\n"
        writer.write(head.encode("latin-1") + b"\r\n" + body)
        await writer.drain()
        return await self._read(reader)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        problem: OSError | None = None
        address = self._address
        for family, kind, proto, _, where in socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM):
            sock = socket.socket(family, kind, proto)
            sock.setblocking(False)
            _SOCKETS.add(sock)
            self._socket = sock
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await loop.sock_connect(sock, where)
                name = address.host if self._context is not None else None
                return await asyncio.open_connection(sock=sock, ssl=self._context, server_hostname=name, limit=MAX_HEAD)
            except OSError as error:
                problem = error
                self._drop_socket()
        raise problem or OSError(f"{address.host} has no address")

    async def _read(self, reader: asyncio.StreamReader) -> Reply:
        status, headers = await self._read_head(reader)
        while status == 100:
            status, headers = await self._read_head(reader)
        pieces: list[bytes] = []
        if status not in (204, 304):
            pieces = await self._read_body(reader, headers)
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Reply(status, headers, pieces)

    async def _read_head(self, reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, _, rest = head[0].partition(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError(f"not an HTTP/1.1 answer: {head[0][:80]!r}")
        lines = (line.partition(":") for line in head[1:] if line)
        return int(rest[:3]), {name.strip().lower(): value.strip() for name, _, value in lines}

    async def _read_body(self, reader: asyncio.StreamReader, headers: Mapping[str, str]) -> list[bytes]:
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return await self._read_chunks(reader)
        if "content-length" in headers:
            return await _read_pieces(reader, _bounded(int(headers["content-length"])))
        pieces: list[bytes] = []
        total = 0
        while piece := await reader.read(MAX_HEAD):
            total = _bounded(total + len(piece))
            pieces.append(piece)
        self.close()
        return pieces

    async def _read_chunks(self, reader: asyncio.StreamReader) -> list[bytes]:
        pieces: list[bytes] = []
        total = 0
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            total = _bounded(total + size)
            pieces += await _read_pieces(reader, size)
            await reader.readexactly(2)
        while (await reader.readuntil(b"\r\n")) != b"\r\n":
            pass
        return pieces

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None
        self._drop_socket()

    def _drop_socket(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            _SOCKETS.discard(sock)
            if self._streams is None:
                sock.close()


async def _read_pieces(reader: asyncio.StreamReader, size: int) -> list[bytes]:
    """Return ``size`` bytes, piece by piece."""
    pieces: list[bytes] = []
    while size:
        piece = await reader.read(min(size, MAX_HEAD))
        if not piece:
            raise asyncio.IncompleteReadError(b"", size)
        pieces.append(piece)
        size -= len(piece)
    return pieces


def _bounded(size: int) -> int:
    if not 0 <= size <= MAX_BODY:
        raise ValueError(f"an answer of {size} bytes is too large")
    return size

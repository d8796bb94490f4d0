"""HTTP/1.1 as the client speaks it: kept connections, chunks, servers that hang up, TLS."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tidegate.wire import Address, Connection, Unreachable, parse_url

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@asynccontextmanager
async def serving(
    *answers: bytes, hang_up_after: int = 10**9, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Address, list[bytes]]]:
    """A server that gives ``answers`` in order and hangs up after so many on one connection; yields what it was asked, too."""
    asked: list[bytes] = []
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served = 0
        while served < hang_up_after and left:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length")), 0
            )
            asked.append(head + await reader.readexactly(length))
            writer.write(left.pop(0))
            await writer.drain()
            served += 1
        writer.close()

    server = await asyncio.start_server(_quietly(serve), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Address("127.0.0.1", port, context is not None, ""), asked
    finally:
        server.close()


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _quietly(serve: Serve) -> Serve:
    async def quiet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    return quiet


async def test_request__kept_connection__used_again() -> None:
    async with serving(OK, OK) as (address, asked):
        connection = Connection(address, {"Authorization": "Bearer k"}, None)
        for _ in range(2):
            reply = await connection.request("POST", "/x", body=b"hello", timeout_s=5)
        connection.close()

    assert (reply.status, reply.body) == (200, b"ok")
    assert asked[1].startswith(b"POST /x HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"Authorization: Bearer k\r\n" in asked[1]
    assert asked[1].endswith(b"\r\n\r\nhello")


async def test_request__server_hung_up_in_between__made_again_on_a_new_connection() -> None:
    async with serving(OK, OK, OK, hang_up_after=1) as (address, asked):
        connection = Connection(address, {}, None)
        replies = [await connection.request("GET", "/x", timeout_s=5) for _ in range(3)]
        connection.close()

    assert [reply.body for reply in replies] == [b"ok"] * 3
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: t\r\n\r\n", 200, b"abcde"),
        (b"HTTP/1.1 304 Not Modified\r\nETag: \"e\"\r\n\r\n", 304, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    ],
    ids=["chunked", "304", "continue", "until closed", "close"],
)  # fmt: skip
async def test_reply__framing__read_whole(answer: bytes, status: int, body: bytes) -> None:
    async with serving(answer) as (address, _):
        connection = Connection(address, {}, None)
        reply = await connection.request("GET", "/", timeout_s=5)
        connection.close()

    assert (reply.status, reply.body) == (status, body)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"HTTP/1.1 two OK\r\n\r\n", b"x" * 200_000,
    ],
    ids=["ssh", "short", "huge", "negative", "bad chunk", "bad status", "endless head"],
)  # fmt: skip
async def test_reply__nonsense__unreachable_though_sent(answer: bytes) -> None:
    async with serving(answer) as (address, _):
        connection = Connection(address, {}, None)
        with pytest.raises(Unreachable) as error:
            await connection.request("GET", "/", timeout_s=5)

    assert error.value.sent


async def test_request__no_answer_in_time__unreachable() -> None:
    async with serving(b"HTTP/1.1 200 OK\r\n") as (address, _):
        connection = Connection(address, {}, None)
        with pytest.raises(Unreachable):
            await connection.request("GET", "/", timeout_s=0.05)


async def test_request__nobody_listens__unreachable_and_not_sent() -> None:
    async with serving() as (address, _):
        pass

    with pytest.raises(Unreachable) as error:
        await Connection(address, {}, None).request("GET", "/", timeout_s=5)

    assert not error.value.sent


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that nobody has signed, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    made, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    about = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        *about,
        "-keyout",
        key,
        "-out",
        made,
    ]
    subprocess.run(command, check=True, capture_output=True)
    return made, key


async def test_request__tls__certificate_is_checked(certificate: tuple[Path, Path]) -> None:
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(*certificate)

    async with serving(OK, OK, context=theirs) as (address, _):
        trusting = Connection(address, {}, ssl.create_default_context(cafile=str(certificate[0])))
        reply = await trusting.request("GET", "/", timeout_s=5)
        trusting.close()
        with pytest.raises(Unreachable, match="certificate"):
            await Connection(address, {}, ssl.create_default_context()).request("GET", "/", timeout_s=5)

    assert reply.body == b"ok"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:8000", Address("127.0.0.1", 8000, False, "")),
        ("https://tidegate.example/base/", Address("tidegate.example", 443, True, "/base")),
        ("http://[::1]:80/", Address("::1", 80, False, "")),
    ],
)
def test_parse_url__of_a_control_plane__where_it_points(url: str, address: Address) -> None:
    assert parse_url(url) == address


def test_netloc__host_header__as_rfc_9110_has_it() -> None:
    assert [parse_url(url).netloc for url in ("http://[::1]:8000", "https://a", "http://a:80")] == [
        "[::1]:8000",
        "a",
        "a",
    ]

"""Bodies that arrive compressed, unpacked while they arrive and bounded by what they unpack to."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from controlplane.edge.http import Request
from controlplane.problems import Problem, TooLarge

_GZIP, _ZLIB, _BARE = 31, 15, -15
_KNOWN = {b"gzip", b"x-gzip", b"deflate"}
_SLACK = 4  # where nothing else is said, a body may unpack to so many times what it may have packed
_PIECE = 1 << 20


class UnknownEncoding(Problem):
    status, kind, title = 415, "unknown-encoding", "The encoding of the body is not known"


class BadEncoding(Problem):
    """The body is not what its Content-Encoding says."""


Take = Callable[[int], None]


async def read_body(request: Request, *, limit: int, unpacked: int | None = None, take: Take | None = None) -> bytes:
    """Return the body, unpacked; ``TooLarge`` beyond ``limit`` bytes packed, or ``unpacked`` bytes (4 x ``limit``) unpacked.

    ``take`` is told of every number of bytes that is kept, before more is read; it may refuse by raising.
    """
    encoding = request.headers.get(b"content-encoding", b"").strip().lower()
    if encoding in {b"identity", b""}:
        return await request.body(limit=limit, take=take)
    if encoding not in _KNOWN:
        known = "gzip, deflate, identity"
        raise UnknownEncoding(f"Content-Encoding {encoding.decode('latin-1')[:40]!r} is not known; known are {known}.")
    unpacker = Unpacker(encoding, limit=unpacked or limit * _SLACK, take=take)
    async for chunk in request.chunks(limit=limit):
        unpacker.feed(chunk)
    return unpacker.result()


class Unpacker:
    """Unpacks gzip (several members too), zlib, and bare deflate, which some call deflate as well."""

    def __init__(self, encoding: bytes, *, limit: int, take: Take | None = None) -> None:
        self._gzip = encoding != b"deflate"
        self._limit = limit
        self._take = take
        self._size = 0
        self._out: list[bytes] = []
        self._stream: zlib._Decompress | None = None

    def feed(self, chunk: bytes) -> None:
        """Take a piece of the packed body; ``TooLarge`` as soon as it has unpacked to more than the limit."""
        while chunk:
            if self._stream is None or self._stream.eof:
                self._stream = self._begin(chunk)
            try:
                piece = self._stream.decompress(chunk, min(_PIECE, self._limit + 1 - self._size))
            except zlib.error as error:
                raise BadEncoding(f"The body is not what its Content-Encoding says: {error}.") from None
            self._keep(piece)
            chunk = self._stream.unconsumed_tail or (self._stream.unused_data if self._stream.eof else b"")

    def _begin(self, chunk: bytes) -> zlib._Decompress:
        if self._stream is not None and not self._gzip:
            raise BadEncoding("There is more after the end of the compressed body.")
        if self._gzip:
            return zlib.decompressobj(_GZIP)
        head = int.from_bytes(chunk[:2], "big")
        wrapped = len(chunk) < 2 or (chunk[0] & 0x0F == 8 and head % 31 == 0)
        return zlib.decompressobj(_ZLIB if wrapped else _BARE)

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            raise TooLarge(f"The body has more than {self._limit} bytes when unpacked: send smaller batches.")
        if self._take is not None:
            self._take(len(piece))
        self._out.append(piece)

    def result(self) -> bytes:
        """Return what was unpacked."""
        if self._stream is not None:
            self._keep(self._stream.flush() if not self._stream.eof else b"")
        if self._stream is not None and not self._stream.eof:
            raise BadEncoding("The compressed body breaks off.")
        return b"".join(self._out)

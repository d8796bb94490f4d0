"""Bodies that arrive compressed, bounded also after they are unpacked."""

from __future__ import annotations

import zlib

from controlplane.edge.http import Request
from controlplane.problems import Problem, TooLarge

# gzip header, zlib header
_WBITS = {b"gzip": 31, b"deflate": 15}
_RATIO = 20


class UnknownEncoding(Problem):
    status, kind, title = 415, "unknown-encoding", "The encoding of the body is not known"


class BadEncoding(Problem):
    """The body is not what its Content-Encoding says."""


async def read_body(request: Request, *, limit: int) -> bytes:
    """Return the body, unpacked; ``TooLarge`` beyond ``limit`` bytes packed, or twenty times that unpacked."""
    body = await request.body(limit=limit)
    encoding = request.headers.get(b"content-encoding", b"identity").lower()
    return body if encoding in {b"identity", b""} else unpack(body, encoding, limit=limit * _RATIO)


def unpack(body: bytes, encoding: bytes, *, limit: int) -> bytes:
    """Return ``body`` unpacked."""
    if encoding not in _WBITS:
        known = "gzip, deflate, identity"
        raise UnknownEncoding(f"Content-Encoding {encoding.decode('latin-1')[:40]!r} is not known; known are {known}.")
    unpacker = zlib.decompressobj(_WBITS[encoding])
    try:
        unpacked = unpacker.decompress(body, limit)
    except zlib.error as error:
        raise BadEncoding(f"The body is not {encoding.decode()}: {error}.") from None
    if unpacker.unconsumed_tail:
        raise TooLarge(f"The body has more than {limit} bytes when unpacked: send smaller batches.")
    if not unpacker.eof:
        raise BadEncoding("The compressed body breaks off.")
    return unpacked

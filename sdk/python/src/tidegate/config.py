"""The snapshot and price book that govern: verified, compiled, swapped as one, and kept on disk for the next start.

The file is written whole and renamed into place, so that a reader sees the old or the new one; its first line is the SHA-256
of the rest, so that a torn or rotten one is not believed.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Literal, NamedTuple

from tidegate.core import reading
from tidegate.core.price import PriceBook, compile_price_book
from tidegate.core.reading import Steps, finish
from tidegate.core.snapshot import Snapshot

Source = Literal["server", "disk"]
PIECE = 64 * 1024
EMPTY_BOOK = PriceBook({})
_UNBELIEVABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)


class Config(NamedTuple):
    """What governs. ``prices_etag`` names the book that is in use, which may be older than the one the snapshot names."""

    etag: str
    snapshot: Snapshot
    prices_etag: str | None
    book: PriceBook
    source: Source


class Document(NamedTuple):
    """A body as it was served, in the pieces that it came in, with the hash that names it."""

    etag: str
    pieces: Sequence[bytes]


def digest(pieces: Iterable[bytes]) -> Steps[str]:
    """Return the SHA-256 of a body, in steps."""
    checksum = hashlib.sha256()
    for piece in pieces:
        checksum.update(piece)
        yield
    return checksum.hexdigest()


def verified(etag: str, pieces: Sequence[bytes]) -> Steps[Document]:
    """Return the document of an answer, in steps; ``ValueError`` when the body is not what its ETag names."""
    name = etag.strip().removeprefix("W/").strip('"')
    if (yield from digest(pieces)) != name:
        raise ValueError(f"the body's SHA-256 is not its ETag {name[:16]}…")
    return Document(name, pieces)


def read_snapshot(document: Document) -> Steps[Snapshot]:
    """Compile a snapshot in steps; ``ValueError`` (``PolicyError``) names the part that is wrong."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    texts = []
    for piece in _even(document.pieces):
        texts.append(decoder.decode(piece))
        yield
    texts.append(decoder.decode(b"", final=True))
    return (yield from reading.read_snapshot(texts))


def _even(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield larger pieces of very small ones."""
    few: list[bytes] = []
    size = 0
    for piece in pieces:
        few.append(piece)
        size += len(piece)
        if size >= PIECE // 2:
            yield b"".join(few) if len(few) > 1 else piece
            few, size = [], 0
    yield b"".join(few)


def read_prices(document: Document) -> PriceBook:
    return compile_price_book(json.loads(b"".join(document.pieces)), etag=document.etag)


class Store:
    """The last known good documents of one control plane and key, on disk. Without a folder nothing is kept."""

    def __init__(self, folder: Path | None, *, url: str, key: str) -> None:
        name = hashlib.sha256(f"{url}\n{key}".encode()).hexdigest()[:32]
        self._path = folder / f"{name}.json" if folder is not None else None

    def load(self) -> Config | None:
        """Return what was kept, or ``None`` when there is nothing or it can't be believed."""
        try:
            kept = self._read()
            if kept is None:
                return None
            snapshot, prices = kept
            book = read_prices(prices) if prices is not None else EMPTY_BOOK
            return Config(
                snapshot.etag,
                finish(read_snapshot(snapshot)),
                prices.etag if prices is not None else None,
                book,
                "disk",
            )
        except _UNBELIEVABLE:
            return None

    def prices(self, etag: str) -> Document | None:
        """Return the price book that is kept, when it is the one that ``etag`` names."""
        try:
            kept = self._read()
        except _UNBELIEVABLE:
            return None
        return kept[1] if kept is not None and kept[1] is not None and kept[1].etag == etag else None

    def _read(self) -> tuple[Document, Document | None] | None:
        if self._path is None:
            return None
        with self._path.open("rb") as file:
            head = json.loads(file.readline())
            kept = [finish(verified(etag, list(_read_pieces(file, length)))) for etag, length in head]
        return kept[0], kept[1] if len(kept) > 1 else None

    def save(self, snapshot: Document, prices: Document | None) -> Steps[None]:
        """Keep the documents, as they came, in steps. Raises ``OSError`` when the disk won't."""
        if self._path is None:
            return
        documents = [document for document in (snapshot, prices) if document is not None]
        head = [(document.etag, sum(map(len, document.pieces))) for document in documents]
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, made = tempfile.mkstemp(dir=self._path.parent, prefix=".tidegate-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(json.dumps(head).encode() + b"\n")
                for document in documents:
                    for piece in document.pieces:
                        file.write(piece)
                        yield
            Path(made).replace(self._path)
        except BaseException:  # or whoever saves was stopped
            Path(made).unlink(missing_ok=True)
            raise


def _read_pieces(file: IO[bytes], size: int) -> Iterator[bytes]:
    while size > 0 and (piece := file.read(min(size, PIECE))):
        yield piece
        size -= len(piece)


def default_folder() -> Path | None:
    """Return ``TIDEGATE_CACHE_DIR``, or the user's cache folder of the platform; ``None`` when there is no home."""
    named = os.environ.get("TIDEGATE_CACHE_DIR")
    if named is not None:
        return Path(named) if named else None
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "tidegate"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")) / "tidegate" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "tidegate"

"""The snapshot and price book that govern: verified, compiled, swapped as one, and kept on disk for the next start.

The file is written whole and renamed into place, so that a reader sees the old or the new one; its first line is the SHA-256
of the rest, so that a torn or rotten one is not believed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Literal, NamedTuple

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
    """A body as it was served, with the hash that names it."""

    etag: str
    body: bytes


def digest(body: bytes) -> Steps[str]:
    """Return the SHA-256 of ``body``, in steps."""
    checksum = hashlib.sha256()
    for begins in range(0, len(body), PIECE):
        checksum.update(body[begins : begins + PIECE])
        yield
    return checksum.hexdigest()


def verified(etag: str, body: bytes) -> Steps[Document]:
    """Return the document of an answer, in steps; ``ValueError`` when the body is not what its ETag names."""
    name = etag.strip().removeprefix("W/").strip('"')
    if (yield from digest(body)) != name:
        raise ValueError(f"the body's SHA-256 is not its ETag {name[:16]}…")
    return Document(name, body)


def read_snapshot(document: Document) -> Steps[Snapshot]:
    """Compile a snapshot in steps; ``ValueError`` (``PolicyError``) names the part that is wrong."""
    return reading.read_snapshot(document.body.decode())


def read_prices(document: Document) -> PriceBook:
    return compile_price_book(json.loads(document.body), etag=document.etag)


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
            kept = [finish(verified(etag, file.read(length))) for etag, length in head]
        return kept[0], kept[1] if len(kept) > 1 else None

    def save(self, snapshot: Document, prices: Document | None) -> None:
        """Keep the documents, as they came. Raises ``OSError`` when the disk won't."""
        if self._path is None:
            return
        documents = [document for document in (snapshot, prices) if document is not None]
        head = [(document.etag, len(document.body)) for document in documents]
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, made = tempfile.mkstemp(dir=self._path.parent, prefix=".tidegate-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(json.dumps(head).encode() + b"\n")
                file.writelines(document.body for document in documents)
            Path(made).replace(self._path)
        except OSError:
            Path(made).unlink(missing_ok=True)
            raise


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

"""Keys and tokens: a selector to find them by, a secret to prove them by, and only a digest of the whole kept.

They carry 256 bits of chance, so one SHA-256 is as good as a slow hash and costs a request nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import NamedTuple

SDK_KEY = "tg_"
OPERATOR_TOKEN = "tgo_"  # noqa: S105  (a prefix)
_SHAPE = re.compile(r"(tgo?_)([a-z0-9]{12})_([A-Za-z0-9_-]{43})", re.ASCII)
MIN_CHOSEN = 8
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


class Minted(NamedTuple):
    text: str
    selector: str
    digest: bytes


def mint(prefix: str) -> Minted:
    """Return a new key or token; its text must be shown once and forgotten."""
    selector = "".join(secrets.choice(_LETTERS) for _ in range(12))
    return _of(prefix, selector, secrets.token_urlsafe(32))


def adopt(text: str) -> Minted:
    """Return an operator token that was chosen by hand as if minted; ``ValueError`` for one that is too short."""
    if len(text) < MIN_CHOSEN or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"must have at least {MIN_CHOSEN} ASCII characters and no spaces")
    return Minted(text, operator_selector(text), digest(text))


def _of(prefix: str, selector: str, secret: str) -> Minted:
    text = f"{prefix}{selector}_{secret}"
    return Minted(text, selector, digest(text))


def digest(text: str) -> bytes:
    """Return what is kept of a key or token."""
    return hashlib.sha256(text.encode()).digest()


def sdk_selector(text: str) -> str | None:
    """Return the selector of a presented SDK key, or ``None`` for text of another shape."""
    match = _SHAPE.fullmatch(text)
    return match[2] if match and match[1] == SDK_KEY else None


def operator_selector(text: str) -> str:
    """Return the selector of a presented operator token; one that was chosen by hand is found by its digest."""
    match = _SHAPE.fullmatch(text)
    return match[2] if match and match[1] == OPERATOR_TOKEN else hashlib.sha256(text.encode()).hexdigest()[:16]


def proves(text: str, kept: bytes) -> bool:
    """Tell, in constant time, whether ``text`` is what ``kept`` is the digest of."""
    return hmac.compare_digest(digest(text), kept)

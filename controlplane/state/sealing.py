"""State sealed at rest: AES-256-GCM (NIST SP 800-38D), a key per tenant, bound to the place where the value stands.

The keys come from TIDEGATE_STATE_KEYS by HKDF-SHA-256 (RFC 5869). The newest seals; a sealed value names its key by the first
four bytes of a digest, so that older ones stay readable until everything has been written anew.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

NAME_BYTES, NONCE_BYTES = 4, 12


class Unsealable(Exception):
    """A value was sealed with a key that is not among ours, or was changed since."""


def seal(plain: bytes, *place: str) -> bytes:
    """Return ``plain`` sealed for ``place`` (tenant first)."""
    master = _masters()[0]
    nonce = os.urandom(NONCE_BYTES)
    return _name(master) + nonce + _cipher(master, place[0]).encrypt(nonce, plain, _bound(place))


def unseal(sealed: bytes, *place: str) -> bytes:
    """Return what was sealed for ``place``; ``Unsealable`` for anything else."""
    name, nonce = sealed[:NAME_BYTES], sealed[NAME_BYTES : NAME_BYTES + NONCE_BYTES]
    master = next((each for each in _masters() if _name(each) == name), None)
    if master is None:
        raise Unsealable("The value was sealed with a key that TIDEGATE_STATE_KEYS does not have.")
    try:
        return _cipher(master, place[0]).decrypt(nonce, sealed[NAME_BYTES + NONCE_BYTES :], _bound(place))
    except InvalidTag:
        raise Unsealable("The value is not what was sealed for this place.") from None


def _masters() -> Sequence[str]:
    masters: list[str] = settings.STATE_KEYS
    if not masters:
        raise Unsealable("Neither TIDEGATE_STATE_KEYS nor TIDEGATE_SECRET_KEY is set.")
    return masters


def _bound(place: tuple[str, ...]) -> bytes:
    return "\0".join(place).encode()


@lru_cache(maxsize=64)
def _name(master: str) -> bytes:
    return hashlib.sha256(b"tidegate state key " + master.encode()).digest()[:NAME_BYTES]


@lru_cache(maxsize=4096)
def _cipher(master: str, tenant: str) -> AESGCM:
    key = HKDF(algorithm=SHA256(), length=32, salt=b"tidegate state", info=tenant.encode()).derive(master.encode())
    return AESGCM(key)

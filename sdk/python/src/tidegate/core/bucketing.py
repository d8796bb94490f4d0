"""Where a unit stands on a line of a million points: the one number that decides which release it gets.

``point`` is ours: BLAKE2b with the deployment's salt as key, so the same unit stands elsewhere in every deployment. The other
methods place a unit where Unleash, GrowthBook, LaunchDarkly or flagd would, for deployments that are moved here: nobody changes
sides. A share of s parts holds the points below s; a share that grows keeps everybody it had.

``conformance/bucketing.json`` has the vectors that an SDK in any language must reproduce.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b, sha1

PARTS = 1_000_000
_LONGEST_KEY = 64
_U32 = 0xFFFFFFFF
_LAUNCHDARKLY_TOP = 0xFFFFFFFFFFFFFFF

Method = Callable[[str, str], int]


def point(salt: str, unit: str) -> int:
    """Return where ``unit`` stands, from 0 to 999,999: the first 64 bits of a keyed BLAKE2b, scaled without modulo bias.

    ``salt`` is the key, UTF-8, cut to 64 bytes. Lone surrogates pass as they are.
    """
    key = salt.encode("utf-8", "surrogatepass")[:_LONGEST_KEY]
    digest = blake2b(unit.encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest()
    return int.from_bytes(digest, "big") * PARTS >> 64


def murmur3(data: bytes, seed: int = 0) -> int:
    """Return MurmurHash3 x86 32 (Appleby, public domain)."""
    mixed = seed
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        mixed ^= _scrambled(int.from_bytes(data[at : at + 4], "little"))
        mixed = (mixed << 13 | mixed >> 19) & _U32
        mixed = (mixed * 5 + 0xE6546B64) & _U32
    if whole < len(data):
        mixed ^= _scrambled(int.from_bytes(data[whole:], "little"))
    mixed ^= len(data)
    mixed = (mixed ^ mixed >> 16) * 0x85EBCA6B & _U32
    mixed = (mixed ^ mixed >> 13) * 0xC2B2AE35 & _U32
    return mixed ^ mixed >> 16


def _scrambled(block: int) -> int:
    block = block * 0xCC9E2D51 & _U32
    block = (block << 15 | block >> 17) & _U32
    return block * 0x1B873593 & _U32


def fnv1a32(text: str) -> int:
    """Return the 32-bit FNV-1a of the text's UTF-8."""
    mixed = 0x811C9DC5
    for byte in text.encode("utf-8", "surrogatepass"):
        mixed = (mixed ^ byte) * 0x01000193 & _U32
    return mixed


def unleash(group: str, unit: str) -> int:
    """Return the point of Unleash's gradual rollout: 1 % steps, a stickiness group and value."""
    return murmur3(f"{group}:{unit}".encode("utf-8", "surrogatepass")) % 100 * (PARTS // 100)


def growthbook_1(seed: str, unit: str) -> int:
    """Return the point of GrowthBook's first hash: 0.1 % steps. Seeds that differ by little are correlated."""
    return fnv1a32(unit + seed) % 1000 * (PARTS // 1000)


def growthbook_2(seed: str, unit: str) -> int:
    """Return the point of GrowthBook's second hash: 0.01 % steps."""
    return fnv1a32(str(fnv1a32(seed + unit))) % 10_000 * (PARTS // 10_000)


def launchdarkly(prefix: str, unit: str) -> int:
    """Return the point of LaunchDarkly; ``prefix`` is ``flag.salt``, or the seed of an experiment."""
    digest = sha1(f"{prefix}.{unit}".encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()
    return min(PARTS - 1, int(digest[:15], 16) * PARTS // _LAUNCHDARKLY_TOP)


def flagd(flag: str, unit: str) -> int:
    """Return the point of flagd's ``fractional``."""
    return murmur3((flag + unit).encode("utf-8", "surrogatepass")) * PARTS >> 32


METHODS: dict[str, Method] = {
    "tidegate": point,
    "unleash": unleash,
    "growthbook-1": growthbook_1,
    "growthbook-2": growthbook_2,
    "launchdarkly": launchdarkly,
    "flagd": flagd,
}

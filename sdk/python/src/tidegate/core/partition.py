"""Where a piece of state lives: owner → slot → node, the same in every process and language.

An owner (a session, a user, a topic of one tenant) falls into one of ``SLOTS`` slots by its hash, so that all of its keys are
together. Slots are dealt to nodes by rendezvous hashing (Thaler and Ravishankar, 1998) with bounded loads: every slot goes to
the node that scores highest for it and has not had its share yet. So shares are exact to one slot, and a node that comes or
goes moves its own share and a few slots more. A node of weight w draws w tickets, and its score is the best of them: the
chance to win is exactly in proportion to w, in whole numbers, without logarithms that differ between languages.

``sdk/conformance/partition.json`` has vectors for other languages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

SLOTS = 1024
MAX_NODES = 64
MAX_WEIGHT = 16


def hash_of(*parts: str) -> int:
    """Return the first eight bytes, big-endian, of SHA-256 over the parts in UTF-8, joined by NUL. Parts have no NUL."""
    return int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:8], "big")


def slot_of(tenant: str, kind: str, owner: str) -> int:
    """Return the slot of an owner. ``kind`` is ``session``, ``user`` or ``shared``."""
    return hash_of(tenant, kind, owner) % SLOTS


def score(slot: int, node: str, weight: int = 1) -> int:
    """Return how much a node wants a slot."""
    return max(hash_of(str(slot), node, str(ticket)) for ticket in range(weight))


def shares(weights: Mapping[str, int], slots: int = SLOTS) -> dict[str, int]:
    """Return how many slots each node gets: in proportion to its weight, the rest by largest remainder, then by name."""
    total = sum(weights.values())
    dealt = {node: slots * weight // total for node, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda node: (-(slots * weights[node] % total), node))
    for node in by_remainder[: slots - sum(dealt.values())]:
        dealt[node] += 1
    return dealt


def assign(weights: Mapping[str, int], slots: int = SLOTS) -> tuple[str, ...]:
    """Return the node of every slot. ``ValueError`` for no nodes, too many, or weights out of bounds."""
    if not 1 <= len(weights) <= MAX_NODES:
        raise ValueError(f"A ring has 1 to {MAX_NODES} nodes, got {len(weights)}.")
    for node, weight in weights.items():
        if not 1 <= weight <= MAX_WEIGHT:
            raise ValueError(f"A weight is a whole number from 1 to {MAX_WEIGHT}, {node} has {weight}.")
    left = shares(weights, slots)
    return tuple(_choose(slot, weights, left) for slot in range(slots))


def _choose(slot: int, weights: Mapping[str, int], left: dict[str, int]) -> str:
    """Take one slot of a node's share: of those that have some left, the highest score wins, a tie goes by name."""
    chosen = min((node for node in weights if left[node]), key=lambda node: (-score(slot, node, weights[node]), node))
    left[chosen] -= 1
    return chosen


def moved(before: Sequence[object], after: Sequence[object]) -> list[int]:
    """Return the slots that have another node than before."""
    return [slot for slot, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]]

"""Dividing a fleet-wide limit among the instances that enforce it.

What is divided may be a rate or a number of slots; ``capacity`` is the whole of it. A part that was promised stays in force
until its holder has acknowledged a smaller one, or until it has expired: the parts in force never add up to more than the whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

# At least this part is meant to be divided evenly, so that an instance that was idle has something until its demand is known.
EVEN_PART = 0.1

Algorithm = Literal["fair_share", "proportional_share", "static_per_client", "none"]


class Claim(NamedTuple):
    """What one client wants, how much it counts for, and what it may be using now."""

    wants: float
    weight: float = 1.0
    has: float = 0.0


def grant(algorithm: Algorithm, capacity: float, claims: Sequence[Claim], index: int) -> float:
    """Return what the client at ``index`` gets now: what is meant for it, as far as the others leave room for it.

    ``static_per_client`` gives each up to the whole capacity, ``none`` what it wants; the others never exceed it in sum.
    """
    if algorithm == "none":
        return claims[index].wants
    if algorithm == "static_per_client":
        return min(claims[index].wants, capacity)
    meant = fair(capacity, claims) if algorithm == "fair_share" else proportional(capacity, claims)
    others = sum(claim.has for at, claim in enumerate(claims) if at != index)
    return max(0.0, min(meant[index], capacity - others))


def fair(capacity: float, claims: Sequence[Claim]) -> list[float]:
    """Return the fairest parts: nobody gets more than wanted, and nobody more per weight than one who wants still more."""
    parts = [0.0] * len(claims)
    left, weights = capacity, sum(claim.weight for claim in claims)
    for index in sorted(range(len(claims)), key=lambda at: claims[at].wants / claims[at].weight):
        claim = claims[index]
        parts[index] = max(0.0, min(claim.wants, left * claim.weight / weights))
        left -= parts[index]
        weights -= claim.weight
    return parts


def proportional(capacity: float, claims: Sequence[Claim]) -> list[float]:
    """Return equal parts per weight; what some leave of theirs goes to the others in proportion to what they lack."""
    if sum(claim.wants for claim in claims) <= capacity:
        return [claim.wants for claim in claims]
    weights = sum(claim.weight for claim in claims)
    equal = [capacity * claim.weight / weights for claim in claims]
    left = sum(max(0.0, part - claim.wants) for part, claim in zip(equal, claims, strict=True))
    lacking = sum(max(0.0, claim.wants - part) for part, claim in zip(equal, claims, strict=True))
    topped = left / lacking if lacking else 0.0
    return [
        claim.wants if claim.wants <= part else part + (claim.wants - part) * topped
        for part, claim in zip(equal, claims, strict=True)
    ]


def parts_meant(capacity: float, demands: Sequence[float]) -> list[float]:
    """Return the part, from 0 to 1, that is meant for each instance by what it asks for. They add up to 1.

    Each has what it asks for as far as that is fair; what nobody asks for is divided evenly. Without a known ``capacity``
    (0) parts are in proportion to what is asked for, except ``EVEN_PART``.
    """
    count, total = len(demands), sum(demands)
    if capacity <= 0:
        even = 1 / count if total <= 0 else EVEN_PART / count
        return [even + (1 - even * count) * (demand / total if total > 0 else 0.0) for demand in demands]
    least = EVEN_PART * capacity / count
    parts = fair(capacity, [Claim(max(demand, least)) for demand in demands])
    spare = (capacity - sum(parts)) / count
    return [(part + spare) / capacity for part in parts]


def whole_slots(capacity: int, parts: Sequence[float]) -> list[int]:
    """Return ``parts`` of ``capacity`` as whole numbers that add up to it, the largest remainders rounded up."""
    exact = [part * capacity for part in parts]
    slots = [math.floor(value + 1e-9) for value in exact]
    short = capacity - sum(slots)
    for index in sorted(range(len(parts)), key=lambda at: (slots[at] - exact[at], at))[: max(0, short)]:
        slots[index] += 1
    return slots


class Holding(NamedTuple):
    """One instance's part of a limit: what it asks for, the part it was promised last, and the most that it may be using."""

    demand: float
    promised: float = 0.0
    in_force: float = 0.0

    def acknowledged(self, part: float | None) -> Holding:
        """Return the holding after the instance said which part it uses; ``None``: it does not say, and follows promises."""
        used = self.promised if part is None else part
        return self._replace(in_force=min(self.in_force, used))

    def given(self, part: float) -> Holding:
        """Return the holding after ``part`` was promised: until that is acknowledged, it may be using what it used before."""
        return self._replace(promised=part, in_force=max(self.in_force, part))


def give(holdings: Sequence[Holding], index: int, *, capacity: float, whole: bool = False) -> Holding:
    """Return the holding at ``index`` with what it is promised now: its part, as far as the others' parts in force leave room.

    ``whole``: only parts that are whole slots of ``capacity`` are of use.
    """
    parts = parts_meant(capacity, [holding.demand for holding in holdings])
    free = 1.0 - sum(holding.in_force for at, holding in enumerate(holdings) if at != index)
    if whole and capacity >= 1:
        slots = int(capacity)
        part = min(whole_slots(slots, parts)[index], math.floor(free * slots + 1e-6)) / slots
    else:
        part = min(parts[index], free)
    return holdings[index].given(max(0.0, part))

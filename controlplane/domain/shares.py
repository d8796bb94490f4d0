"""Dividing a fleet-wide limit among the instances that enforce it."""

from __future__ import annotations

# This part is divided evenly, so that an instance that was idle has something until its demand is known.
EVEN_PART = 0.1


def share_of(own: float, total: float, instances: int) -> float:
    """Return the part, from 0 to 1, of an instance whose demand is ``own`` of ``total`` over ``instances``.

    The shares of all instances add up to 1.
    """
    instances = max(1, instances)
    if total <= 0:
        return 1 / instances
    return (1 - EVEN_PART) * min(1.0, own / total) + EVEN_PART / instances

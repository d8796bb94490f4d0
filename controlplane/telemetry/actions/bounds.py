"""Sums of what is reported stop at what a bigint holds: who says that it made 10¹⁸ calls, again and again, harms nobody else.

Every stored count is at most ``MOST``, and so is what is added to it, so that adding two can't overflow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import orjson

from controlplane.columns import plain
from tidegate.core.window import MOST


def added(name: str) -> str:
    """Return SQL for the column ``name`` of an upsert of ``excluded`` into ``kept``."""
    return f"least(kept.{name} + excluded.{name}, {MOST})"


def bounded(amounts: Iterable[int]) -> str:
    """Return the array literal of sums."""
    sums = list(amounts)
    return plain(sums if max(sums, default=0) <= MOST else [min(amount, MOST) for amount in sums])


def counts_json(counts: Mapping[str, int]) -> str:
    """Return the document of counts by name."""
    if counts and max(counts.values()) > MOST:
        counts = {name: min(MOST, count) for name, count in counts.items()}
    return orjson.dumps(counts).decode()

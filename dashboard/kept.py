"""What is dear to count and changes slowly: kept for some seconds in this process."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from datetime import datetime
from typing import Any, TypeVar

T = TypeVar("T")
MOST = 500
_KEPT: dict[Hashable, tuple[int, Any]] = {}


def kept(key: Hashable, now: datetime, make: Callable[[], T], fresh_s: int = 10) -> T:
    """Return what ``make`` returns, made anew every ``fresh_s`` seconds at most. ``key`` names all that it depends on."""
    slot = int(now.timestamp()) // fresh_s
    found = _KEPT.get(key)
    if found is None or found[0] != slot:
        if len(_KEPT) >= MOST:
            _KEPT.clear()
        found = _KEPT[key] = (slot, make())
    value: T = found[1]
    return value

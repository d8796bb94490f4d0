"""What a field of a document may hold: checks that return what is wrong with a value, or ``None``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

MISSING = object()
MAX_DEPTH = 32
_UNFIT = re.compile("[\x00\ud800-\udfff]")
Check = Callable[[Any], str | None]


def whole(least: int, most: int) -> Check:
    """Return a check for whole numbers within bounds; no boolean is one."""

    def check(value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            return f"must be a whole number from {least} to {most}"
        return None

    return check


def number(above: float, most: float, *, or_equal: bool = False) -> Check:
    """Return a check for numbers above a bound, or from it on, and at most another; no boolean is one."""

    def check(value: Any) -> str | None:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and above <= value <= most
        if not fits or (value == above and not or_equal):
            return f"must be a number {'from' if or_equal else 'above'} {above:g} {'to' if or_equal else 'and at most'} {most:g}"
        return None

    return check


def one_of(*words: str) -> Check:
    def check(value: Any) -> str | None:
        return None if value in words else f"must be one of {', '.join(words)}"

    return check


def plain(value: Any) -> str | None:
    """Check a document of any shape: what JSON can say, every store can keep, and every language can read."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = []
        for each in level:
            if isinstance(each, Mapping):
                inner += [*each, *each.values()]
            elif isinstance(each, list | tuple):
                inner += each
            elif fault := _leaf_fault(each):
                return fault
        if not inner:
            return None
        level = inner
    return f"must be nested {MAX_DEPTH} levels deep at most"


def _leaf_fault(value: Any) -> str | None:
    if isinstance(value, str):
        return "must not have NUL or half a character in its texts" if _UNFIT.search(value) else None
    if isinstance(value, float):
        return None if math.isfinite(value) else "must not have NaN or an infinite number in it"
    if isinstance(value, int):
        return None if -(2**63) <= value < 2**63 else "must not have whole numbers beyond 64 bits in it"
    return None if value is None else "must be JSON"


def or_null(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


class Field(NamedTuple):
    check: Check
    default: Any = MISSING

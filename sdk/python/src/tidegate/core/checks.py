"""What a field of a document may hold: checks that return what is wrong with a value, or ``None``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

MISSING = object()
Check = Callable[[Any], str | None]


def whole(least: int, most: int) -> Check:
    def check(value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            return f"must be a whole number from {least} to {most}"
        return None

    return check


def number(above: float, most: float, *, or_equal: bool = False) -> Check:
    def check(value: Any) -> str | None:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not fits or value > most or value < above or (value == above and not or_equal):
            return f"must be a number {'from' if or_equal else 'above'} {above:g} {'to' if or_equal else 'and at most'} {most:g}"
        return None

    return check


def one_of(*words: str) -> Check:
    def check(value: Any) -> str | None:
        return None if value in words else f"must be one of {', '.join(words)}"

    return check


def or_null(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


class Field(NamedTuple):
    check: Check
    default: Any = MISSING

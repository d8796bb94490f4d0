"""What the operations on a piece of state make of its value. JSON in, JSON out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import orjson

KINDS = ("session", "user", "shared")
Kind = Literal["session", "user", "shared"]
MAX_NAME = 200
MAX_VALUE = 64 * 1024
MAX_CAP = 1000
MAX_COUNT = 2**53 - 1  # what every JSON reader counts exactly
MAX_DEPTH = 200  # lists and dicts within each other: fewer than readers of JSON give up at


class NotApplicable(Exception):
    """The operation does not fit the value that is there; the message says why."""


class TooMuch(NotApplicable):
    """The value would become larger than is kept."""


class NotReadable(Exception):
    """The value is nothing that every reader of JSON can read; the message says why."""


@dataclass(frozen=True, slots=True)
class Made:
    """The new value as JSON, and what the caller is told."""

    value: bytes
    result: int


def check_value(text: bytes) -> None:
    """Raise ``NotReadable`` for JSON that some readers would not take: what no UTF-8 or no number can say, or nests too deeply."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise NotReadable(f"The value can't be read: {error}.") from None
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise NotReadable(f"The value is nested more than {MAX_DEPTH} levels deep.")


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


def add(current: bytes | None, by: int) -> Made:
    """Return a counter raised by ``by``; one that is absent counts from 0."""
    count = 0 if current is None else json.loads(current)
    if isinstance(count, bool) or not isinstance(count, int):
        raise NotApplicable("The value is not a whole number, so it can't be counted up.")
    if abs(count + by) > MAX_COUNT:
        raise NotApplicable(f"The counter would leave the whole numbers up to {MAX_COUNT:,}.")
    return Made(str(count + by).encode(), count + by)


def append(current: bytes | None, item: bytes, cap: int) -> Made:
    """Return a list with ``item`` at its end and at most ``cap`` items, the newest; one that is absent is empty."""
    items: Any = [] if current is None else json.loads(current)
    if not isinstance(items, list):
        raise NotApplicable("The value is not a list, so nothing can be appended.")
    kept = [*items, json.loads(item)][-cap:]
    value = json.dumps(kept, separators=(",", ":"), ensure_ascii=False).encode()
    if len(value) > MAX_VALUE:
        raise TooMuch(f"The list would have {len(value):,} bytes, at most {MAX_VALUE:,} are kept: lower the cap.")
    return Made(value, len(kept))

"""A trace to replay: a CSV with one call per row, as arrival in seconds, input tokens, output tokens."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import NamedTuple

from controlplane.runtime.engines import CannotStart

MAX_TOKENS = 10_000_000


class Arrival(NamedTuple):
    """One call: seconds after the start, and its token counts."""

    at_s: float
    input_tokens: int
    output_tokens: int


def read_trace(path: Path) -> list[Arrival]:
    """Return the rows of a trace; a first row without numbers is a heading. ``CannotStart`` names the first bad row."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [(number, row) for number, row in enumerate(csv.reader(file), 1) if any(map(str.strip, row))]
    except OSError as error:
        raise CannotStart(f"The trace {path} can't be read: {error.strerror}.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise CannotStart(f"The trace {path} is no CSV in UTF-8: {error}.") from None
    if rows and _is_heading(rows[0][1]):
        del rows[0]
    if not rows:
        raise CannotStart(f"The trace {path} has no rows.")
    arrivals: list[Arrival] = []
    for number, row in rows:
        fault = _fault(row, arrivals[-1].at_s if arrivals else 0.0)
        if fault:
            raise CannotStart(f"The trace {path}, line {number}: {fault}.")
        arrivals.append(Arrival(float(row[0]), int(row[1]), int(row[2])))
    return arrivals


def _is_heading(row: list[str]) -> bool:
    return all(_seconds(value) is None for value in row)


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _fault(row: list[str], previous_s: float) -> str | None:
    if len(row) != 3:
        return f"has {len(row)} values, 3 are expected (arrival in seconds, input tokens, output tokens)"
    at_s = _seconds(row[0])
    if at_s is None or at_s < 0:
        return f"the arrival {row[0]!r} is not a number of seconds"
    if at_s < previous_s:
        return f"the arrival {row[0]} lies before that of the row above"
    for name, text in (("input", row[1]), ("output", row[2])):
        count = text.strip()
        if not (count.isascii() and count.isdigit()) or int(count) > MAX_TOKENS:
            return f"the {name} tokens {text!r} are not a whole number from 0 to {MAX_TOKENS:,}"
    return None

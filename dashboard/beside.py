"""Two traces as one tree: what each of them did at every place, by the names of spans from the top down to it.

Pure, and nothing recurses: a chain of five thousand spans is no dearer than as many beside each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from dashboard.waterfall import Line, Waterfall


class Told(NamedTuple):
    """What one trace did at a place; ``None`` where it was not there."""

    spans: int | None = None
    duration_us: int | None = None
    tokens: int | None = None
    cost_nusd: int | None = None
    errors: int | None = None


@dataclass(frozen=True)
class Row:
    """What both traces did at one place in the tree."""

    depth: int
    name: str
    service: str
    a: Told
    b: Told

    @property
    def only(self) -> str:
        """The trace that alone has this place, ``A`` or ``B``; empty when both have it."""
        return "B" if self.a.spans is None else "A" if self.b.spans is None else ""

    @property
    def change_us(self) -> int | None:
        if self.a.duration_us is None or self.b.duration_us is None:
            return None
        return self.b.duration_us - self.a.duration_us

    @property
    def tone(self) -> str:
        if self.a.duration_us is None or self.b.duration_us is None:
            return ""
        slower = self.b.duration_us > self.a.duration_us * 1.2 and self.b.duration_us - self.a.duration_us > 1000
        quicker = self.a.duration_us > self.b.duration_us * 1.2 and self.a.duration_us - self.b.duration_us > 1000
        return "up" if slower else "down" if quicker else ""


@dataclass(slots=True)
class _Place:
    name: tuple[str, str]  # service and span
    depth: int
    lines: tuple[list[Line], list[Line]] = field(default_factory=lambda: ([], []))
    below: list[int] = field(default_factory=list)


def beside(a: Waterfall, b: Waterfall) -> list[Row]:
    """Return both trees as one: places of ``a`` in its order, what only ``b`` has after its siblings."""
    places = [_Place(("", ""), -1)]
    known: dict[tuple[int, tuple[str, str]], int] = {}
    for side, found in enumerate((a, b)):
        standing: list[int] = []  # the place of each line
        for line in found.lines:
            above = standing[line.parent] if line.parent >= 0 else 0
            name = (line.span.service, line.span.name)
            number = known.setdefault((above, name), len(places))
            if number == len(places):
                places.append(_Place(name, places[above].depth + 1))
                places[above].below.append(number)
            standing.append(number)
            places[number].lines[side].append(line)
    rows, rest = list[Row](), places[0].below[::-1]
    while rest:
        place = places[rest.pop()]
        service, span = place.name
        rows.append(Row(place.depth, span, service, _told(place.lines[0]), _told(place.lines[1])))
        rest += place.below[::-1]
    return rows


def _told(lines: list[Line]) -> Told:
    if not lines:
        return Told()
    return Told(
        len(lines),
        sum(line.span.duration_us for line in lines),
        sum(line.tokens for line in lines),
        sum(line.cost_nusd for line in lines),
        sum(line.errors for line in lines),
    )

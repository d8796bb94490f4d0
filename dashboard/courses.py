"""Courses over time that are drawn as SVG at stream rate: values in, coordinates out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from controlplane.policy.models import Revision
from controlplane.telemetry.queries import Point
from dashboard.page import Range

WIDTH, HEIGHT, FOOT = 760.0, 170.0, 188.0
LONGEST = 32
TOO_NEAR = 0.09  # of the width: labels of changes nearer than that are one
LATE = 0.75  # of the width: labels of later changes stand to the left, clear of the rates
GLYPH = 5.4  # width of a letter of a label, generously
LEAST_PART_S = 60.0  # of a step that is not over: what is shorter tells nothing yet
ROWS = FIRST_ROW, SECOND_ROW = 13.0, 25.0  # where labels of changes stand


@dataclass(frozen=True)
class Layer:
    """One stacked area: its outline and its upper line, as SVG points."""

    tone: str
    area: str
    line: str


@dataclass(frozen=True)
class Mark:
    """A label at a coordinate."""

    x: float
    y: float
    text: str
    anchor: str = "middle"


@dataclass(frozen=True)
class Course:
    layers: Sequence[Layer]
    grid: Sequence[Mark]
    times: Sequence[Mark]
    events: Sequence[Mark]


def nice_top(value: float) -> float:
    """Return the least of 1, 2, 2.5, 5 x 10^n that is not under ``value``."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value)


class Step(NamedTuple):
    """A point of a course and how many seconds it counts."""

    point: Point
    length_s: float


def steps_of(course: Sequence[Point], chosen: Range, now: datetime, late_s: float = 0.0) -> list[Step]:
    """Return the steps that are over since ``late_s``, and of long steps the one that is not, as long as it is so far."""
    steps = []
    for point in course:
        past = (now - point.at).total_seconds()
        if past >= chosen.step_s + late_s:
            steps.append(Step(point, chosen.step_s))
        elif chosen.step_s > LEAST_PART_S <= past:
            steps.append(Step(point, min(past, chosen.step_s)))
    return steps


def outcome_course(course: Sequence[Point], chosen: Range, now: datetime, changes: Sequence[Revision]) -> Course | None:
    """Return calls per second by outcome, stacked: answered, by a fallback, failed or refused. ``None`` without calls."""
    steps = steps_of(course, chosen, now)
    whole = [step.point for step in steps]
    if len(whole) < 2 or not any(point.calls or point.refused for point in whole):
        return None
    answered = [max(0, point.calls - point.errors - point.fallbacks) / length_s for point, length_s in steps]
    helped = [point.fallbacks / length_s for point, length_s in steps]
    failed = [(point.errors + point.refused) / length_s for point, length_s in steps]
    top = nice_top(max(a + b + c for a, b, c in zip(answered, helped, failed, strict=True)))
    floor = [0.0] * len(whole)
    layers = []
    for tone, values in (("s1", answered), ("s3", helped), ("trouble", failed)):
        ceiling = [low + value for low, value in zip(floor, values, strict=True)]
        line = _line(ceiling, top)
        layers.append(Layer(tone, f"{line} {' '.join(reversed(_line(floor, top).split()))}", line))
        floor = ceiling
    lines = 4 if f"{top:e}"[0] == "1" or f"{top:.1e}".startswith("2.0") else 5
    grid = [
        Mark(WIDTH - 2, _y(top * part / lines, top), _rate(top * part / lines), "end") for part in range(1, lines + 1)
    ]
    return Course(layers, grid, _times(whole), events_of(changes, whole[0].at, whole[-1].at))


def _y(value: float, top: float) -> float:
    return round(HEIGHT - value / top * (HEIGHT - 8), 1)


def _rate(value: float) -> str:
    return f"{value:g}/s"


def _line(values: Sequence[float], top: float) -> str:
    step = WIDTH / (len(values) - 1)
    return " ".join(f"{step * number:.1f},{_y(value, top)}" for number, value in enumerate(values))


def _times(whole: Sequence[Point]) -> list[Mark]:
    """Return up to six times, each said once: of two columns within a minute the first is labelled."""
    last = len(whole) - 1
    marks: list[Mark] = []
    for part in range(6):
        number = round(last * part / 5)
        anchor = "start" if part == 0 else "end" if part == 5 else "middle"
        text = f"{whole[number].at:%H:%M}"
        if not marks or text != marks[-1].text:
            marks.append(Mark(WIDTH * number / last, FOOT - 4, text, anchor))
    return marks


def events_of(
    changes: Iterable[Revision], starts: datetime, ends: datetime, width: float = WIDTH, rows: Sequence[float] = ROWS
) -> list[Mark]:
    """Return where people changed something: those at nearly the same time as one, the last four of them."""
    length = (ends - starts).total_seconds()
    groups: list[list[Revision]] = []
    for change in sorted((each for each in changes if starts < each.at < ends), key=lambda each: each.pk):
        if groups and (change.at - groups[-1][0].at).total_seconds() < length * TOO_NEAR:
            groups[-1].append(change)
        else:
            groups.append([change])
    at = [width * (group[0].at - starts).total_seconds() / length for group in groups]
    marks = [
        Mark(round(x, 1), FIRST_ROW, _event(group), "end" if x > width * LATE else "start")
        for x, group in list(zip(at, groups, strict=True))[-4:]
    ]
    return apart(marks, rows)


def apart(marks: Sequence[Mark], rows: Sequence[float] = ROWS) -> list[Mark]:
    """Return ``marks``, from left to right, in rows where no two labels touch; one that fits in no row loses its text."""
    ends: dict[float, float] = {}
    placed = []
    for mark in marks:
        length = GLYPH * len(mark.text)
        left, right = (mark.x - length, mark.x) if mark.anchor == "end" else (mark.x, mark.x + length)
        row = next((row for row in rows if ends.get(row, 0.0) <= left), None)
        if row is None:
            placed.append(replace(mark, text=""))
        else:
            ends[row] = right
            placed.append(replace(mark, y=row))
    return placed


def _event(group: Sequence[Revision]) -> str:
    if len(group) == 1 and group[0].kind == "deployment":
        return group[0].summary[:LONGEST]  # assistant 7.3.0: running
    kinds = {change.kind for change in group}
    what = kinds.pop() if len(kinds) == 1 else "changes"
    numbers = f"r{group[0].pk}" + (f"–r{group[-1].pk}" if len(group) > 1 else "")
    return f"{what} {numbers}"

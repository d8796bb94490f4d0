"""A rule tried on the past, drawn: what it would have measured, its limit, and a lane per thing with the times it would have fired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from controlplane.alerting.conditions import figure_text
from controlplane.alerting.courses import Sample, Track, Tried
from controlplane.alerting.findings import hours_text, number_text
from dashboard import figures
from dashboard.courses import Mark, nice_top

WIDTH, FLOOR, HEAD = 560.0, 130.0, 14.0
LANE, LANES_AT = 16.0, 140.0
MOST_POINTS = 280
TONES = ("s1", "s2", "s3", "s4", "s5")


@dataclass(frozen=True)
class Bar:
    """A time in which it would have fired."""

    x: float
    width: float
    says: str


@dataclass(frozen=True)
class Lane:
    """One thing that is watched: its line, in pieces where nothing was measured, and when it would have fired."""

    label: str
    tone: str
    lines: Sequence[str]
    y: float
    text_y: float
    bars: Sequence[Bar]


@dataclass(frozen=True)
class Firing:
    """One line of the table."""

    label: str
    begins: datetime
    ends: datetime | None
    lasted: str


@dataclass(frozen=True)
class PastCourse:
    lanes: Sequence[Lane]
    grid: Sequence[Mark]
    times: Sequence[Mark]
    limit_y: float | None
    limit_text: str
    height: float
    axis_y: float
    firings: Sequence[Firing]
    lasted: str
    measured: int
    steps: int
    note: str


def text_of(unit: str, value: float) -> str:
    """Return a value of a tried rule with its unit."""
    plain = {
        "ratio": f"{value:.4g}",
        "score": f"{value:.1f}",
        "burn": f"{value:.1f} ×",
        "hours": hours_text(value),
        "ingest_lag_s": f"{value:.0f} s",
        "sent": number_text(value),
        "values": f"{value:,.0f}",
    }
    if unit in plain:
        return plain[unit]
    return f"{value * 100:.0f} %" if unit == "used" else figure_text(unit, value)


def course_of(tried: Tried, below: bool = False) -> PastCourse | None:
    """Return the drawing; ``None`` when there was nothing to measure. ``below``: low values are those that matter."""
    tracks = [track for track in tried.tracks if track.samples]
    if not tracks or not tried.measured:
        return None
    samples = tracks[0].samples
    starts, ends = samples[0].at, samples[-1].at
    known = [each.value for track in tracks for each in track.samples if each.value is not None]
    bottom = min(0.0, *known) if known else 0.0
    top = max(nice_top(max([*known, tried.limit or 0.0], default=0.0)), bottom + 1e-9)

    def x(at: datetime) -> float:
        return round(WIDTH * ((at - starts) / (ends - starts) if ends > starts else 0.0), 1)

    def y(value: float) -> float:
        return round(FLOOR - (value - bottom) / (top - bottom) * (FLOOR - HEAD), 1)

    lanes = []
    for number, track in enumerate(tracks):
        lines = [" ".join(f"{x(at)},{y(value)}" for at, value in piece) for piece in _pieces(track.samples, below)]
        bars = [_bar(x(begin), x(end or ends), track.label, begin, end) for begin, end in track.episodes]
        at_y = LANES_AT + LANE * number
        lanes.append(Lane(track.label, TONES[number % len(TONES)], lines, at_y, at_y + 10, bars))
    height = LANES_AT + LANE * len(lanes) + 16
    return PastCourse(
        lanes=lanes,
        grid=[Mark(2, y(bottom + (top - bottom) * part), text_of(tried.unit, bottom + (top - bottom) * part), "start") for part in (0.5, 1.0)],
        times=_times(starts, ends, height - 3),
        limit_y=None if tried.limit is None or not bottom <= tried.limit <= top else y(tried.limit),
        limit_text="" if tried.limit is None else text_of(tried.unit, tried.limit),
        height=height,
        axis_y=height - 14,
        firings=[_firing(track, begin, end, ends) for track in tracks for begin, end in track.episodes],
        lasted=figures.span(sum(((end or ends) - begin).total_seconds() for begin, end in tried.episodes)),
        measured=tried.measured,
        steps=tried.steps,
        note=tried.note,
    )  # fmt: skip


def _pieces(samples: Sequence[Sample], below: bool) -> list[list[tuple[datetime, float]]]:
    """Return a course in at most so many points, each the extreme of its part, broken where nothing was measured."""
    width = max(1, -(-len(samples) // MOST_POINTS))
    pieces: list[list[tuple[datetime, float]]] = [[]]
    for begin in range(0, len(samples), width):
        part = [(each.value, each.at) for each in samples[begin : begin + width] if each.value is not None]
        if part:
            value, at = min(part) if below else max(part)
            pieces[-1].append((at, value))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _bar(begin: float, end: float, label: str, begins: datetime, ends: datetime | None) -> Bar:
    until = f"to {ends:%d %b %H:%M}" if ends else "and still"
    return Bar(begin, max(2.0, round(end - begin, 1)), f"{label or 'fires'}: {begins:%d %b %H:%M} {until} UTC")


def _firing(track: Track, begins: datetime, ends: datetime | None, last: datetime) -> Firing:
    return Firing(track.label, begins, ends, figures.span(((ends or last) - begins).total_seconds()))


def _times(starts: datetime, ends: datetime, y: float) -> list[Mark]:
    marks: list[Mark] = []
    if ends - starts <= timedelta(hours=30):
        hour = (starts + timedelta(hours=4)).replace(minute=0, second=0, microsecond=0)
        while hour < ends:
            marks.append(Mark(round(WIDTH * ((hour - starts) / (ends - starts)), 1), y, f"{hour:%H:%M}", "middle"))
            hour += timedelta(hours=4)
        return marks
    day = (starts + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    while day < ends:
        place = round(WIDTH * ((day - starts) / (ends - starts)), 1)
        if 16 < place < WIDTH - 16:
            marks.append(Mark(place, y, f"{day:%a} {day.day}", "middle"))
        day += timedelta(days=1)
    return marks

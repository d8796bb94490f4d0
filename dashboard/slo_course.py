"""Service levels drawn: what is left of an error budget over its window, and how fast it burns in a long and a short window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from controlplane.alerting.standings import BurnPoint, PairPoint
from controlplane.domain.slo import Burn
from controlplane.policy.models import Revision
from dashboard.courses import FIRST_ROW, Mark, events_of, nice_top

WIDTH, FLOOR, HEAD, FOOT = 560.0, 150.0, 12.0, 166.0


@dataclass(frozen=True)
class BudgetLeft:
    """Coordinates of what was left, 1 at the top; ``zero_y`` is where it is gone."""

    line: str
    area: str
    zero_y: float
    grid: Sequence[Mark]
    times: Sequence[Mark]
    events: Sequence[Mark]
    points: Sequence[BurnPoint]
    tone: str


@dataclass(frozen=True)
class BurnLines:
    """Coordinates of both windows, in pieces where there were no calls; ``spans`` are the times in which both burned."""

    long: Sequence[str]
    short: Sequence[str]
    factor_y: float
    grid: Sequence[Mark]
    times: Sequence[Mark]
    events: Sequence[Mark]
    spans: Sequence[tuple[float, float]]
    points: Sequence[PairPoint]


def budget_course_of(points: Sequence[BurnPoint], changes: Sequence[Revision] = ()) -> BudgetLeft | None:
    """Return the drawing of what was left, with what people changed meanwhile; ``None`` without calls."""
    known = [(each.at, each.left) for each in points if each.left is not None]
    if len(known) < 2 or not any(each.count.total for each in points):
        return None
    first = next(number for number, each in enumerate(points) if each.count.total)
    drawn = known[max(0, first - 1) :]
    if len(drawn) < 2:
        drawn = known[-2:]
    low = min(0.0, *(left for _, left in drawn))
    low = -nice_top(-low) if low < 0 else 0.0
    x, y = _scales(points[0].at, points[-1].at, low, 1.0)
    line = " ".join(f"{x(at)},{y(left)}" for at, left in drawn)
    area = f"{x(drawn[0][0])},{y(0.0)} {line} {x(drawn[-1][0])},{y(0.0)}"
    marks = (
        [1.0, 0.5, 0.0] if low > -0.25 else [1.0, 0.0, low] if low >= -6 else [0.0, low]
    )  # labels have no room nearer to each other
    grid = [Mark(2, y(value), f"{value * 100:,.0f} %".replace("-", "−"), "start") for value in marks]
    last = drawn[-1][1]
    tone = "trouble" if last <= 0 else "watch" if last < 0.25 else "s1"
    starts, ends = points[0].at, points[-1].at
    events = events_of(changes, starts, ends, WIDTH, (FIRST_ROW,))
    return BudgetLeft(line, area, y(0.0), grid, _times(starts, ends), events, list(points), tone)


def pair_course_of(points: Sequence[PairPoint], burn: Burn, changes: Sequence[Revision] = ()) -> BurnLines | None:
    """Return the drawing of both windows, with what people changed meanwhile; ``None`` without calls."""
    known = [rate for each in points for rate in (each.long, each.short) if rate is not None]
    if not known:
        return None
    top = nice_top(min(max([*known, burn.factor * 1.2]), burn.factor * 12))
    x, y = _scales(points[0].at, points[-1].at, 0.0, top)
    grid = [Mark(2, y(top * part), f"{top * part:g} ×", "start") for part in (0.5, 1.0)]
    return BurnLines(
        long=_pieces(points, lambda each: each.long, x, y),
        short=_pieces(points, lambda each: each.short, x, y),
        factor_y=y(burn.factor),
        grid=grid,
        times=_times(points[0].at, points[-1].at),
        events=events_of(changes, points[0].at, points[-1].at, WIDTH, (FIRST_ROW,)),
        spans=_spans(points, burn, x),
        points=list(points),
    )


Scale = Callable[[datetime], float]
Height = Callable[[float], float]


def _scales(starts: datetime, ends: datetime, low: float, top: float) -> tuple[Scale, Height]:
    def x(at: datetime) -> float:
        return round(WIDTH * ((at - starts) / (ends - starts) if ends > starts else 0.0), 1)

    def y(value: float) -> float:
        return round(FLOOR - (min(value, top) - low) / (top - low) * (FLOOR - HEAD), 1)

    return x, y


def _pieces(points: Sequence[PairPoint], rate: Callable[[PairPoint], float | None], x: Scale, y: Height) -> list[str]:
    pieces: list[list[str]] = [[]]
    for each in points:
        value = rate(each)
        if value is not None:
            pieces[-1].append(f"{x(each.at)},{y(value)}")
        elif pieces[-1]:
            pieces.append([])
    return [" ".join(piece) for piece in pieces if piece]


def _spans(points: Sequence[PairPoint], burn: Burn, x: Scale) -> list[tuple[float, float]]:
    spans: list[tuple[float, float]] = []
    begins: datetime | None = None
    for each in points:
        both = each.long is not None and each.short is not None and min(each.long, each.short) > burn.factor
        if both and begins is None:
            begins = each.at
        elif not both and begins is not None:
            spans.append((x(begins), max(2.0, x(each.at) - x(begins))))
            begins = None
    if begins is not None:
        spans.append((x(begins), max(2.0, WIDTH - x(begins))))
    return spans


def _times(starts: datetime, ends: datetime) -> list[Mark]:
    length = ends - starts
    marks = []
    for part in range(6):
        at = starts + length * part / 5
        text = f"{at:%H:%M}" if length <= timedelta(hours=30) else f"{at.day} {at:%b}"
        anchor = "start" if part == 0 else "end" if part == 5 else "middle"
        marks.append(Mark(round(WIDTH * part / 5, 1), FOOT, text, anchor))
    return marks

"""The rate of bad units of both arms since a rollout began, drawn with bands that hold however often one looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from controlplane.domain.bands import band
from controlplane.rollouts import findings
from controlplane.rollouts.models import ArmWindow, Rollout, RolloutEvent
from dashboard.courses import HEIGHT, TOO_NEAR, Layer, Mark, nice_top

ALPHA = 0.05
WIDTH = 1180.0
MOST_POINTS = 60
MOST = timedelta(hours=24)
FOOT = 188.0
CANARY_LEAST = 20


@dataclass(frozen=True)
class ArmCourse:
    layers: Sequence[Layer]
    grid: Sequence[Mark]
    times: Sequence[Mark]
    events: Sequence[Mark]


@dataclass(frozen=True)
class _Point:
    at: datetime
    rate: float
    low: float
    high: float


def arm_course(rollout: Rollout, history: Sequence[RolloutEvent], now: datetime) -> ArmCourse | None:
    """Return the drawing with what was done to the rollout, ``None`` before there is something to draw."""
    if rollout.started_at is None:
        return None
    since = max(rollout.started_at, now - MOST) - timedelta(seconds=10)
    rows = [row for row in findings.course_of(rollout, since=since) if rollout.first_step <= row.step]
    stable = _points([row for row in rows if row.release == rollout.previous.name])
    canary = _points([row for row in rows if row.release == rollout.release.name])
    if len(stable) < 2 and len(canary) < 2:
        return None
    everything = [*stable, *canary]
    starts, ends = min(point.at for point in everything), max(point.at for point in everything)
    if ends <= starts:
        return None
    settled = [point.high for points in (stable, canary) for point in points[len(points) // 3 :]]
    top = min(1.0, max(0.02, nice_top(max(settled)))) if settled else 0.1
    layers = [
        _layer(tone, points, top, starts, ends)
        for tone, points in (("stable", stable), ("canary", canary))
        if len(points) > 1
    ]
    return ArmCourse(layers, _grid(top), _times(starts, ends), _events(history, starts, ends))


def _points(rows: Sequence[ArmWindow]) -> list[_Point]:
    """Return the rate so far at each slice, at most ``MOST_POINTS``."""
    points: list[_Point] = []
    n = bad = 0
    for row in rows:
        n, bad = n + row.units, bad + row.bad
        if n < CANARY_LEAST:
            continue
        if points and points[-1].at == row.starts_at:
            points.pop()
        low, high = band(bad, n, alpha=ALPHA)
        points.append(_Point(row.starts_at, bad / n, low, high))
    step = max(1, len(points) // MOST_POINTS)
    return points[::-step][::-1]


def _layer(tone: str, points: Sequence[_Point], top: float, starts: datetime, ends: datetime) -> Layer:
    def at(point: _Point, value: float) -> str:
        x = WIDTH * (point.at - starts).total_seconds() / (ends - starts).total_seconds()
        return f"{x:.1f},{HEIGHT - min(value, top) / top * (HEIGHT - 8):.1f}"

    outline = [at(point, point.high) for point in points] + [at(point, point.low) for point in reversed(points)]
    return Layer(tone, " ".join(outline), " ".join(at(point, point.rate) for point in points))


def _grid(top: float) -> list[Mark]:
    return [
        Mark(2, round(HEIGHT - part / 4 * (HEIGHT - 8), 1), f"{top * part / 4 * 100:g} %", "start")
        for part in range(1, 5)
    ]


def _times(starts: datetime, ends: datetime) -> list[Mark]:
    words = "%H:%M:%S" if ends - starts < timedelta(minutes=10) else "%H:%M"
    marks = []
    for part in range(5):
        anchor = "start" if part == 0 else "end" if part == 4 else "middle"
        marks.append(Mark(WIDTH * part / 4, FOOT - 4, f"{starts + (ends - starts) * part / 4:{words}}", anchor))
    return marks


def _events(history: Sequence[RolloutEvent], starts: datetime, ends: datetime) -> list[Mark]:
    """Return what was done, each where it was done; of several at nearly one place the last."""
    length = (ends - starts).total_seconds()
    marks: list[Mark] = []
    for event in sorted((each for each in history if starts <= each.at <= ends), key=lambda each: each.at):
        x = round(WIDTH * (event.at - starts).total_seconds() / length, 1)
        mark = Mark(x, 24, event.verb.replace("_", " "), "end" if x > WIDTH * (1 - TOO_NEAR) else "start")
        if marks and x - marks[-1].x < WIDTH * TOO_NEAR:
            marks.pop()
        marks.append(mark)
    return marks

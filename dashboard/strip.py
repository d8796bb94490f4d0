"""The seven figures of a range, each with its course, its unit and the change against the range before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from controlplane.telemetry.queries import Figures, Point, Spread
from dashboard import figures
from dashboard.courses import Step, steps_of
from dashboard.figures import Figure
from dashboard.page import Range

LATE_S = 2  # reports of a step arrive until then


@dataclass(frozen=True)
class Entry:
    """One figure. ``tone`` colours its course, ``change_tone`` the change: ``up`` is bad, ``down`` is good."""

    name: str
    title: str
    value: Figure
    sub: str
    change: str
    change_tone: str
    course: Sequence[float | None]
    tone: str
    spread: Spread | None
    unit: str  # how the table writes values: "duration_us", "count", "usd", "percent"


def strip_of(now: Figures, before: Figures, course: Sequence[Point], chosen: Range, at: datetime) -> list[Entry]:
    """Return the seven figures. A short last step of the course is left out while it is filling."""
    steps = steps_of(course, chosen, at, LATE_S)
    whole = [step.point for step in steps]
    return [
        _latency(now, before, whole),
        _tokens(now, before, steps),
        _cost(now, before, steps),
        _errors(now, before, whole),
        _queue(now, before, whole),
        _sessions(before, now, steps),
        _cache(now, before, whole),
    ]


def _signed(difference: float, text: str) -> str:
    return f"{'+' if difference > 0 else '−'}{text}" if difference else "±0"


def _points(now: float | None, before: float | None) -> float | None:
    """Percentage points between two shares, to a tenth."""
    return None if now is None or before is None else round((now - before) * 100, 1)


def _relative(now: float | None, before: float | None) -> str:
    share = figures.change(now, before)
    if share is None:
        return ""
    if share >= 9:
        return "× " + figures.count(share + 1)
    return _signed(round(share * 100), f"{abs(share) * 100:.0f} %")


def _worse(now: float, before: float, by: float = 0.1) -> str:
    """``up`` when a figure that should be low rose by more than a tenth, ``down`` when it fell as much."""
    if not before:
        return ""
    return "up" if now > before * (1 + by) else "down" if now < before * (1 - by) else ""


def _latency(now: Figures, before: Figures, course: Sequence[Point]) -> Entry:
    spread, was = now.latency_us, before.latency_us
    difference = spread.p99 - was.p99
    tone = _worse(spread.p99, was.p99)
    change = _signed(difference, str(figures.duration(abs(difference)))) if was.count and spread.count else ""
    value = figures.duration(spread.p99) if spread.count else Figure("–", "")
    return Entry(
        "request_latency_ms",
        "Request latency",
        Figure(value.value, f"{value.unit} p99" if spread.count else ""),
        f"p50 {figures.duration(spread.p50)}" if spread.count else "no calls",
        change,
        tone,
        [point.p99_us for point in course],
        "watch" if tone == "up" else "accent",
        spread,
        "duration_us",
    )


def _tokens(now: Figures, before: Figures, steps: Sequence[Step]) -> Entry:
    used, was = now.tokens_used, before.tokens_used
    share = now.input_tokens / used if used else None
    return Entry(
        "tokens_used",
        "Tokens",
        Figure(figures.count(used / now.known_s), "/s"),
        f"{figures.percent(share, 0)} input" if used else "none used",
        _relative(used / now.known_s, was / before.known_s if was else None),
        "",
        [(point.input_tokens + point.output_tokens) / length_s for point, length_s in steps],
        "accent",
        now.tokens,
        "count",
    )


def _cost(now: Figures, before: Figures, steps: Sequence[Step]) -> Entry:
    return Entry(
        "cost_usd",
        "Cost",
        Figure(figures.usd(round(now.cost_nusd / now.known_s * 3600)), "/h"),
        f"{figures.usd(now.cost_nusd)} so far",
        _relative(now.cost_nusd / now.known_s, before.cost_nusd / before.known_s if before.cost_nusd else None),
        "",
        [point.cost_nusd / length_s for point, length_s in steps],
        "accent",
        now.call_cost_nusd,
        "usd",
    )


def _errors(now: Figures, before: Figures, course: Sequence[Point]) -> Entry:
    rate, was = now.error_rate, before.error_rate
    points = _points(rate, was)
    bad = rate is not None and rate >= 0.05
    return Entry(
        "error_rate",
        "Errors",
        Figure(f"{rate * 100:.1f}", "%") if rate is not None else Figure("–", ""),
        f"{figures.count(now.errors)} failed · {figures.count(now.refused)} refused",
        _signed(points, f"{abs(points):.1f} pt") if points is not None else "",
        "" if points is None or abs(points) < 0.1 else "up" if points > 0 else "down",
        [point.errors / point.calls if point.calls else 0.0 for point in course],
        "trouble" if bad else "watch" if points is not None and points > 0.5 else "accent",
        None,
        "percent",
    )


def _queue(now: Figures, before: Figures, course: Sequence[Point]) -> Entry:
    spread, was = now.queue_depth, before.queue_depth
    return Entry(
        "queue_depth",
        "Queue depth",
        Figure(figures.count(spread.p99), "waiting p99"),
        f"mean {spread.mean:.1f} · most {figures.count(spread.max)}",
        _signed(spread.p99 - was.p99, figures.count(abs(spread.p99 - was.p99))) if was.count else "",
        _worse(spread.p99, was.p99),
        [point.queue_depth for point in course],
        "watch" if spread.p99 > max(4, was.p99 * 1.5) else "accent",
        spread,
        "count",
    )


def _sessions(before: Figures, now: Figures, steps: Sequence[Step]) -> Entry:
    """There is a sample of every instance's sessions for every second, so those of a step add up to seconds x sessions."""
    active = [point.sessions / length_s for point, length_s in steps]
    newest = sorted(active[-3:])[len(active[-3:]) // 2] if active else 0.0  # one late report moves nothing
    was = before.sessions.mean * before.sessions.count / before.known_s
    return Entry(
        "active_sessions",
        "Active sessions",
        Figure(figures.count(round(newest)), "active"),
        f"most {figures.count(round(max(active, default=0.0)))}",
        _relative(newest, was or None),
        "",
        active,
        "accent",
        now.sessions,
        "count",
    )


def _cache(now: Figures, before: Figures, course: Sequence[Point]) -> Entry:
    rate, was = now.cache_hit_rate, before.cache_hit_rate
    points = _points(rate, was)
    return Entry(
        "cache_hit_rate",
        "Cache hits",
        Figure(f"{rate * 100:.1f}", "% of input") if rate is not None else Figure("–", ""),
        f"{figures.count(now.cached_input_tokens)} cached",
        _signed(points, f"{abs(points):.1f} pt") if points is not None else "",
        "" if points is None or abs(points) < 0.5 else "down" if points > 0 else "up",
        [point.cached_input_tokens / point.input_tokens if point.input_tokens else 0.0 for point in course],
        "accent",
        None,
        "percent",
    )

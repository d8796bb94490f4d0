"""Trying a rule on the past: when would it have fired in the last days?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from controlplane.alerting.conditions import FIGURES, window_of
from controlplane.alerting.schemas import AbsenceSpec, RatioSpec, ThresholdSpec, spec_of
from controlplane.domain.alerts import Comparison, Episode, NoData, Timing, backtest, compares
from controlplane.problems import Invalid
from controlplane.telemetry import queries as telemetry
from controlplane.telemetry.queries import Measured, Point
from controlplane.tenancy.queries import Asker

DAYS = 7
STEP_S = 300
NANO = 1e9


@dataclass(frozen=True)
class Tried:
    """When a rule would have fired, and how many of its evaluations had something to measure."""

    episodes: list[Episode]
    steps: int
    measured: int


def try_on_past(asker: Asker, kind: str, document: Any, timing: Timing, now: datetime, days: int = DAYS) -> Tried:
    """Return when a rule would have fired, evaluated every five minutes; ``Invalid`` for rules that can't be tried."""
    spec = spec_of(kind, document)
    window = window_of(spec)
    if window is None or not isinstance(spec, ThresholdSpec | RatioSpec | AbsenceSpec):
        raise Invalid(
            "This rule can't be tried on the past.",
            errors={"kind": "only thresholds, ratios and absences of one whole can"},
        )
    width = max(1, -(-window // STEP_S))
    start = now.replace(minute=now.minute - now.minute % 5, second=0, microsecond=0) - timedelta(days=days)
    points: list[Point] = []
    for day in range(days):
        since = start + timedelta(days=day)
        points += telemetry.series(
            asker, since, since + timedelta(days=1), STEP_S, spec.tenant or None, spec.route or None, spec.model or None
        )
    held: list[tuple[datetime, bool | None]] = []
    for number in range(width - 1, len(points)):
        inside = points[number - width + 1 : number + 1]
        held.append((points[number].at + timedelta(seconds=STEP_S), _holds(spec, _together(inside))))
    coarse = timing._replace(no_data=NoData.OK)
    return Tried(backtest(held, coarse), len(held), sum(each is not None for _, each in held))


def _together(points: list[Point]) -> Measured:
    """Return what the steps of one window come to; the slowest of their percentiles stands for that of all."""
    names = (
        "calls", "errors", "refused", "fallbacks", "retries", "input_tokens", "cached_input_tokens", "output_tokens", "cost_nusd",
    )  # fmt: skip
    counts = {name: sum(getattr(point, name) for point in points) for name in names}
    slowest = max((point.p99_us for point in points if point.p99_us is not None), default=None)
    p99 = None if slowest is None else slowest / 1000
    depth = sum(point.queue_depth for point in points) / len(points)
    return Measured(len(points) * STEP_S, counts, (None, None, p99), depth, 0.0)


def _holds(spec: ThresholdSpec | RatioSpec | AbsenceSpec, found: Measured) -> bool | None:
    if isinstance(spec, AbsenceSpec):
        return found["calls"] == 0
    if isinstance(spec, RatioSpec):
        whole = found["cost_nusd"] / NANO if spec.denominator == "cost_usd" else float(found[spec.denominator])
        part = found["cost_nusd"] / NANO if spec.numerator == "cost_usd" else float(found[spec.numerator])
        return (
            compares(part / whole, Comparison(spec.op), spec.value)
            if whole >= max(spec.min_denominator, 1e-12)
            else None
        )
    value = FIGURES[spec.metric](found) if found["calls"] + found["refused"] >= spec.min_calls else None
    return None if value is None else compares(value, Comparison(spec.op), spec.value)

"""What a rule finds when it looks, and how it is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from controlplane.domain.alerts import Anomaly, usual

WEEKS = 5  # that an hour is compared with
_WEEK_H = 7 * 24
_BESIDE = (0, -1, 1)  # the hour itself, and those beside it
HOURS_BEFORE = tuple(week * _WEEK_H - beside for week in range(1, WEEKS + 1) for beside in _BESIDE)
SIGNS = {"above": ">", "below": "<", "at_least": "≥", "at_most": "≤"}


class Finding(NamedTuple):
    """``holds`` is ``None`` when there was nothing to measure."""

    label: str
    value: float | None
    holds: bool | None
    summary: str


def said(what: str, value: str, op: str, limit: str, holds: bool | None) -> str:
    """Return ``error rate 12.0 % > 10.0 %``, or ``error rate 1.0 %, not > 10.0 %``."""
    if holds is None:
        return f"{what}: nothing to measure, limit {SIGNS[op]} {limit}"
    return f"{what} {value}{'' if holds else ', not'} {SIGNS[op]} {limit}"


def usual_of(at: Callable[[int], float | None]) -> Anomaly | None:
    """Return what is usual at an hour of the week; ``at`` tells what was so many hours before it (of ``HOURS_BEFORE``)."""
    found = [[at(week * _WEEK_H - beside) for week in range(1, WEEKS + 1)] for beside in _BESIDE]
    return usual(*([value for value in values if value is not None] for values in found))


def usual_before(values: Sequence[float | None], number: int) -> Anomaly | None:
    """Return what is usual at the hour of that number, by ``values`` of all the hours."""
    return usual_of(lambda hours: values[number - hours])


def leans(score: float, direction: str) -> float:
    """Return a score in the direction that a rule looks: what is low counts when it looks down, either when at both."""
    return {"up": score, "down": -score}.get(direction, abs(score))


def number_text(value: float) -> str:
    """Return a number of any size as people read it: ``16,512,343``, ``0.0312``."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def hours_text(hours: float) -> str:
    """Return how long something takes: ``12 min``, ``3.4 h``."""
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.0f} min"

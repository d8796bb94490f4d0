"""What a rule finds when it looks, and how it is said."""

from __future__ import annotations

from typing import NamedTuple

WEEKS = 5  # that an hour is compared with
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


def leans(score: float, direction: str) -> float:
    """Return a score in the direction that a rule looks: what is low counts when it looks down, either when at both."""
    return {"up": score, "down": -score}.get(direction, abs(score))


def number_text(value: float) -> str:
    """Return a number of any size as people read it: ``16,512,343``, ``0.0312``."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def hours_text(hours: float) -> str:
    """Return how long something takes: ``12 min``, ``3.4 h``."""
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.0f} min"

"""When an alert is told to nobody, and when it is told to more: maintenance that repeats, inhibition, escalation."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from controlplane.domain.alerts import ON, State, Told

REPEATS = {"": None, "day": timedelta(days=1), "week": timedelta(weeks=1)}


class Span(NamedTuple):
    """A time in which something is in force; its end is exclusive."""

    starts_at: datetime
    ends_at: datetime


def occurrence(first: Span, repeats: str, until: datetime | None, now: datetime) -> Span | None:
    """Return the span that is on, else the next one; ``None`` when there will be no more.

    ``repeats`` is "", "day" or "week"; those that would begin after ``until`` are left out.
    """
    every = REPEATS[repeats]
    if every is None:
        return first if now < first.ends_at else None
    passed = max(0, (now - first.ends_at) // every + 1) if now >= first.ends_at else 0
    found = Span(first.starts_at + every * passed, first.ends_at + every * passed)
    return found if until is None or found.starts_at <= until else None


def in_force(first: Span, repeats: str, until: datetime | None, now: datetime) -> bool:
    """Return whether one of the spans is on."""
    found = occurrence(first, repeats, until, now)
    return found is not None and found.starts_at <= now


def inhibits(source_label: str, label: str) -> bool:
    """Return whether an alert of a rule silences one of a rule that it inhibits: they are of the same thing, or one is of all."""
    return not source_label or not label or source_label == label


def inhibitor(label: str, sources: Iterable[tuple[str, str]]) -> str | None:
    """Return the name of the first of the firing ``sources`` (name, label) that silences an alert."""
    return next((name for name, source in sources if inhibits(source, label)), None)


def escalates(
    state: State, told: Told, told_at: datetime | None, after_s: int, *, taken: bool, done: bool, now: datetime
) -> bool:
    """Return whether more people have to be told: it fires, was told long enough ago, and nobody has taken it.

    ``after_s`` of 0 never escalates; ``done`` says that it was escalated already since it began to fire.
    """
    if state not in ON or told is not Told.FIRING or told_at is None or not after_s or taken or done:
        return False
    return now - told_at >= timedelta(seconds=after_s)

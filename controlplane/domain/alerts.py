"""The life of one alert: from what was measured to what state it is in, with Prometheus' meaning of ``for`` (rules/alerting.go).

A condition that holds makes an alert pending; one that held for ``for_s`` makes it fire. When it no longer holds, a pending alert
is inactive at once, a firing one stays for ``keep_firing_s`` more, then is resolved. Between two evaluations nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"
    KEEP_FIRING = "keep-firing"  # the condition no longer holds, but has not been gone for long enough
    RESOLVED = "resolved"  # fired, and is over
    NO_DATA = "no-data"
    ERROR = "error"  # the rule could not be evaluated


ON = frozenset({State.FIRING, State.KEEP_FIRING})
_LEAST = 3  # values of which a median is taken


class NoData(StrEnum):
    """What it means when there is nothing to measure."""

    OK = "ok"  # the condition does not hold, as in Prometheus
    ALERT = "alert"  # a state of its own, that people are told of
    KEEP = "keep"  # whatever was before still is


class Standing(NamedTuple):
    """Where an alert is. ``active_at``: since when the condition holds; ``gone_at``: since when it no longer does."""

    state: State = State.INACTIVE
    since: datetime | None = None
    active_at: datetime | None = None
    gone_at: datetime | None = None


class Timing(NamedTuple):
    for_s: float = 0
    keep_firing_s: float = 0
    no_data: NoData = NoData.OK


def step(before: Standing, holds: bool | None, timing: Timing, now: datetime) -> Standing:
    """Return where the alert is after an evaluation; ``holds`` is ``None`` when there was nothing to measure."""
    if holds is None:
        if timing.no_data is NoData.KEEP:
            return before
        if timing.no_data is NoData.ALERT:
            return _into(before, State.NO_DATA, now)
    return _held(before, timing, now) if holds else _let_go(before, timing, now)


def resumed(before: Standing, missed_s: float) -> Standing:
    """Return where an alert is when nobody looked for ``missed_s``: that time counts neither as held nor as gone.

    Prometheus does the same with ``for`` after a restart.
    """
    if missed_s <= 0:
        return before
    missed = timedelta(seconds=missed_s)
    if before.state is State.PENDING and before.active_at is not None:
        return before._replace(active_at=before.active_at + missed)
    if before.state is State.KEEP_FIRING and before.gone_at is not None:
        return before._replace(gone_at=before.gone_at + missed)
    return before


def rewound(before: Standing, now: datetime) -> Standing:
    """Return where an alert is when the clock was ahead before: what is said to begin later than ``now`` begins now."""
    since, active_at, gone_at = (None if at is None else min(at, now) for at in before[1:])
    return Standing(before.state, since, active_at, gone_at)


def failed(before: Standing, now: datetime) -> Standing:
    """Return where an alert is whose rule could not be evaluated."""
    return _into(before, State.ERROR, now)


def _into(before: Standing, state: State, now: datetime) -> Standing:
    return before if before.state is state else Standing(state, now)


def _held(before: Standing, timing: Timing, now: datetime) -> Standing:
    if before.state in ON:
        since = before.since if before.state is State.FIRING else now
        return Standing(State.FIRING, since, before.active_at)
    active_at = before.active_at if before.state is State.PENDING and before.active_at else now
    if now - active_at >= timedelta(seconds=timing.for_s):
        return Standing(State.FIRING, now, active_at)
    since = before.since if before.state is State.PENDING else now
    return Standing(State.PENDING, since, active_at)


def _let_go(before: Standing, timing: Timing, now: datetime) -> Standing:
    if before.state in ON:
        gone_at = before.gone_at or now
        if timing.keep_firing_s > 0 and now - gone_at < timedelta(seconds=timing.keep_firing_s):
            since = before.since if before.state is State.KEEP_FIRING else now
            return Standing(State.KEEP_FIRING, since, before.active_at, gone_at)
        return Standing(State.RESOLVED, now)
    return before if before.state in (State.INACTIVE, State.RESOLVED) else Standing(State.INACTIVE, now)


class Told(StrEnum):
    """What people were last told of an alert."""

    NOTHING = "nothing"
    FIRING = "firing"
    RESOLVED = "resolved"
    NO_DATA = "no-data"
    ERROR = "error"


_TELLS = {
    State.FIRING: Told.FIRING,
    State.KEEP_FIRING: Told.FIRING,
    State.NO_DATA: Told.NO_DATA,
    State.ERROR: Told.ERROR,
}


def to_tell(state: State, told: Told, *, silenced: bool) -> Told | None:
    """Return what people have to be told now, once per change; ``None`` for nothing.

    What begins and ends within a silence is never told. What still fires when a silence ends is told then.
    """
    news = _TELLS.get(state, Told.RESOLVED if state is not State.PENDING else told)
    if news is told or silenced:
        return None
    return None if news is Told.RESOLVED and told is Told.NOTHING else news


class Comparison(StrEnum):
    ABOVE = "above"
    BELOW = "below"
    AT_LEAST = "at_least"
    AT_MOST = "at_most"


def compares(value: float, comparison: Comparison, limit: float) -> bool:
    """Return whether ``value`` is, say, above ``limit``; equal is not above."""
    return {
        Comparison.ABOVE: value > limit,
        Comparison.BELOW: value < limit,
        Comparison.AT_LEAST: value >= limit,
        Comparison.AT_MOST: value <= limit,
    }[comparison]


class Episode(NamedTuple):
    """One firing in a backtest."""

    begins: datetime
    ends: datetime | None


def backtest(values: Iterable[tuple[datetime, bool | None]], timing: Timing) -> list[Episode]:
    """Return when a rule would have fired, from what its condition was at each evaluation, the oldest first."""
    standing, begins = Standing(), None
    episodes: list[Episode] = []
    for at, holds in values:
        standing = step(standing, holds, timing, at)
        if standing.state in ON and begins is None:
            begins = at
        elif standing.state not in ON and begins is not None:
            episodes.append(Episode(begins, at))
            begins = None
    return [*episodes, Episode(begins, None)] if begins is not None else episodes


class Anomaly(NamedTuple):
    """What is usual at an hour of the week: the median, and the median of the distances from such medians."""

    median: float
    spread: float

    def score(self, value: float) -> float:
        """Return how far ``value`` is from what is usual, in robust standard deviations (1.4826 x MAD), signed."""
        unit = 1.4826 * self.spread or max(abs(self.median) * 0.05, 1e-9)
        return (value - self.median) / unit


def usual(values: Sequence[float], *beside: Sequence[float]) -> Anomaly | None:
    """Return what is usual of at least three ``values``, those of one hour of the week; ``None`` for fewer.

    Those few tell little of the spread. So what the hours ``beside`` it, each by itself, spread around their own medians counts
    too; where the hour itself spreads wider, that counts. What is usual beside it is not usual at it: a peak may be an hour long.
    """
    if len(values) < _LEAST:
        return None
    own = _distances(values)
    others = [distance for each in beside if len(each) >= _LEAST for distance in _distances(each)]
    return Anomaly(_median(values), max(_median(own), _median([*own, *others])))


def _distances(values: Sequence[float]) -> list[float]:
    """Return how far values are from their median, but for the nearest: it makes the median, and of a few it would halve the spread."""
    median = _median(values)
    return sorted(abs(value - median) for value in values)[1:]


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2

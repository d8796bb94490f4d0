"""What rules over calls would have measured, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import accumulate

from controlplane.alerting.conditions import (
    FIGURES,
    holds_ratio,
    holds_threshold,
    needed_counts,
    needs_latency,
    needs_samples,
)
from controlplane.alerting.courses import STEP_S, Held, Sample
from controlplane.alerting.findings import WEEKS, leans, usual_before
from controlplane.alerting.schemas import AbsenceSpec, AnomalySpec, RatioSpec, ThresholdSpec
from controlplane.telemetry import queries as telemetry
from controlplane.telemetry.queries import Measured, Steps
from controlplane.tenancy.queries import Asker

_DAY_S = 86_400
_WEEK_H = 7 * 24


class _Sliding:
    """Windows over steps: what the last ``width`` steps before each come to. Percentiles are those of the slowest step."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._sums = {name: list(accumulate(column, initial=0)) for name, column in steps.counts.items()}

    def calls(self, end: int, width: int) -> int:
        """Return the calls of the ``width`` steps before ``end``."""
        sums = self._sums["calls"]
        return sums[end] - sums[max(0, end - width)]

    def window(self, end: int, width: int) -> Measured:
        if width == 1:
            return self._steps[end - 1]
        begin, steps = max(0, end - width), self._steps
        counts = {name: sums[end] - sums[begin] for name, sums in self._sums.items()}
        p50, p95, p99 = (_slowest(steps, begin, end, place) for place in range(3))
        depths = [depth for depth in steps.queue_depth[begin:end] if depth is not None]
        depth = sum(depths) / len(depths) if depths else None
        sessions = sum(steps.sessions[begin:end]) / (end - begin)
        return Measured(steps.seconds * (end - begin), counts, (p50, p95, p99), depth, sessions)


def _slowest(steps: Steps, begin: int, end: int, place: int) -> float | None:
    known = [value for each in steps.latency_ms[begin:end] if (value := each[place]) is not None]
    return max(known, default=None)


def _over(
    asker: Asker,
    spec: ThresholdSpec | RatioSpec | AbsenceSpec,
    since: datetime,
    until: datetime,
    look: Callable[[_Sliding, int, int], tuple[float | None, bool | None]],
    lead_s: int = 0,
) -> Held:
    """Return what ``look`` sees at the end of each step: it is given the steps, the end and the width of the window."""
    width = max(1, -(-spec.window_s // STEP_S))
    lead = max(width - 1, lead_s // STEP_S)
    start = since - timedelta(seconds=lead * STEP_S)
    found = telemetry.measured_steps(
        asker, start, until, STEP_S, spec.by, spec.tenant or None, spec.route, spec.model,
        latency=needs_latency(spec), sampled=needs_samples(spec), counts=needed_counts(spec),
    )  # fmt: skip
    if not spec.by:
        empty = Steps(float(STEP_S), len(telemetry.slots_of(start, until, STEP_S)), needed_counts(spec))
        found = {"": found.get("", empty)}
    held: Held = {}
    for label, steps in found.items():
        sliding = _Sliding(steps)
        held[label] = [
            Sample(start + timedelta(seconds=STEP_S * end), *look(sliding, end, width))
            for end in range(lead + 1, len(steps) + 1)
        ]
    return held


def threshold_tracks(asker: Asker, spec: ThresholdSpec, since: datetime, until: datetime) -> Held:
    """Return a figure of calls at each step."""
    return _over(asker, spec, since, until, lambda steps, end, width: holds_threshold(spec, steps.window(end, width)))


def ratio_tracks(asker: Asker, spec: RatioSpec, since: datetime, until: datetime) -> Held:
    """Return one count over another at each step."""
    return _over(asker, spec, since, until, lambda steps, end, width: holds_ratio(spec, steps.window(end, width)))


def absence_tracks(asker: Asker, spec: AbsenceSpec, since: datetime, until: datetime) -> Held:
    """Return the calls at each step; a group is expected to call when it did in the day before."""

    def look(steps: _Sliding, end: int, width: int) -> tuple[float | None, bool | None]:
        if spec.by and not steps.calls(end, _DAY_S // STEP_S):
            return None, None
        calls = steps.calls(end, width)
        return float(calls), calls == 0

    return _over(asker, spec, since, until, look, _DAY_S if spec.by else 0)


def anomaly_tracks(asker: Asker, spec: AnomalySpec, since: datetime, until: datetime) -> Held:
    """Return how unusual the last whole hour was at each step, in robust deviations in the direction of the rule."""
    last = until.replace(minute=0)
    days = -(-int((until - since).total_seconds()) // _DAY_S)
    first = last - timedelta(days=days, weeks=WEEKS, hours=1)
    found = telemetry.measured_steps(
        asker, first, last, 3600, spec.by, spec.tenant or None, spec.route, spec.model, latency=needs_latency(spec)
    )
    held: Held = {} if spec.by else {"": []}
    for label, hours in found.items():
        held[label] = [
            Sample(at, score, None if score is None else score >= spec.score)
            for number, score in _scores(spec, hours)
            for step in range(3600 // STEP_S)
            if (at := first + timedelta(hours=number + 1, seconds=step * STEP_S)) <= until
        ]
    return held


def _scores(spec: AnomalySpec, hours: Sequence[Measured]) -> Iterator[tuple[int, float | None]]:
    """Return how unusual each hour was that has five weeks before it, by its number."""
    figure = FIGURES[spec.metric]
    values = [figure(each) if each.counts else None for each in hours]
    for number in range(WEEKS * _WEEK_H + 1, len(values)):
        known, value = usual_before(values, number), figure(hours[number])
        yield number, None if value is None or known is None else leans(known.score(value), spec.direction)

"""What rules over the fleet would have measured, as far as it is kept; what is not kept says so."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from django.db.models import Q

from controlplane.alerting.courses import STEP_S, Held, Sample
from controlplane.alerting.schemas import FleetSpec
from controlplane.domain.alerts import Comparison, compares
from controlplane.domain.presence import LOST_AFTER_S
from controlplane.domain.rollout import OPEN
from controlplane.fleet import queries as fleet
from controlplane.problems import NotFound
from controlplane.rollouts import queries as rollouts
from controlplane.rollouts.models import RolloutEvent
from controlplane.telemetry import queries as telemetry
from controlplane.telemetry.queries import Question
from controlplane.tenancy.queries import Asker

_STEP = timedelta(seconds=STEP_S)
_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
Interval = tuple[datetime, datetime | None]  # an end of ``None``: it goes on
Values = list[float | None]  # of each step

NOTES = {
    "breakers_open": "Counted where an open breaker refused calls, in each five minutes; an open breaker that nobody called is not seen.",
    "clients_lost": "By when each client was last heard of: one that fell silent and came back is not seen.",
    "clients_refusing": "As counted once a minute.",
    "clients_dropping": "As counted once a minute.",
    "ingest_lag_s": "To the minute.",
}
_COUNTED = {"clients_refusing": "tidegate.clients.refusing", "clients_dropping": "tidegate.clients.dropping"}


def fleet_tracks(asker: Asker, spec: FleetSpec, since: datetime, until: datetime) -> Held:
    """Return what a rule over the fleet would have seen at the end of each step."""
    look = _PAST[spec.what]
    ends = [since + _STEP * number for number in range(1, int((until - since) / _STEP) + 1)]
    held = [
        Sample(at, value, None if value is None else compares(value, Comparison(spec.op), spec.value))
        for at, value in zip(ends, look(asker, spec, since, ends), strict=True)
    ]
    return {"": held}


def _counts(intervals: Iterable[Interval], ends: Sequence[datetime]) -> Values:
    """Return how many of ``intervals`` each time lies in."""
    steps = [0] * (len(ends) + 1)
    for begins, over in intervals:
        first = bisect_left(ends, begins)
        last = len(ends) if over is None else bisect_left(ends, over)
        if first < last:
            steps[first] += 1
            steps[last] -= 1
    count, found = 0, Values()
    for step in steps[: len(ends)]:
        count += step
        found.append(float(count))
    return found


def _breakers_open(asker: Asker, spec: FleetSpec, since: datetime, ends: Sequence[datetime]) -> Values:
    found = telemetry.breakers_refusing(asker, since, ends[-1], STEP_S, spec.route, spec.model)
    return [float(found.get(at - _STEP, 0)) for at in ends]


def _clients_lost(asker: Asker, _spec: FleetSpec, since: datetime, ends: Sequence[datetime]) -> Values:
    silent = fleet.instances_seen_by(asker).filter(closed_at=None, seen_at__gte=since - _HOUR, seen_at__lt=ends[-1])
    lost = timedelta(seconds=LOST_AFTER_S)
    seen = silent.values_list("seen_at", flat=True)[:20_000]
    return _counts([(at + lost, at + _HOUR) for at in seen], ends)


def _rollouts_undone(asker: Asker, _spec: FleetSpec, since: datetime, ends: Sequence[datetime]) -> Values:
    undone = rollouts.rollouts_seen_by(asker).filter(phase__in=["rolled_back", "aborted"], ended_at__gte=since - _HOUR)
    return _counts([(at, at + _HOUR) for at in undone.values_list("ended_at", flat=True) if at is not None], ends)


def _rollouts_waiting(asker: Asker, _spec: FleetSpec, since: datetime, ends: Sequence[datetime]) -> Values:
    seen = rollouts.rollouts_seen_by(asker).filter(Q(ended_at=None) | Q(ended_at__gte=since))
    events = RolloutEvent.objects.filter(rollout__in=seen.order_by().values("pk")).order_by("rollout_id", "id")
    of_each: dict[int, list[RolloutEvent]] = {}
    for event in events:
        of_each.setdefault(event.rollout_id, []).append(event)
    return _counts([each for history in of_each.values() for each in _waits(history)], ends)


def _waits(history: Sequence[RolloutEvent]) -> list[Interval]:
    """Return when a rollout waited for a person, by its history."""
    found: list[Interval] = []
    ring = -1
    for event, after in pairwise([*history, None]):
        if event is None:
            break
        asks = event.verb == "ask" or (event.verb == "skip" and event.ring == ring)
        if event.phase in ("held", "approval") or (event.phase in OPEN and asks):
            found.append((event.at, after.at if after is not None else None))
        ring = event.ring
    return found


def _ingest_lag(asker: Asker, _spec: FleetSpec, since: datetime, ends: Sequence[datetime]) -> Values:
    """The longest silence that was seen within each step."""
    minutes = telemetry.minutes_with_windows(asker, since - _HOUR, ends[-1])

    def lag(at: datetime) -> float | None:
        place = bisect_right(minutes, at - _MINUTE)
        if not place or minutes[place - 1] < at - _HOUR:
            return None
        return max(0.0, (at - minutes[place - 1] - _MINUTE).total_seconds())

    looks = [[lag(at - _MINUTE * back) for back in range(STEP_S // 60)] for at in ends]
    return [max((each for each in found if each is not None), default=None) for found in looks]


def _clients_counted(asker: Asker, spec: FleetSpec, since: datetime, ends: Sequence[datetime]) -> Values:
    """What the server counted once a minute; a step in which it was away is not known."""
    try:
        metric = telemetry.metric_seen_by(asker, _COUNTED[spec.what])
    except NotFound:
        return [None] * len(ends)
    asked = Question(since, ends[-1], STEP_S, grain="fine")
    lines = telemetry.course_seen_by(asker, metric, asked).lines
    return [None if step is None else step.amount for step in lines[0].steps] if lines else [None] * len(ends)


_PAST: dict[str, Callable[[Asker, FleetSpec, datetime, Sequence[datetime]], Values]] = {
    "breakers_open": _breakers_open,
    "clients_lost": _clients_lost,
    "clients_refusing": _clients_counted,
    "clients_dropping": _clients_counted,
    "rollouts_undone": _rollouts_undone,
    "rollouts_waiting": _rollouts_waiting,
    "ingest_lag_s": _ingest_lag,
}

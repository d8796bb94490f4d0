"""Reads of the SDK instances and of their breakers, through the eyes of the one who asks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import QuerySet

from controlplane.domain.presence import LOST_AFTER_S
from controlplane.fleet.models import BreakerPhase, BreakerState, Instance
from controlplane.tenancy.queries import Asker, in_scope

_MOST_STATES = 5000


def instances_seen_by(asker: Asker) -> QuerySet[Instance]:
    """Return the instances whose key is scoped to the asker's subtree, the last heard of first. Slice it."""
    instances = Instance.objects.select_related("key", "scope").order_by("-seen_at", "incarnation")
    return in_scope(instances, asker, through="scope")


def instance_seen_by(asker: Asker, incarnation: str) -> Instance | None:
    """Return one instance in the asker's scope; ``None`` for another's, and for what is no incarnation."""
    try:
        wanted = UUID(incarnation)
    except ValueError:
        return None
    return instances_seen_by(asker).filter(incarnation=wanted).first()


def instances_named(incarnations: Iterable[UUID]) -> dict[UUID, Instance]:
    """Return instances by incarnation; for those whom the asker saw by other means, such as a lease."""
    return Instance.objects.in_bulk(list(incarnations), field_name="incarnation")


def live_instances_seen_by(asker: Asker, now: datetime) -> QuerySet[Instance]:
    """Return those that were heard of within a minute and have not said goodbye."""
    return instances_seen_by(asker).filter(closed_at=None, seen_at__gte=now - timedelta(seconds=LOST_AFTER_S))


@dataclass
class Breaker:
    """The breakers of one route and model on all live instances. Counts are those of the breakers' windows.

    With a ``credential`` they are those of it alone, kept apart because the fault was its own.
    """

    route: str
    model: str
    credential: str = ""
    states: list[BreakerState] = field(default_factory=list)

    def _count(self, phase: BreakerPhase) -> int:
        return sum(state.phase == phase for state in self.states)

    @property
    def clients(self) -> int:
        return len(self.states)

    @property
    def open(self) -> int:
        return self._count(BreakerPhase.OPEN)

    @property
    def half_open(self) -> int:
        return self._count(BreakerPhase.HALF_OPEN)

    @property
    def phase(self) -> str:
        """The worst phase on any client."""
        if self.open:
            return BreakerPhase.OPEN.value
        return BreakerPhase.HALF_OPEN.value if self.half_open else BreakerPhase.CLOSED.value

    @property
    def modes(self) -> set[str]:
        return {state.mode for state in self.states}

    @property
    def calls(self) -> int:
        return sum(state.calls for state in self.states)

    @property
    def failures(self) -> int:
        return sum(state.failures for state in self.states)

    @property
    def slow(self) -> int:
        return sum(state.slow for state in self.states)

    @property
    def refused(self) -> int:
        return sum(state.refused for state in self.states)

    @property
    def failure_rate(self) -> float | None:
        """0 to 1; ``None`` without calls."""
        return self.failures / self.calls if self.calls else None

    @property
    def worst(self) -> BreakerState:
        """The state to tell of: an open one before others, the one with the most failures first."""
        rank = {BreakerPhase.OPEN.value: 0, BreakerPhase.HALF_OPEN.value: 1, BreakerPhase.CLOSED.value: 2}
        return min(self.states, key=lambda state: (rank[state.phase], -state.failures))


def breakers_seen_by(asker: Asker, now: datetime) -> list[Breaker]:
    """Return the breakers of the live instances by route and model: open ones first, then by failures, then by calls."""
    states = BreakerState.objects.filter(
        instance__closed_at=None, instance__seen_at__gte=now - timedelta(seconds=LOST_AFTER_S)
    )
    states = in_scope(states, asker, through="instance__scope")
    grouped: dict[tuple[str, str, str], Breaker] = {}
    ordered = states.select_related("instance").order_by("route", "model", "credential", "instance__app", "pk")
    for state in ordered[:_MOST_STATES]:
        key = (state.route, state.model, state.credential)
        grouped.setdefault(key, Breaker(*key)).states.append(state)
    return sorted(grouped.values(), key=_worst_first)


def _worst_first(breaker: Breaker) -> tuple[bool, bool, int, int, str, str, str]:
    return (
        not breaker.open,
        not breaker.half_open,
        -breaker.failures,
        -breaker.calls,
        breaker.route,
        breaker.model,
        breaker.credential,
    )

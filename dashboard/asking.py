"""One reading of the world for one asker at one time: what the rail and the page both need is read once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from controlplane.budgets import queries as budgets
from controlplane.domain.rollout import OPEN
from controlplane.fleet import queries as fleet
from controlplane.fleet.models import Instance
from controlplane.rollouts import queries as rollouts
from controlplane.rollouts.models import Rollout
from controlplane.tenancy.queries import Asker

MOST_INSTANCES = 500


@dataclass(frozen=True)
class Asking:
    """Who asks, and when. Everything on a page is as of ``now``."""

    asker: Asker
    now: datetime

    @cached_property
    def breakers(self) -> list[fleet.Breaker]:
        return fleet.breakers_seen_by(self.asker, self.now)

    @cached_property
    def standings(self) -> list[budgets.Standing]:
        return budgets.standings(self.asker, self.now)

    @cached_property
    def rollouts(self) -> list[Rollout]:
        """Those that are not over."""
        return list(rollouts.rollouts_seen_by(self.asker).filter(phase__in=OPEN)[:MOST_INSTANCES])

    @cached_property
    def live_instances(self) -> list[Instance]:
        return list(fleet.live_instances_seen_by(self.asker, self.now)[:MOST_INSTANCES])

"""One reading of the world for one asker at one time: what the rail and the page both need is read once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from controlplane.alerting import queries as alerting
from controlplane.alerting.models import Alert
from controlplane.budgets import queries as budgets
from controlplane.domain.alerts import ON, State
from controlplane.domain.rollout import OPEN
from controlplane.fleet import queries as fleet
from controlplane.fleet.models import Instance
from controlplane.rollouts import queries as rollouts
from controlplane.rollouts.models import Rollout
from controlplane.tenancy.queries import Asker

MOST_INSTANCES = 500
MOST_ALERTS = 300


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
    def alerts(self) -> list[Alert]:
        """Those that are worth a look, and those resolved in the last hour; firing ones are among them."""
        return list(alerting.alerts_seen_by(self.asker, now=self.now)[:MOST_ALERTS])

    @cached_property
    def firing(self) -> list[Alert]:
        """Those that fire and are not silenced."""
        return [each for each in self.alerts if State(each.state) in ON and not each.silenced]

    @cached_property
    def ended_rollouts(self) -> list[Rollout]:
        """Those that ended within the last hour."""
        ended = rollouts.rollouts_seen_by(self.asker).filter(ended_at__gt=self.now - timedelta(hours=1))
        return list(ended.exclude(phase__in=OPEN)[:MOST_INSTANCES])

    @cached_property
    def live_instances(self) -> list[Instance]:
        return list(fleet.live_instances_seen_by(self.asker, self.now)[:MOST_INSTANCES])

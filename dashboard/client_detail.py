"""One client: the leases that it holds, its parts of fleet-wide limits, and its breakers."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.budgets.accuracy import Holding, leases_seen_by
from controlplane.fleet import queries as fleet
from controlplane.fleet.models import BreakerState, Instance, LimitDemand
from dashboard.asking import Asking

MOST = 100


@dataclass(frozen=True)
class Detail:
    """``left_nusd`` is what the client may still spend at worst, on the leaf budgets that the asker sees."""

    instance: Instance
    leases: list[Holding]
    demands: list[LimitDemand]
    breakers: list[BreakerState]

    @property
    def left_nusd(self) -> int:
        return sum(each.outstanding_nusd for each in self.leases)

    @property
    def granting(self) -> bool:
        """Whether there is a lease to revoke."""
        return any(not each.lease.revoked for each in self.leases)


def detail_of(asking: Asking, incarnation: str) -> Detail | None:
    """Return one client in the asker's scope, or ``None``: no such client, or not theirs to see."""
    instance = fleet.instance_seen_by(asking.asker, incarnation)
    if instance is None:
        return None
    return Detail(
        instance=instance,
        leases=leases_seen_by(asking.asker, asking.now, most=MOST, incarnation=instance.incarnation),
        demands=list(instance.demands.order_by("tenant", "route", "unit")[:MOST]),
        breakers=list(instance.breakers.order_by("route", "model", "credential")[:MOST]),
    )

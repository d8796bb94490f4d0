"""How far the last change of a rollout has come: which clients run it, how long that took, who lags, who refused."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Q, QuerySet

from controlplane.fleet.models import Instance
from controlplane.policy.models import Revision, Snapshot
from controlplane.rollouts.models import Rollout

# An instance that was silent for longer does not count as one that should run the newest config.
LIVE = timedelta(seconds=10)
SILENT = timedelta(minutes=10)
MOST_LAGGARDS = 20


class Convergence(NamedTuple):
    """How many live instances are concerned, how many run the change, and what those say that refused it.

    ``took_ms`` has, in order, how long those took that run exactly the change (one that has gone on since says nothing);
    ``silent`` counts clients that said neither a word lately nor goodbye.
    """

    clients: int
    on_it: int
    refused: tuple[str, ...] = ()
    laggards: tuple[str, ...] = ()
    silent: int = 0
    took_ms: tuple[int, ...] = ()

    @property
    def whole(self) -> bool:
        return self.on_it >= self.clients

    @property
    def p99_ms(self) -> int | None:
        """How long 99 % of the clients took at most."""
        return self.took_ms[max(0, -(-len(self.took_ms) * 99 // 100) - 1)] if self.took_ms else None


def concerned(rollout: Rollout) -> QuerySet[Instance]:
    """Return the instances whose snapshots show the deployment."""
    tenant = rollout.deployment.tenant
    found = Instance.objects.filter(closed_at=None)
    if tenant is None:
        return found
    return found.filter(Q(scope=None) | Q(scope__lineage__contains=[tenant.pk]) | Q(scope_id__in=tenant.lineage))


def convergence_of(rollout: Rollout, *, now: datetime) -> Convergence:
    """Return how far the rollout's last change has come among the clients that it concerns."""
    heads = dict(Snapshot.objects.order_by("scope_id", "-id").distinct("scope_id").values_list("scope_id", "etag"))
    since = _since(rollout)
    first = dict(reversed(since))
    running = {*since, *heads.items()}
    everybody = concerned(rollout)
    rows = list(everybody.filter(seen_at__gt=now - LIVE))
    behind = [row for row in rows if (row.scope_id, row.config_etag) not in running]
    on_it = [row for row in rows if first.get(row.scope_id) == row.config_etag]
    guilty = {etag for _, etag in since}
    return Convergence(
        clients=len(rows),
        on_it=len(rows) - len(behind),
        refused=tuple(row.refused_reason or "no reason given" for row in rows if row.refused_etag in guilty),
        laggards=tuple(f"{row.app} on {row.host}, process {row.pid}" for row in behind[:MOST_LAGGARDS]),
        silent=everybody.filter(seen_at__gt=now - SILENT, seen_at__lte=now - LIVE).count(),
        took_ms=_took(rollout, on_it),
    )


def _since(rollout: Rollout) -> list[tuple[int | None, str]]:
    """Return the snapshots by scope that have the rollout's last change, the oldest first."""
    if not rollout.revision:
        return []
    newer = Snapshot.objects.filter(revision_id__gte=rollout.revision).order_by("id")
    return list(newer.values_list("scope_id", "etag"))


def _took(rollout: Rollout, on_it: Iterable[Instance]) -> tuple[int, ...]:
    changed_at = Revision.objects.filter(pk=rollout.revision).values_list("at", flat=True).first()
    if changed_at is None:
        return ()
    took = (row.config_at - changed_at for row in on_it if row.config_at is not None and row.started_at < changed_at)
    return tuple(sorted(max(0, round(each.total_seconds() * 1000)) for each in took))

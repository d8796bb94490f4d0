"""Reads of deployments and rollouts, through the eyes of the one who asks, and what snapshots say of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import OuterRef, Q, QuerySet

from controlplane.domain.rollout import OPEN, RingPlan, in_shadow, next_at, serving
from controlplane.domain.snapshots import DeploymentLine
from controlplane.problems import NotFound
from controlplane.rollouts.models import Deployment, Freeze, Release, Rollout, RolloutEvent
from controlplane.tenancy.queries import Asker

# What snapshots say.


def deployment_lines() -> list[DeploymentLine]:
    """Return the live deployments that have a release, with what SDKs are told of each."""
    deployments = (
        Deployment.objects.filter(archived_at=None).exclude(stable=None).select_related("stable").order_by("pk")
    )
    open_ones = Rollout.objects.filter(phase__in=OPEN).select_related("release", "previous", "deployment")
    rollouts = {rollout.deployment_id: rollout for rollout in open_ones}
    return [DeploymentLine(row.slug, row.tenant_id, served(row, rollouts.get(row.pk))) for row in deployments]


def served(deployment: Deployment, rollout: Rollout | None) -> dict[str, Any]:
    """Return what SDKs are told of a deployment, as docs/protocol.md, "Releases", has it."""
    stable = deployment.stable
    assert stable is not None  # noqa: S101  only those with a release are served
    releases, candidate, baseline, shadow = {stable.name: stable}, None, False, False
    rings: tuple[RingPlan, ...] = ()
    if rollout is not None:
        now_served = serving(rollout.state, rollout.plan)
        if now_served.candidate:
            releases[rollout.release.name] = rollout.release
        if now_served.everybody:
            stable = rollout.release
        elif now_served.candidate:
            candidate, rings, baseline, shadow = (
                rollout.release.name,
                rollout.plan.rings[: now_served.reached],
                rollout.baseline,
                in_shadow(rollout.state, rollout.plan),
            )
    reached = [_ring_served(ring, live=not shadow) for ring in rings]
    return {
        "id": deployment.pk,
        "unit": deployment.unit,
        "method": deployment.method,
        "salt": deployment.salt,
        "routes": deployment.routes,
        "window_s": deployment.window_s,
        "step": deployment.step,
        "stable": stable.name,
        "candidate": None if shadow else candidate,
        "baseline": baseline,
        "rings": [] if shadow else reached,
        **({"shadow": {"release": candidate, "rings": reached}} if shadow else {}),
        "releases": {name: {"version": each.version, "config": each.config} for name, each in releases.items()},
    }


def _ring_served(ring: RingPlan, *, live: bool) -> dict[str, Any]:
    """Return a ring as SDKs are told of it. A shadow's ring holds nobody once the candidate is served, but keeps its number."""
    share = 0 if ring.shadow and live else ring.share
    return {"share": share, "tenants": ring.tenants, "users": ring.users, "regions": ring.regions}


# What people see.


def deployments_seen_by(asker: Asker) -> QuerySet[Deployment]:
    """Return the live deployments in the asker's scope."""
    found = Deployment.objects.filter(archived_at=None).select_related("tenant", "stable")
    found = found.filter(Q(tenant=None) | Q(tenant__archived_at=None))
    return found.filter(tenant__lineage__contains=[asker.tenant.pk]) if asker.tenant else found


def deployment_seen_by(asker: Asker, slug: str) -> Deployment:
    """Return one deployment; ``NotFound`` outside the asker's scope."""
    found = deployments_seen_by(asker).filter(slug=slug).first()
    if found is None:
        raise NotFound(f"There is no deployment {slug!r} that you may see.")
    return found


def release_of(deployment: Deployment, version: str) -> Release:
    """Return a release by its version; ``NotFound`` when there is none."""
    found = deployment.releases.filter(version=version).first()
    if found is None:
        raise NotFound(f"{deployment.slug} has no release {version!r}.")
    return found


def rollouts_seen_by(asker: Asker) -> QuerySet[Rollout]:
    """Return the rollouts in the asker's scope, the newest first."""
    found = Rollout.objects.select_related("deployment__tenant", "release", "previous").order_by("-id")
    edits = RolloutEvent.objects.filter(rollout=OuterRef("pk"), verb="edit").values("actor")
    found = found.filter(deployment__archived_at=None).annotate(editors=ArraySubquery(edits))
    found = found.filter(Q(deployment__tenant=None) | Q(deployment__tenant__archived_at=None))
    return found.filter(deployment__tenant__lineage__contains=[asker.tenant.pk]) if asker.tenant else found


def rollout_seen_by(asker: Asker, slug: str, number: int | None = None) -> Rollout:
    """Return a rollout of a deployment, the newest without a number; ``NotFound`` outside the asker's scope."""
    found = rollouts_seen_by(asker).filter(deployment__slug=slug)
    rollout = (found.filter(pk=number) if number is not None else found).first()
    if rollout is None:
        raise NotFound(f"There is no such rollout of {slug!r} that you may see.")
    return rollout


def rollout_numbered(asker: Asker, number: int) -> Rollout:
    """Return a rollout by its number; ``NotFound`` outside the asker's scope."""
    found = rollouts_seen_by(asker).filter(pk=number).first()
    if found is None:
        raise NotFound(f"There is no rollout {number} that you may see.")
    return found


def history_of(rollout: Rollout) -> QuerySet[RolloutEvent]:
    """Return what was done to a rollout and what it did, the newest first."""
    return rollout.events.order_by("-id")


def authors_of(rollout: Rollout) -> set[str]:
    """Return who made or edited it: none of them approves it. Of rollouts that ``rollouts_seen_by`` has found, it is known already."""
    editors: Iterable[str] | None = getattr(rollout, "editors", None)
    if editors is None:
        editors = rollout.events.filter(verb="edit").values_list("actor", flat=True)
    return {rollout.created_by, *editors}


def freezes_seen_by(asker: Asker, *, now: datetime) -> QuerySet[Freeze]:
    """Return the freezes that are on or to come: the installation's, and those of the asker's scope."""
    found = Freeze.objects.filter(ends_at__gt=now).select_related("tenant")
    return found.filter(Q(tenant=None) | Q(tenant__lineage__contains=[asker.tenant.pk])) if asker.tenant else found


def freeze_seen_by(asker: Asker, number: int, *, now: datetime) -> Freeze:
    """Return one freeze that is not over."""
    found = freezes_seen_by(asker, now=now).filter(pk=number).first()
    if found is None:
        raise NotFound("There is no such freeze that you may see.")
    return found


def frozen(deployment: Deployment, *, now: datetime) -> str:
    """Return why nothing of a deployment may go on now; empty when it may."""
    return frozen_by(freezes_on(now=now), deployment)


def freezes_on(*, now: datetime) -> list[Freeze]:
    """Return all freezes that are on, those that end last first."""
    return list(Freeze.objects.filter(starts_at__lte=now, ends_at__gt=now).order_by("-ends_at"))


def frozen_by(freezes: Iterable[Freeze], deployment: Deployment) -> str:
    """Return what ``frozen`` says, when these are the freezes that are on."""
    lineage: Sequence[int] = deployment.tenant.lineage if deployment.tenant else ()
    freeze = next((each for each in freezes if each.tenant_id is None or each.tenant_id in lineage), None)
    if freeze is None:
        return ""
    return f"Frozen until {freeze.ends_at:%Y-%m-%d %H:%M} UTC{f': {freeze.reason}' if freeze.reason else '.'}"


def decides_by(rollout: Rollout) -> datetime | None:
    """Return when the ring's bake or analysis is over at the latest."""
    return next_at(rollout.state, rollout.plan)

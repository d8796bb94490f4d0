"""Management API: deployments, releases, rollouts and freezes."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from django.http import HttpRequest
from django.utils import timezone
from ninja import Field, Router, Schema, Status

from controlplane.domain.rollout import RingPlan
from controlplane.paging import Page, newest_first
from controlplane.rollouts import findings, queries
from controlplane.rollouts.actions import deployments, freezes, rollouts
from controlplane.rollouts.convergence import convergence_of
from controlplane.rollouts.models import Deployment, Freeze, Release, Rollout
from controlplane.tenancy.bearer import asker
from controlplane.tenancy.queries import Asker, tenant_seen_by
from tidegate.core.price import format_usd

router = Router(tags=["rollouts"])
Verb = Literal[
    "start", "approve", "pause", "resume", "promote", "promote_fully", "switch", "skip", "extend", "retry", "abort", "rollback"
]  # fmt: skip


class DeploymentIn(Schema):
    """``unit``: what gets one release, and counts once: request, session, user or tenant. ``notify``: names of channels."""

    slug: str
    tenant: str | None = None
    routes: tuple[str, ...] = ()
    unit: str = "session"
    method: str = "tidegate"
    salt: str = ""
    window_s: int = 30
    config_schema: Any = Field(None, alias="schema")
    needs_approval: bool = False
    notify: tuple[str, ...] = ()


class DeploymentPatch(Schema):
    routes: tuple[str, ...] = ()
    unit: str = ""
    window_s: int = 0
    config_schema: Any = Field(None, alias="schema")
    needs_approval: bool = False
    notify: tuple[str, ...] = ()


class DeploymentOut(Schema):
    slug: str
    tenant: str | None
    routes: list[str]
    unit: str
    method: str
    window_s: int
    needs_approval: bool
    notify: list[str]
    stable: str | None
    created_at: datetime

    @staticmethod
    def resolve_tenant(row: Deployment) -> str | None:
        return row.tenant.slug if row.tenant else None

    @staticmethod
    def resolve_stable(row: Deployment) -> str | None:
        return row.stable.version if row.stable else None


class ReleaseIn(Schema):
    config: Any
    version: str = ""
    notes: str = ""


class ReleaseOut(Schema):
    version: str
    digest: str
    config: Any
    notes: str
    author: str
    created_at: datetime
    bad_at: datetime | None
    bad_reason: str


class ReleasePage(Schema):
    items: list[ReleaseOut]
    next: str | None


class RingIn(Schema):
    """``share`` is a percentage of the units that the ring names, at most four decimals. ``shadow``: only copies of their calls."""

    name: str
    share: float
    tenants: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    bake_s: int = 60
    patience_s: int = 3600
    gate: str = "verdict"
    shadow: bool = False

    def as_plan(self) -> RingPlan:
        names = {part: tuple(getattr(self, part)) for part in ("tenants", "users", "regions")}
        return RingPlan(
            self.name,
            round(self.share * 10_000),
            **names,
            bake_s=self.bake_s,
            patience_s=self.patience_s,
            gate=self.gate,
            shadow=self.shadow,
        )


class RolloutIn(Schema):
    """Without rings those of the strategy. ``start`` begins at once; else it is a draft.

    ``baseline``: compare with a concurrent arm of the candidate's size only; without it a canary does, rings do not.
    """

    release: str
    strategy: str = "rings"
    rings: tuple[RingIn, ...] = ()
    alpha: float = 0.01
    beta: float = 0.05
    max_error_rate: float | None = None
    baseline: bool | None = None
    starts_at: datetime | None = None
    start: bool = True
    reason: str = ""


class VerbIn(Schema):
    """``expected_version``: the rollout's version that you looked at. ``seconds`` is for ``extend``."""

    expected_version: int | None = None
    seconds: int = 0
    reason: str = ""


class ArmOut(Schema):
    version: str
    calls: int
    failed: int
    refused: int
    units: int
    error_rate: float
    p50_ms: float
    p99_ms: float
    cost_usd: str
    tokens: int


class EvidenceOut(Schema):
    """``harm`` and ``promotion``: how far on the way to rolling back, and to going on, from 0 to 1."""

    harm: float
    promotion: float
    worst: str
    slowest: str
    compared: int
    errors_to_rollback: int | None
    units_to_promote: int | None


class ConvergenceOut(Schema):
    """``p99_ms``: how long 99 % of the clients took for the last change, as far as they said."""

    clients: int
    on_it: int
    refused: list[str]
    laggards: list[str]
    silent: int
    p99_ms: int | None


class RolloutOut(Schema):
    id: int
    deployment: str
    release: str
    previous: str
    strategy: str
    phase: str
    ring: int
    rings: list[dict[str, Any]]
    reason: str
    version: int
    attempt: int
    waits_for_approval: bool
    candidate_is_live: bool
    alpha: float
    beta: float
    created_by: str
    created_at: datetime
    started_at: datetime | None
    entered_at: datetime | None
    decides_by: datetime | None
    ended_at: datetime | None
    arms: list[ArmOut]
    evidence: EvidenceOut
    convergence: ConvergenceOut | None


class RolloutPage(Schema):
    items: list[RolloutOut]
    next: str | None


class EventOut(Schema):
    at: datetime
    actor: str
    verb: str
    phase: str
    ring: int
    version: int
    reason: str


class FreezeIn(Schema):
    starts_at: datetime
    ends_at: datetime
    tenant: str | None = None
    reason: str = ""


class FreezeOut(Schema):
    id: int
    tenant: str | None
    starts_at: datetime
    ends_at: datetime
    reason: str
    created_by: str

    @staticmethod
    def resolve_tenant(row: Freeze) -> str | None:
        return row.tenant.slug if row.tenant else None


def _arm(release: Release, figures: findings.ArmFigures) -> dict[str, Any]:
    return {
        "version": release.version,
        **{name: getattr(figures, name) for name in ("calls", "failed", "refused", "units", "error_rate", "tokens")},
        "p50_ms": figures.p50_us / 1000,
        "p99_ms": figures.p99_us / 1000,
        "cost_usd": format_usd(figures.cost_nusd),
    }


def _shown(rows: list[Rollout], now: datetime, *, convergence: bool = False) -> list[dict[str, Any]]:
    figures = findings.figures_of(rows)
    return [_one(row, figures[row.pk], now if convergence else None) for row in rows]


def _one(row: Rollout, figures: findings.Figures, now: datetime | None) -> dict[str, Any]:
    found = findings.findings_of(row)
    plain = (
        "strategy", "phase", "ring", "reason", "version", "attempt", "alpha", "beta", "created_by", "created_at", "started_at",
        "entered_at", "ended_at",
    )  # fmt: skip
    return {
        "id": row.pk,
        "deployment": row.deployment.slug,
        "release": row.release.version,
        "previous": row.previous.version,
        "rings": [{**ring, "share": ring["share"] / 10_000} for ring in row.rings],
        "waits_for_approval": row.asks or row.phase == "approval",
        "candidate_is_live": row.flipped,
        "decides_by": queries.decides_by(row),
        "arms": [_arm(row.previous, figures.stable), _arm(row.release, figures.candidate)],
        "evidence": {
            "harm": found.verdict.harm,
            "promotion": found.verdict.promotion,
            "worst": found.verdict.worst,
            "slowest": found.verdict.slowest,
            "compared": found.compared,
            "errors_to_rollback": found.errors_left,
            "units_to_promote": found.units_left,
        },
        "convergence": _convergence(row, now) if now is not None else None,
        **{name: getattr(row, name) for name in plain},
    }


def _convergence(row: Rollout, now: datetime) -> dict[str, Any]:
    found = convergence_of(row, now=now)
    return {**found._asdict(), "p99_ms": found.p99_ms if found.took_ms else row.applied.get("p99_ms")}


def _of(who: Asker, slug: str, number: int | None = None) -> dict[str, Any]:
    return _shown([queries.rollout_seen_by(who, slug, number)], timezone.now(), convergence=True)[0]


@router.get("/deployments/", response=list[DeploymentOut])
def list_deployments(request: HttpRequest) -> Any:
    """All deployments, by name."""
    return queries.deployments_seen_by(asker(request))


@router.post("/deployments/", response={201: DeploymentOut})
def create_deployment(request: HttpRequest, body: DeploymentIn) -> Any:
    """Make a deployment. Its first release will be everybody's at once."""
    who = asker(request)
    description = deployments.Description(
        routes=tuple(body.routes), unit=body.unit, method=body.method, salt=body.salt, window_s=body.window_s,
        schema=body.config_schema, needs_approval=body.needs_approval, notify=tuple(body.notify),
    )  # fmt: skip
    tenant = tenant_seen_by(who, body.tenant) if body.tenant else None
    return Status(201, deployments.create_deployment(by=who, slug=body.slug, tenant=tenant, description=description))


@router.get("/deployments/{slug}/", response=DeploymentOut)
def get_deployment(request: HttpRequest, slug: str) -> Any:
    """One deployment with its stable release."""
    return queries.deployment_seen_by(asker(request), slug)


@router.patch("/deployments/{slug}/", response=DeploymentOut)
def change_deployment(request: HttpRequest, slug: str, body: DeploymentPatch) -> Any:
    """Change what is named. The unit and its hash stay as they are while a rollout is on its way."""
    who = asker(request)
    deployment = queries.deployment_seen_by(who, slug)
    named = body.model_dump(exclude_unset=True)
    if "config_schema" in named:
        named["schema"] = named.pop("config_schema")
    described = deployments.description_of(deployment)._replace(**named)
    return deployments.change_deployment(by=who, deployment=deployment, description=described)


@router.delete("/deployments/{slug}/", response={204: None})
def archive_deployment(request: HttpRequest, slug: str) -> Any:
    """Take a deployment out of service. Its calls go on, without a release."""
    who = asker(request)
    deployments.archive_deployment(by=who, deployment=queries.deployment_seen_by(who, slug))
    return Status(204, None)


@router.get("/deployments/{slug}/releases/", response=ReleasePage)
def list_releases(request: HttpRequest, slug: str, cursor: str = "", limit: int = 50) -> Any:
    """The releases of a deployment, the newest first."""
    return newest_first(queries.deployment_seen_by(asker(request), slug).releases.all(), cursor=cursor, limit=limit)


@router.post("/deployments/{slug}/releases/", response={201: ReleaseOut})
def create_release(request: HttpRequest, slug: str, body: ReleaseIn) -> Any:
    """Make a release, which never changes; the same content again is the same release."""
    who = asker(request)
    deployment = queries.deployment_seen_by(who, slug)
    made = deployments.create_release(
        by=who, deployment=deployment, config=body.config, version=body.version, notes=body.notes
    )
    return Status(201, made)


@router.get("/deployments/{slug}/releases/{version}/", response=ReleaseOut)
def get_release(request: HttpRequest, slug: str, version: str) -> Any:
    """One release."""
    return queries.release_of(queries.deployment_seen_by(asker(request), slug), version)


@router.get("/deployments/{slug}/rollouts/", response=RolloutPage)
def list_rollouts(request: HttpRequest, slug: str, cursor: str = "", limit: int = 20) -> Any:
    """The rollouts of a deployment, the newest first, with figures and evidence."""
    who = asker(request)
    rows = queries.rollouts_seen_by(who).filter(deployment=queries.deployment_seen_by(who, slug))
    page = newest_first(rows, cursor=cursor, limit=limit)
    return Page(_shown(page.items, timezone.now()), page.next)


@router.post("/deployments/{slug}/rollouts/", response={201: RolloutOut})
def create_rollout(request: HttpRequest, slug: str, body: RolloutIn) -> Any:
    """Bring a release to everybody, ring by ring."""
    who = asker(request)
    deployment = queries.deployment_seen_by(who, slug)
    release = queries.release_of(deployment, body.release)
    wish = rollouts.Wish(
        strategy=body.strategy, rings=tuple(ring.as_plan() for ring in body.rings), alpha=body.alpha, beta=body.beta,
        max_error_rate=body.max_error_rate, baseline=body.baseline, starts_at=body.starts_at,
    )  # fmt: skip
    made = rollouts.create_rollout(
        by=who,
        deployment=deployment,
        release=release,
        wish=wish,
        now=timezone.now(),
        start=body.start,
        reason=body.reason,
    )
    return Status(201, _of(who, slug, made.pk))


@router.get("/deployments/{slug}/rollouts/{int:number}/", response=RolloutOut)
def get_rollout(request: HttpRequest, slug: str, number: int) -> Any:
    """One rollout with figures, evidence, and how many clients run its newest config."""
    return _of(asker(request), slug, number)


@router.get("/deployments/{slug}/rollouts/{int:number}/history", response=list[EventOut])
def get_history(request: HttpRequest, slug: str, number: int) -> Any:
    """What was done to a rollout and what it did, the newest first."""
    return queries.history_of(queries.rollout_seen_by(asker(request), slug, number))[:500]


def _act(request: HttpRequest, slug: str, number: int | None, verb: str, body: VerbIn) -> dict[str, Any]:
    who = asker(request)
    rollout = queries.rollout_seen_by(who, slug, number)
    rollouts.act(
        by=who, rollout=rollout, verb=verb, expected_version=body.expected_version, now=timezone.now(), seconds=body.seconds,
        reason=body.reason,
    )  # fmt: skip
    return _of(who, slug, rollout.pk)


@router.post("/deployments/{slug}/rollouts/{verb}", response=RolloutOut)
def tell_newest(request: HttpRequest, slug: str, verb: Verb, body: VerbIn | None = None) -> Any:
    """Tell the newest rollout of a deployment what to do. Said again for the same version, it is done once."""
    return _act(request, slug, None, verb, body or VerbIn())


@router.post("/deployments/{slug}/rollouts/{int:number}/{verb}", response=RolloutOut)
def tell(request: HttpRequest, slug: str, number: int, verb: Verb, body: VerbIn | None = None) -> Any:
    """Tell a rollout what to do. Said again for the same version, it is done once."""
    return _act(request, slug, number, verb, body or VerbIn())


@router.get("/freezes/", response=list[FreezeOut])
def list_freezes(request: HttpRequest) -> Any:
    """The freezes that are on or to come."""
    return queries.freezes_seen_by(asker(request), now=timezone.now())


@router.post("/freezes/", response={201: FreezeOut})
def create_freeze(request: HttpRequest, body: FreezeIn) -> Any:
    """Let no rollout go on for a while. Rolling back always may."""
    who = asker(request)
    tenant = tenant_seen_by(who, body.tenant) if body.tenant else None
    made = freezes.add_freeze(by=who, tenant=tenant, starts_at=body.starts_at, ends_at=body.ends_at, reason=body.reason)
    return Status(201, made)


@router.delete("/freezes/{int:number}/", response={204: None})
def end_freeze(request: HttpRequest, number: int) -> Any:
    """End a freeze now."""
    who, now = asker(request), timezone.now()
    freezes.end_freeze(by=who, freeze=queries.freeze_seen_by(who, number, now=now), now=now)
    return Status(204, None)

"""Management API: rollouts, how far they are, and what they are told to do."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from django.http import HttpRequest
from django.utils import timezone
from ninja import Router, Schema, Status

from controlplane.domain.rollout import RingPlan
from controlplane.paging import Page, newest_first
from controlplane.rollouts import findings, queries
from controlplane.rollouts.actions import rollouts
from controlplane.rollouts.convergence import convergence_of
from controlplane.rollouts.models import Release, Rollout
from controlplane.tenancy.bearer import asker
from controlplane.tenancy.queries import Asker
from tidegate.core.price import format_usd

router = Router(tags=["rollouts"])
Verb = Literal[
    "start", "approve", "pause", "resume", "promote", "promote_fully", "switch", "skip", "extend", "retry", "abort", "rollback"
]  # fmt: skip


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


class WishIn(Schema):
    """Without rings those of the strategy.

    ``baseline``: compare time, cost and tokens with a concurrent arm of the candidate's size; without it a canary does.
    """

    release: str
    strategy: str = "rings"
    rings: tuple[RingIn, ...] = ()
    alpha: float = 0.01
    beta: float = 0.05
    max_error_rate: float | None = None
    baseline: bool | None = None
    starts_at: datetime | None = None
    reason: str = ""

    def as_wish(self) -> rollouts.Wish:
        return rollouts.Wish(
            strategy=self.strategy, rings=tuple(ring.as_plan() for ring in self.rings), alpha=self.alpha, beta=self.beta,
            max_error_rate=self.max_error_rate, baseline=self.baseline, starts_at=self.starts_at,
        )  # fmt: skip


class RolloutIn(WishIn):
    """``start`` begins at once; else it is a draft."""

    start: bool = True


class RolloutPut(WishIn):
    """``expected_version``: the draft's version that you looked at."""

    expected_version: int | None = None


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
    starts_at: datetime | None
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
        "strategy", "phase", "ring", "reason", "version", "attempt", "alpha", "beta", "created_by", "created_at",
        "starts_at", "started_at", "entered_at", "ended_at",
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
    made = rollouts.create_rollout(
        by=who, deployment=deployment, release=release, wish=body.as_wish(), now=timezone.now(), start=body.start,
        reason=body.reason,
    )  # fmt: skip
    return Status(201, _of(who, slug, made.pk))


@router.put("/deployments/{slug}/rollouts/{int:number}/", response=RolloutOut)
def edit_rollout(request: HttpRequest, slug: str, number: int, body: RolloutPut) -> Any:
    """Change a rollout that has not begun. It is a draft again, whoever had approved it."""
    who = asker(request)
    rollout = queries.rollout_seen_by(who, slug, number)
    release = queries.release_of(rollout.deployment, body.release)
    rollouts.edit_rollout(
        by=who, rollout=rollout, release=release, wish=body.as_wish(), expected_version=body.expected_version,
        now=timezone.now(), reason=body.reason,
    )  # fmt: skip
    return _of(who, slug, number)


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

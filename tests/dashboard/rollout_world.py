"""Rollouts for the small world: one held with harm near, one that bakes well, blue-green, one complete, one rolled back."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from controlplane.rollouts.actions.deployments import Description, create_deployment, create_release
from controlplane.rollouts.actions.rollouts import Wish, act, create_rollout
from controlplane.rollouts.actions.ticking import tick
from controlplane.rollouts.models import ArmTotal, ArmWindow, Deployment, Rollout
from controlplane.rollouts.queries import release_of
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import SYSTEM
from tidegate.core.window import Distribution

TICKS = 24


def make(acme: Tenant, globex: Tenant, now: datetime) -> dict[str, Rollout]:
    """Make them as of ``now``."""
    made = {
        "triage": _begun(_deployment("triage", acme, {"model": "a"}, {"model": "b"}), now - timedelta(hours=6)),
        "old": _begun(_deployment("summary", globex, {"model": "a"}, {"model": "b"}), now - timedelta(hours=3)),
    }
    _do(made["triage"], "promote_fully", now - timedelta(hours=1))
    tick(now=now - timedelta(minutes=58))
    _do(made["old"], "rollback", now - timedelta(hours=2), reason="It answers in French.")
    support = _deployment(
        "support-agent", acme, {"model": "gpt-4o", "prompt": "v18"}, {"model": "gpt-4o-2026-11", "prompt": "v19"}
    )
    router = _deployment("router", acme, {"temperature": 0.4}, {"temperature": 0.2})
    blue_green = _deployment("summariser", globex, {"prompt": "v3"}, {"prompt": "v4"})
    started = now - timedelta(seconds=5 * TICKS)
    made["held"] = _begun(support, started)
    made["baking"] = _begun(router, started, share=250_000)
    made["green"] = _begun(blue_green, now - timedelta(minutes=20), strategy="blue_green")
    _do(made["green"], "switch", now - timedelta(minutes=18))
    dice = random.Random(5)
    for number in range(1, TICKS + 1):
        at = started + timedelta(seconds=5 * number)
        _count(made["held"], at, canary=(26, 0.018), stable=(494, 0.006), dice=dice)
        _count(made["baking"], at, canary=(22, 0.006), stable=(66, 0.006), dice=dice)
        tick(now=at)
    _do(made["held"], "pause", now, reason="Errors look odd: waiting for the day shift.")
    return made


def draft(rollouts: dict[str, Rollout], now: datetime) -> Rollout:
    """Return the draft of the deployment whose rollout is complete, made when there is none."""
    deployment = Deployment.objects.get(pk=rollouts["triage"].deployment_id)
    known = deployment.rollouts.filter(phase="draft").first()
    if known is not None:
        return known
    release = create_release(by=SYSTEM, deployment=deployment, config={"model": "c"}, version="7.4.0")
    return create_rollout(by=SYSTEM, deployment=deployment, release=release, wish=Wish(), now=now)


def _deployment(slug: str, tenant: Tenant, *configs: dict[str, Any]) -> Deployment:
    made = create_deployment(by=SYSTEM, slug=slug, tenant=tenant, description=Description(routes=(slug,)))
    for number, config in enumerate(configs):
        create_release(by=SYSTEM, deployment=made, config=config, version=f"7.{number + 2}.0")
    made.refresh_from_db()
    return made


def _begun(deployment: Deployment, at: datetime, *, share: int = 50_000, strategy: str = "rings") -> Rollout:
    made = create_rollout(
        by=SYSTEM,
        deployment=deployment,
        release=release_of(deployment, "7.3.0"),
        wish=Wish(strategy=strategy),
        now=at,
        start=True,
    )
    return _do(made, "promote", at) if share == 250_000 else made


def _do(rollout: Rollout, verb: str, at: datetime, reason: str = "") -> Rollout:
    return act(by=SYSTEM, rollout=rollout, verb=verb, expected_version=None, now=at, reason=reason)


def _count(
    rollout: Rollout, at: datetime, *, canary: tuple[int, float], stable: tuple[int, float], dice: random.Random
) -> None:
    rollout.refresh_from_db()
    slice_at = datetime.fromtimestamp(at.timestamp() // 10 * 10, UTC)
    for arm, release, (units, rate) in (("canary", rollout.release, canary), ("stable", rollout.previous, stable)):
        bad = sum(dice.random() < rate for _ in range(units))
        spread, costs = Distribution(), Distribution()
        for _ in range(units):
            spread.add(round(400_000 * dice.lognormvariate(0, 0.4)))
            costs.add(13_100_000 if arm == "stable" else 11_800_000)
        key: dict[str, Any] = {
            "deployment_id": rollout.deployment_id, "step": rollout.step, "release": release.name, "arm": arm, "ring": rollout.ring,
        }  # fmt: skip
        total, _ = ArmTotal.objects.get_or_create(**key)
        slice_of_it, _ = ArmWindow.objects.get_or_create(starts_at=slice_at, **key)
        for row in (total, slice_of_it):
            for name in ("calls", "units", "asked", "exposed"):
                setattr(row, name, getattr(row, name) + units)
            row.failed, row.bad = row.failed + bad, row.bad + bad
            row.cost_nusd += costs.total
            row.tokens += units * 550
            for name, more_of in (("latency_us", spread), ("unit_latency_us", spread), ("unit_cost_nusd", costs)):
                kept = Distribution.from_packed(getattr(row, name))
                kept.merge(more_of)
                setattr(row, name, kept.packed())
            row.save()

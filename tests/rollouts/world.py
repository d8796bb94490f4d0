"""A deployment with two releases, rollouts of the second, and what its arms came to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from controlplane.fleet.models import Instance
from controlplane.policy.actions.publishing import ensure_snapshot
from controlplane.policy.models import Snapshot
from controlplane.rollouts import queries
from controlplane.rollouts.actions.rollouts import Wish, act, create_rollout
from controlplane.rollouts.models import ArmTotal, Deployment, Rollout
from controlplane.tenancy.models import Role, Tenant
from controlplane.tenancy.queries import Asker
from tidegate.core import snapshot as core
from tidegate.core.window import Distribution

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
ANN, BOB = Asker("ann", Role.OPERATOR), Asker("bob", Role.OPERATOR)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def rollout_of(deployment: Deployment, *, version: str = "2", start: bool = True, **wish: Any) -> Rollout:
    release = queries.release_of(deployment, version)
    return create_rollout(by=ANN, deployment=deployment, release=release, wish=Wish(**wish), now=NOW, start=start)


def do(rollout: Rollout, verb: str, *, by: Asker = ANN, after_s: float = 0, **more: Any) -> Rollout:
    said = {"expected_version": None, **more}
    return act(by=by, rollout=rollout, verb=verb, now=later(after_s), **said)


def snapshot_of(tenant: Tenant | None) -> core.Snapshot:
    ensure_snapshot(tenant.pk if tenant else None)
    stored = Snapshot.objects.filter(scope=tenant).latest("id")
    return core.compile_snapshot(orjson.loads(bytes(stored.body)))


def got_by(tenant: Tenant, at: int) -> tuple[str, str]:
    found = snapshot_of(tenant).deployment_of(tenant.slug, "chat")
    assert found is not None
    assignment = found.at(at)
    return assignment.version, assignment.arm


def count(rollout: Rollout, arm: str, units: int, bad: int = 0, *, ring: int = 0) -> None:
    """Let an arm have come to so many units in all."""
    rollout.refresh_from_db()
    release = rollout.release if arm in {"canary", "shadow"} else rollout.previous
    spread = Distribution()
    for _ in range(units):
        spread.add(100_000)
    ArmTotal.objects.update_or_create(
        deployment_id=rollout.deployment_id, step=rollout.step, release=release.name, arm=arm, ring=ring,
        defaults={
            "calls": units, "failed": bad, "units": units, "asked": units, "bad": bad, "exposed": units,
            "latency_us": spread.packed(), "unit_latency_us": spread.packed(),
        },
    )  # fmt: skip


def instance(acme: Tenant, *, etag: str = "", refused: str = "", at: datetime = NOW) -> Instance:
    key = acme.keys.first()
    assert key is not None
    return Instance.objects.create(
        incarnation=f"00000000-0000-4000-8000-{Instance.objects.count():012d}", key=key, scope=acme, app="a", host="h",
        pid=1, sdk="python", seen_at=at, config_etag=etag, refused_etag=refused, refused_reason="rings[0]: odd" if refused else "",
    )  # fmt: skip

"""How far a change has come among the clients that it concerns, and how long they took."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controlplane.fleet.models import Instance
from controlplane.policy.models import Revision, Snapshot
from controlplane.rollouts.actions.ticking import tick
from controlplane.rollouts.convergence import convergence_of
from controlplane.rollouts.models import Deployment, Rollout
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import SYSTEM
from tests.rollouts.world import do, instance, later, rollout_of

pytestmark = pytest.mark.django_db


def newest(tenant: Tenant) -> str:
    return Snapshot.objects.filter(scope=tenant).latest("id").etag


def take(client: Instance, etag: str, rollout: Rollout, after_ms: int) -> None:
    """Let a client have taken a config so long after the rollout's last change."""
    rollout.refresh_from_db()
    changed_at = Revision.objects.get(pk=rollout.revision).at
    client.config_etag, client.config_at = etag, changed_at + timedelta(milliseconds=after_ms)
    client.started_at, client.seen_at = changed_at - timedelta(hours=1), later(0)
    client.save()


def test_convergence__some_took_it__says_how_fast_and_who_lags(deployment: Deployment, acme: Tenant) -> None:
    before = newest(acme)
    clients = [instance(acme) for _ in range(4)]
    rollout = rollout_of(deployment)
    for number, client in enumerate(clients):
        take(client, newest(acme) if number else before, rollout, 100 * number)

    found = convergence_of(rollout, now=later(1))

    assert (found.clients, found.on_it, found.whole) == (4, 3, False)
    assert (found.took_ms, found.p99_ms) == ((100, 200, 300), 300)
    assert found.laggards == ("a on h, process 1",)


def test_convergence__intent_changed_since__whoever_has_it_still_runs_it(deployment: Deployment, acme: Tenant) -> None:
    client = instance(acme)
    rollout = rollout_of(deployment)
    take(client, newest(acme), rollout, 250)
    create_tenant(by=SYSTEM, slug="acme-child", name="Child", parent=acme)

    found = convergence_of(rollout, now=later(1))

    assert client.config_etag != newest(acme)
    assert (found.on_it, found.took_ms) == (1, (250,))


def test_convergence__client_silent__is_counted_apart(deployment: Deployment, acme: Tenant) -> None:
    instance(acme, at=later(-60))
    instance(acme, at=later(-3600))
    rollout = rollout_of(deployment)

    found = convergence_of(rollout, now=later(1))

    assert (found.clients, found.silent, found.whole, found.p99_ms) == (0, 1, True, None)


def test_tick__rolled_back__keeps_how_fast_the_clients_took_it(deployment: Deployment, acme: Tenant) -> None:
    client = instance(acme)
    rollout = do(rollout_of(deployment), "rollback")
    take(client, newest(acme), rollout, 180)

    tick(now=later(1))

    rollout.refresh_from_db()
    assert rollout.applied == {"step": rollout.step, "clients": 1, "p99_ms": 180}

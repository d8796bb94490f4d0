"""Reads of instances and breakers: live ones, worst first, and each in its scope."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controlplane.fleet import queries
from controlplane.fleet.models import BreakerState, Instance
from controlplane.tenancy.actions.keys import create_key
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import Role, SdkKey
from controlplane.tenancy.queries import SYSTEM, Asker

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 25, 14, 0, tzinfo=UTC)


@pytest.fixture
def key() -> SdkKey:
    return create_key(by=SYSTEM, tenant=create_tenant(by=SYSTEM, slug="acme", name="Acme"), name="k")[0]


def _instance(key: SdkKey, silent_s: float = 1, **more: Any) -> Instance:
    return Instance.objects.create(
        incarnation=uuid.uuid4(),
        key=key,
        scope=key.tenant,
        app="app",
        host="h",
        pid=1,
        sdk="s",
        seen_at=NOW - timedelta(seconds=silent_s),
        **more,
    )


def _breaker(instance: Instance, route: str, phase: str, failures: int = 0) -> None:
    BreakerState.objects.create(
        instance=instance, route=route, model="m", phase=phase, since=NOW, calls=100, failures=failures
    )


def test_live_instances__silent_and_closed_ones__are_left_out(key: SdkKey) -> None:
    live = _instance(key)
    _instance(key, silent_s=61)
    _instance(key, closed_at=NOW)

    assert list(queries.live_instances_seen_by(SYSTEM, NOW)) == [live]
    assert queries.instances_seen_by(SYSTEM).count() == 3


def test_breakers__on_several_clients__are_one_with_the_worst_phase(key: SdkKey) -> None:
    first, second = _instance(key), _instance(key)
    _breaker(first, "chat", "open", 80)
    _breaker(second, "chat", "half_open", 10)
    _breaker(first, "embed", "closed", 90)
    _breaker(_instance(key, silent_s=100), "gone", "open", 100)

    found = queries.breakers_seen_by(SYSTEM, NOW)

    assert [(each.route, each.phase, each.open, each.clients) for each in found] == [
        ("chat", "open", 1, 2),
        ("embed", "closed", 0, 1),
    ]
    assert found[0].failure_rate == 0.45
    assert found[0].worst.failures == 80


def test_fleet__somebody_of_another_tenant__sees_nothing(key: SdkKey) -> None:
    _breaker(_instance(key), "chat", "open")
    outsider = Asker(name="o", role=Role.ADMIN, tenant=create_tenant(by=SYSTEM, slug="other", name="Other"))

    assert list(queries.instances_seen_by(outsider)) == []
    assert queries.breakers_seen_by(outsider, NOW) == []

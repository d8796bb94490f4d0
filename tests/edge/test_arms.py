"""What syncs say of the arms of rollouts: folded once, and only for deployments that the key may speak for."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from controlplane.rollouts.actions.deployments import Description, create_deployment, create_release
from controlplane.rollouts.models import ArmTotal, ArmWindow, Deployment
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import SYSTEM
from tests.edge.conftest import Caller
from tests.edge.test_sync import packed


def _make(slug: str, tenant: Tenant | None) -> Deployment:
    made = create_deployment(by=SYSTEM, slug=slug, tenant=tenant, description=Description(routes=("chat",)))
    create_release(by=SYSTEM, deployment=made, config={"model": "a"})
    return made


@pytest.fixture
async def deployment(acme: Tenant) -> Deployment:
    return await sync_to_async(_make)("assistant", acme)


def window(number: int, deployment: Deployment, **more: Any) -> dict[str, Any]:
    line = {
        "deployment": deployment.pk, "step": 1, "release": "0123456789abcdef", "arm": "canary", "ring": 0, "calls": 2, "failed": 1,
        "units": 2, "bad": 1, "asked": 2, "exposed": 2, "cost_nusd": 70, "latency_us": packed(900, 1100), **more,
    }  # fmt: skip
    return {
        "number": number,
        "starts_ms": int(timezone.now().timestamp() * 1000),
        "rows": [],
        "users": [],
        "releases": [line],
    }


async def test_sync__arms__are_folded_once_into_totals_and_slices(ask: Caller, deployment: Deployment) -> None:
    me = str(uuid4())
    both = [window(1, deployment), window(2, deployment, failed=0, bad=0)]

    first = await ask.sync(incarnation=me, windows=both)
    again = await ask.sync(incarnation=me, windows=both)

    assert (first.status, again.status, again.json()["windows_acked"]) == (200, 200, 2)
    total = await ArmTotal.objects.aget()
    assert (total.calls, total.failed, total.units, total.bad, total.cost_nusd) == (4, 1, 4, 1, 140)
    assert total.latency_us[:4] == [4, 4000, 900, 1100]
    slices = [row async for row in ArmWindow.objects.all()]
    assert sum(row.calls for row in slices) == 4


async def test_sync__arm_of_somebody_elses_deployment__is_dropped(ask: Caller) -> None:
    globex = await sync_to_async(create_tenant)(by=SYSTEM, slug="globex", name="Globex")
    theirs = await sync_to_async(_make)("theirs", globex)
    everybodys = await sync_to_async(_make)("everybodys", None)

    reply = await ask.sync(incarnation=str(uuid4()), windows=[window(1, theirs), window(2, everybodys)])

    assert reply.status == 200
    assert [row.deployment_id async for row in ArmTotal.objects.all()] == [everybodys.pk]


async def test_sync__arm_that_cannot_be__is_refused_with_the_field(ask: Caller, deployment: Deployment) -> None:
    reply = await ask.sync(incarnation=str(uuid4()), windows=[window(1, deployment, arm="left")])

    assert reply.status == 422
    assert "windows[0].releases[0].arm" in reply.json()["errors"]

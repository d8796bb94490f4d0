"""A tenant and its deployment."""

from __future__ import annotations

import pytest

from controlplane.rollouts.actions.deployments import Description, create_deployment, create_release
from controlplane.rollouts.models import Deployment
from controlplane.tenancy.actions.keys import create_key
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import SYSTEM
from tests.rollouts.world import ANN


@pytest.fixture
def acme() -> Tenant:
    tenant = create_tenant(by=SYSTEM, slug="acme", name="Acme")
    create_key(by=SYSTEM, tenant=tenant, name="app")
    return tenant


@pytest.fixture
def deployment(acme: Tenant) -> Deployment:
    made = create_deployment(
        by=ANN, slug="assistant", tenant=acme, description=Description(routes=("chat",), unit="request")
    )
    create_release(by=ANN, deployment=made, config={"model": "a"})
    create_release(by=ANN, deployment=made, config={"model": "b"})
    made.refresh_from_db()
    return made

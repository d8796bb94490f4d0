"""What rollouts did, told once to the channels that their deployment names."""

from __future__ import annotations

import pytest

from controlplane.alerting.actions.announcing import announce, channels_of
from controlplane.alerting.models import Channel, Delivery
from controlplane.rollouts.actions.deployments import Description, create_deployment, create_release
from controlplane.rollouts.actions.rollouts import Wish, act, create_rollout
from controlplane.rollouts.models import Deployment, Rollout
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import SYSTEM
from tests.alerting.conftest import NOW


def channel(name: str, tenant: Tenant | None) -> Channel:
    return Channel.objects.create(tenant=tenant, name=name, kind="webhook", target="https://example.org/hook")


@pytest.fixture
def deployment(acme: Tenant) -> Deployment:
    description = Description(notify=("ops", "nobody"))
    made = create_deployment(by=SYSTEM, slug="assistant", tenant=acme, description=description)
    create_release(by=SYSTEM, deployment=made, config={"model": "a"}, version="1")
    made.refresh_from_db()
    return made


def rolled_back(deployment: Deployment) -> Rollout:
    release = create_release(by=SYSTEM, deployment=deployment, config={"model": "b"}, version="2")
    rollout = create_rollout(by=SYSTEM, deployment=deployment, release=release, wish=Wish(), now=NOW, start=True)
    act(by=SYSTEM, rollout=rollout, verb="pause", expected_version=None, now=NOW)
    return act(by=SYSTEM, rollout=rollout, verb="rollback", expected_version=None, now=NOW, reason="It swears.")


def test_announce__rolled_back__is_in_the_outbox_once(deployment: Deployment, acme: Tenant) -> None:
    ops = channel("ops", acme)
    channel("others", acme)
    rolled_back(deployment)

    assert announce(now=NOW) == 2
    assert announce(now=NOW) == 0

    started, back = Delivery.objects.order_by("id")
    assert (started.channel, started.body["event"], back.channel) == (ops, "running", ops)
    assert (back.body["event"], back.body["severity"], back.body["name"]) == ("rolled back", "page", "assistant 2")
    assert "It swears." in back.body["summary"]


def test_announce__deployment_that_names_no_channel__tells_nobody(deployment: Deployment, acme: Tenant) -> None:
    channel("ops", acme)
    deployment.notify = []
    deployment.save()
    rolled_back(deployment)

    assert announce(now=NOW) == 0
    assert not Delivery.objects.exists()


def test_channels__two_of_one_name__the_nearer_one_is_told(deployment: Deployment, acme: Tenant) -> None:
    everybodys, ours = channel("ops", None), channel("ops", acme)

    assert channels_of(deployment) == [ours]
    ours.delete()
    assert channels_of(deployment) == [everybodys]

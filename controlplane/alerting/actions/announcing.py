"""What rollouts did that people want to hear of, put into the outbox for the channels that their deployment names, once."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q

from controlplane.alerting.models import Channel, Delivery
from controlplane.rollouts.models import Deployment, RolloutEvent

MOST = 100
_SAID = {
    "hold": "held",
    "ask": "asks for approval",
    "rollback": "rolled back",
    "abort": "aborted",
    "switch": "switched",
}
_LOUD = frozenset({"hold", "rollback"})


@transaction.atomic
def announce(*, now: datetime) -> int:
    """Write what is untold into the outbox; return how many events that were. Several processes may do so at one time."""
    untold = RolloutEvent.objects.select_for_update(skip_locked=True, of=("self",)).filter(told=False).order_by("id")
    events = list(untold.select_related("rollout__deployment__tenant", "rollout__release")[:MOST])
    for event in events:
        channels = channels_of(event.rollout.deployment)
        Delivery.objects.bulk_create(Delivery(channel=each, body=_body(event), next_at=now) for each in channels)
    RolloutEvent.objects.filter(pk__in=[event.pk for event in events]).update(told=True)
    return len(events)


def channels_of(deployment: Deployment) -> list[Channel]:
    """Return the channels that a deployment names: of two of one name the one of the nearer tenant."""
    lineage = deployment.tenant.lineage if deployment.tenant else []
    found = Channel.objects.filter(archived_at=None, name__in=deployment.notify)
    found = found.filter(Q(tenant=None) | Q(tenant_id__in=lineage))
    depth = {tenant: number for number, tenant in enumerate(lineage)}
    by_name: dict[str, Channel] = {}
    for channel in sorted(found, key=lambda each: depth.get(each.tenant_id or 0, -1)):
        by_name[channel.name] = channel
    return list(by_name.values())


def _body(event: RolloutEvent) -> dict[str, Any]:
    rollout = event.rollout
    return {
        "event": _SAID.get(event.verb, event.phase.replace("_", " ")),
        "rule": f"rollout {rollout.pk}",
        "name": f"{rollout.deployment.slug} {rollout.release.version}",
        "severity": "page" if event.verb in _LOUD else "info",
        "label": "",
        "state": event.phase,
        "before": event.verb,
        "value": None,
        "summary": f"{event.reason or 'No reason given.'} (by {event.actor})",
        "at": event.at.isoformat(),
        "change": None,
    }

"""The outbox, sent: each notification once to each channel, again only when it did not arrive."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from django.db import transaction

from controlplane.alerting import senders
from controlplane.alerting.models import Channel, Delivery, DeliveryStatus
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import Asker

log = structlog.get_logger(__name__)

MOST_ATTEMPTS = 10
_FIRST_PAUSE = timedelta(seconds=5)
_LONGEST_PAUSE = timedelta(minutes=15)


def deliver(*, now: datetime, most: int = 100) -> int:
    """Send what waits in the outbox and is due; return how many arrived. Several processes may do so at one time."""
    arrived = 0
    for _ in range(most):
        status = _deliver_one(now)
        if status is None:
            break
        arrived += status == DeliveryStatus.SENT
    return arrived


@transaction.atomic
def _deliver_one(now: datetime) -> str | None:
    delivery = (
        Delivery.objects.select_for_update(skip_locked=True, of=("self",))
        .select_related("channel")
        .filter(status=DeliveryStatus.WAITING, next_at__lte=now)
        .order_by("next_at", "id")
        .first()
    )
    if delivery is None:
        return None
    send(delivery, now)
    return delivery.status


def send(delivery: Delivery, now: datetime) -> None:
    """Send one notification and note what became of it."""
    outcome = senders.send(delivery)
    delivery.attempts += 1
    delivery.answer = outcome.text[:300]
    if outcome.arrived:
        delivery.status, delivery.sent_at = DeliveryStatus.SENT, now
    elif not outcome.again or delivery.attempts >= MOST_ATTEMPTS:
        delivery.status = DeliveryStatus.FAILED
    else:
        delivery.next_at = now + min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (delivery.attempts - 1))
    delivery.save(update_fields=["attempts", "answer", "status", "sent_at", "next_at"])
    log.info(
        "alerting.delivery",
        delivery=delivery.pk,
        channel=delivery.channel.name,
        status=delivery.status,
        answer=outcome.text[:80],
    )


def test_channel(*, by: Asker, channel: Channel, now: datetime) -> Delivery:
    """Send a test to a channel at once; return what became of it. It is never tried again."""
    by.must(Role.OPERATOR)
    body = {
        "event": "test",
        "rule": "",
        "name": f"Test of {channel.name}",
        "severity": "info",
        "label": "",
        "state": "test",
        "before": "test",
        "value": None,
        "summary": f"{by.name} tests this channel.",
        "at": now.isoformat(),
        "change": None,
    }
    delivery = Delivery.objects.create(channel=channel, body=body, next_at=now)
    send(delivery, now)
    if delivery.status == DeliveryStatus.WAITING:
        delivery.status = DeliveryStatus.FAILED
        delivery.save(update_fields=["status"])
    return delivery

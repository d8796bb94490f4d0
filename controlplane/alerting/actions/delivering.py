"""The outbox, sent: each notification once to each channel, again only when it did not arrive."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import Q

from controlplane.alerting import senders
from controlplane.alerting.models import Channel, Delivery, DeliveryStatus
from controlplane.alerting.outcome import Outcome
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import Asker

log = structlog.get_logger(__name__)

MOST_ATTEMPTS = 10
_FIRST_PAUSE = timedelta(seconds=5)
_LONGEST_PAUSE = timedelta(minutes=15)
CLOCK_SLACK = timedelta(minutes=1)  # by which clocks of several machines differ


def deliver(*, now: datetime, most: int = 100) -> int:
    """Send what waits in the outbox and is due; return how many arrived. Several processes may do so at one time."""
    arrived = 0
    for _ in range(most):
        status = deliver_one(now=now)
        if status is None:
            break
        arrived += status == DeliveryStatus.SENT
    return arrived


@transaction.atomic
def deliver_one(*, now: datetime) -> str | None:
    """Send the notification that has been due for longest; return what became of it, ``None`` when there is none."""
    due = Q(next_at__lte=now) | Q(
        next_at__gt=now + _LONGEST_PAUSE + CLOCK_SLACK
    )  # our clock was ahead when it was put there
    delivery = (
        Delivery.objects.select_for_update(skip_locked=True, of=("self",))
        .select_related("channel")
        .filter(due, status=DeliveryStatus.WAITING)
        .order_by("next_at", "id")
        .first()
    )
    if delivery is None:
        return None
    outcome = send(delivery, now)
    if outcome.silent:
        _hold(delivery, now + _pause(delivery))
    elif outcome.slow:
        _hold(delivery, now)
    return delivery.status


def send(delivery: Delivery, now: datetime) -> Outcome:
    """Send one notification and note what became of it."""
    outcome = _tried(delivery)
    delivery.attempts += 1
    delivery.answer = outcome.text[:300]
    if outcome.arrived:
        delivery.status, delivery.sent_at = DeliveryStatus.SENT, now
    elif not outcome.again or delivery.attempts >= MOST_ATTEMPTS:
        delivery.status = DeliveryStatus.FAILED
    else:
        delivery.next_at = now + _pause(delivery)
    delivery.save(update_fields=["attempts", "answer", "status", "sent_at", "next_at"])
    log.info(
        "alerting.delivery",
        delivery=delivery.pk,
        channel=delivery.channel.name,
        status=delivery.status,
        answer=outcome.text[:80],
    )
    return outcome


def _tried(delivery: Delivery) -> Outcome:
    """Try to send one; whatever is wrong with it, the others are not to suffer for it."""
    if delivery.channel.archived_at is not None:
        return Outcome(False, False, "The channel was taken away.")
    try:
        return senders.send(delivery)
    except Exception as error:
        log.exception("alerting.not_sent", delivery=delivery.pk)
        return Outcome(False, True, f"Something went wrong here: {type(error).__name__}.")


def _pause(delivery: Delivery) -> timedelta:
    doubled: int = 2 ** (delivery.attempts - 1)
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * doubled)


def _hold(delivery: Delivery, until: datetime) -> None:
    """Let all that waits for the channel of a delivery wait until a time: where nobody answers, or slowly, others are sent first."""
    waiting = Delivery.objects.filter(channel=delivery.channel, status=DeliveryStatus.WAITING, next_at__lt=until)
    others = waiting.exclude(pk=delivery.pk).select_for_update(skip_locked=True).values_list("pk", flat=True)
    Delivery.objects.filter(pk__in=list(others)).update(next_at=until)


@transaction.atomic  # so that no worker sees it wait, and sends it too
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

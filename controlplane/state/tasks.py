"""What the worker does for state."""

from __future__ import annotations

from asgiref.sync import async_to_sync
from celery import shared_task
from django.utils import timezone

from controlplane.state.actions.owners import retain
from controlplane.state.actions.sessions import forget_ended
from controlplane.state.mover import rebalance

SLICE_S = 20.0


@shared_task(name="state.rebalance")
def go_on_rebalancing() -> None:
    """Move slots for a while; what is left is the next one's."""
    if async_to_sync(rebalance)(for_s=SLICE_S):
        go_on_rebalancing.delay()


@shared_task(name="state.retain")
def keep_no_longer() -> None:
    """Delete what is older than the tenants' rules allow."""
    retain(now=timezone.now())
    forget_ended(now=timezone.now())

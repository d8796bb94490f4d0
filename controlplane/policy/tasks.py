"""What the worker does for policy."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from controlplane.policy.actions.publishing import forget_snapshots


@shared_task(name="policy.retain")
def retain() -> None:
    """Forget snapshots that nobody is served any more."""
    forget_snapshots(now=timezone.now())

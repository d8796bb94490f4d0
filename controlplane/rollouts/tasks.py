"""What the worker does for rollouts."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from controlplane.rollouts.actions import ticking


@shared_task(name="rollouts.tick")
def tick() -> None:
    """Let every open rollout look at its arms and act."""
    ticking.tick(now=timezone.now())


@shared_task(name="rollouts.retain")
def retain() -> None:
    """Delete counts that nothing reads any more."""
    ticking.retain(now=timezone.now())

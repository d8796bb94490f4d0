"""What the worker does for tenancy."""

from __future__ import annotations

from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from controlplane.tenancy.models import IdempotentReply

REPLIES_KEPT = timedelta(days=7)


@shared_task(name="tenancy.retain")
def retain() -> None:
    """Forget what requests with an idempotency key were answered long ago: nobody tries those again."""
    IdempotentReply.objects.filter(created_at__lt=timezone.now() - REPLIES_KEPT).delete()

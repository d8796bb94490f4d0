"""What the worker does for telemetry."""

from __future__ import annotations

import structlog
from celery import shared_task
from django.conf import settings
from django.utils import timezone

from controlplane.telemetry.actions import retention

log = structlog.get_logger(__name__)


@shared_task(name="telemetry.retain")
def retain() -> None:
    """Make the partitions of the days to come, and forget what is too old."""
    now = timezone.now()
    made = retention.make_partitions(today=now.date())
    dropped = retention.drop_partitions(today=now.date(), keep_days=settings.SPAN_RETENTION_DAYS)
    deleted = retention.delete_windows(now=now, keep_hours=settings.WINDOW_RETENTION_HOURS)
    log.info("telemetry.retained", partitions_made=made, partitions_dropped=dropped, windows_deleted=deleted)

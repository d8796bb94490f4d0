"""What the worker does for telemetry."""

from __future__ import annotations

from datetime import timedelta

import structlog
from celery import shared_task
from django.conf import settings
from django.utils import timezone

from controlplane.telemetry.actions import folding, ladder, retention, rootless, span_sums, summarising

log = structlog.get_logger(__name__)


@shared_task(name="telemetry.retain")
def retain() -> None:
    """Make the partitions of the days to come, and forget what is too old."""
    now = timezone.now()
    today = now.date()
    made = retention.make_partitions(today=today)
    dropped = [
        name
        for kept, days in (
            (retention.SPANS, settings.SPAN_RETENTION_DAYS),
            (retention.MESSAGES, settings.MESSAGE_RETENTION_DAYS),
            (retention.LOGS, settings.LOG_RETENTION_DAYS),
            (retention.POINTS, settings.POINT_RETENTION_DAYS),
            (retention.POINT_QUARTERS, settings.POINT_RETENTION_DAYS),
            (retention.POINT_HOURS, settings.HOUR_RETENTION_DAYS),
            *((sums, span_sums.FINE_DAYS) for sums in retention.FINE_SUMS),
            *((sums, settings.SPAN_RETENTION_DAYS) for sums in retention.SPAN_SUMS),
        )
        for name in retention.drop_partitions(kept, today=today, keep_days=days)
    ]
    keep = retention.Keep(
        timedelta(hours=settings.WINDOW_RETENTION_HOURS),
        timedelta(days=settings.MINUTE_RETENTION_DAYS),
        timedelta(days=settings.HOUR_RETENTION_DAYS),
    )
    deleted = retention.delete_windows(now=now, keep=keep)
    rootless.forget_rootless(before=now - timedelta(days=settings.SPAN_RETENTION_DAYS))
    series = retention.delete_series(now=now, keep_days=settings.HOUR_RETENTION_DAYS)
    log.info(
        "telemetry.retained",
        partitions_made=len(made),
        partitions_dropped=len(dropped),
        windows_deleted=deleted,
        series_deleted=series,
    )


@shared_task(name="telemetry.climb")
def climb() -> None:
    """Fold windows of calls into longer ones, and into what all tenants come to."""
    now = timezone.now()
    ladder.climb(now=now, kept_since=now - timedelta(days=settings.MINUTE_RETENTION_DAYS) + timedelta(hours=6))


@shared_task(name="telemetry.sum_spans")
def sum_spans() -> None:
    """Fold spans into what pages ask of all of them."""
    now = timezone.now()
    summarising.summarise(today=now.date())
    span_sums.fold_spans(now=now, kept_since=now - timedelta(days=settings.SPAN_RETENTION_DAYS - 1))


@shared_task(name="telemetry.fold")
def fold() -> None:
    """Fold the hours that are over, and those that got late data; note traces without a root."""
    now = timezone.now()
    rootless.note_rootless(now=now)
    for kind, days in (
        ("windows", settings.MINUTE_RETENTION_DAYS),
        ("points", settings.POINT_RETENTION_DAYS),
        ("quarters", settings.POINT_RETENTION_DAYS),
    ):
        folded = folding.fold_hours(kind, now=now, kept_since=now - timedelta(days=days))
        if folded.hours:
            log.info("telemetry.folded", kind=kind, hours=folded.hours, until=folded.until)

"""What the worker does for alerts."""

from __future__ import annotations

from threading import Lock

import structlog
from celery import shared_task
from django.utils import timezone

from controlplane.alerting.actions import announcing, delivering, evaluation, grouping

log = structlog.get_logger(__name__)

MOST = 1000  # notifications in one go
_delivering = Lock()


@shared_task(name="alerting.evaluate")
def evaluate() -> None:
    """Look at the rules that are due, then put into the outbox what there is to tell."""
    now = timezone.now()
    for rule_id in evaluation.due_rules(now):
        try:
            evaluation.evaluate(rule_id, now=timezone.now())
        except Exception:
            log.exception("alerting.not_evaluated", rule=rule_id)  # the others are still looked at
    evaluation.end_unwatched(now=timezone.now())
    announcing.announce(now=timezone.now())
    grouping.flush(now=timezone.now())


@shared_task(name="alerting.deliver")
def deliver() -> None:
    """Send what is due. One thread of a worker does: receivers that are slow are not to hold up all the others."""
    if not _delivering.acquire(blocking=False):
        return
    try:
        for _ in range(MOST):
            if delivering.deliver_one(now=timezone.now()) is None:
                break
    finally:
        _delivering.release()


@shared_task(name="alerting.tidy")
def tidy() -> None:
    """Forget alerts of things that are long gone."""
    evaluation.forget_quiet(now=timezone.now())

"""What the worker does for money."""

from __future__ import annotations

from datetime import timedelta

import structlog
from celery import shared_task
from django.conf import settings
from django.utils import timezone

from controlplane.budgets.actions.folding import fold_leases, is_proved
from controlplane.budgets.actions.forgetting import end_clients, forget_periods, forget_slots
from controlplane.budgets.actions.lease_acts import expire_lost
from controlplane.budgets.actions.ledger import prove
from controlplane.budgets.actions.ledger_folding import carry_forward
from controlplane.budgets.actions.ledger_keeping import make_partitions
from controlplane.budgets.actions.prices import refresh_price_book

log = structlog.get_logger(__name__)


@shared_task(name="budgets.refresh_prices")
def refresh_prices() -> None:
    """Compile the price book anew: list prices may start on a date."""
    refresh_price_book()


@shared_task(name="budgets.prove_ledger")
def prove_ledger() -> None:
    """Compare all counters with the ledger, once a night."""
    prove(now=timezone.now())


@shared_task(name="budgets.keep_ledger")
def keep_ledger() -> None:
    """Make the ledger's partitions of the days to come."""
    make_partitions(today=timezone.now().date())


@shared_task(name="budgets.retain")
def retain() -> None:
    """Fold closed leases and old days of the ledger, and forget what nobody asks for any more. What was missed is made up for."""
    now = timezone.now()
    keep = timedelta(days=settings.LEASE_RETENTION_DAYS)
    if is_proved():
        ended, folded = fold_leases(now=now, keep=keep)
        carried = carry_forward(now=now, keep_days=settings.LEDGER_RETENTION_DAYS)
        slots = forget_slots(now=now)
        periods = forget_periods(now=now, keep=timedelta(days=settings.PERIOD_RETENTION_DAYS))
        log.info("leases.folded", leases=folded, lost=ended, ledger_days=len(carried), slots=slots, periods=periods)
    else:
        log.warning("leases.not_folded", reason="the last proof of the ledger found differences, or there is none yet")
    log.info("clients.forgotten", clients=end_clients(now=now, keep=keep))


@shared_task(name="budgets.expire_lost")
def expire_lost_leases() -> None:
    """Presume spent what lost holders had, once it has left the rolling windows."""
    expire_lost(now=timezone.now())

"""What the worker does for money."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from controlplane.budgets.actions.lease_acts import expire_lost
from controlplane.budgets.actions.ledger import prove
from controlplane.budgets.actions.ledger_keeping import make_partitions
from controlplane.budgets.actions.prices import refresh_price_book


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


@shared_task(name="budgets.expire_lost")
def expire_lost_leases() -> None:
    """Presume spent what lost holders had, once it has left the rolling windows."""
    expire_lost(now=timezone.now())

"""What the worker does for money."""

from __future__ import annotations

from celery import shared_task

from controlplane.budgets.actions.prices import refresh_price_book


@shared_task(name="budgets.refresh_prices")
def refresh_prices() -> None:
    """Compile the price book anew: list prices may start on a date."""
    refresh_price_book()

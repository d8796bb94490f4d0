"""What budgets add to the snapshots that SDKs are served."""

from __future__ import annotations

from controlplane.budgets.models import Budget, PriceBook
from controlplane.domain.snapshots import BudgetLine, Money


def money() -> Money:
    """Return the live budgets of all tenants, and the etag of the newest price book."""
    budgets = Budget.objects.filter(archived_at=None).order_by("pk")
    newest = PriceBook.objects.order_by("-id").values_list("etag", flat=True).first()
    lines = [
        BudgetLine(
            row.pk, row.tenant_id, row.slug, row.match, row.on_exhausted, row.on_disconnect, row.strict, row.on_overrun
        )
        for row in budgets
    ]
    return Money(lines, newest)

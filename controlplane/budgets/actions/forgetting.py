"""What is forgotten beside leases and entries: slots that left their windows, periods long past, clients that are silent for long."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import connection, transaction

from controlplane.budgets.models import Account, AccountSlot, Lease, LeaseFloor, PeriodKind
from controlplane.domain.periods import rolling_cutoff
from controlplane.fleet.actions import ending

_LATE = timedelta(days=1)  # clocks of servers differ, and a slot that is there too long does no harm


def forget_slots(*, now: datetime) -> int:
    """Delete the slots that left their windows a day ago; return how many."""
    rolling = Account.objects.filter(budget__period_kind=PeriodKind.ROLLING).order_by("pk")
    gone = 0
    for key, days in rolling.values_list("pk", "budget__period_days"):
        since = rolling_cutoff(days or 1, now) - _LATE
        with transaction.atomic():
            deleted, _ = AccountSlot.objects.filter(account_id=key, starts_at__lt=since).delete()
            if deleted:
                Account.objects.filter(pk=key).update(slots_since=since)
        gone += deleted
    return gone


def forget_periods(*, now: datetime, keep: timedelta) -> int:
    """Delete the accounts of calendar periods that ended before ``keep``; return how many.

    The last one of a budget that ended so long ago is kept, because the next may carry something from it, and so are those on which
    there still are leases.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            DELETE FROM budgets_account AS account
            WHERE ends_at < %(before)s AND outstanding_nusd = 0 AND EXISTS (
                SELECT FROM budgets_account AS later
                WHERE later.budget_id = account.budget_id AND later.ends_at > account.ends_at AND later.ends_at < %(before)s
            ) AND id NOT IN (SELECT unnest(path) FROM budgets_lease WHERE created_at < %(before)s)
            """,
            {"before": now - keep},
        )
        return int(cursor.rowcount)


def end_clients(*, now: datetime, keep: timedelta) -> int:
    """Forget the clients that were silent for ``keep`` and have no lease any more; return how many."""
    gone, after = 0, ending.FIRST
    while True:
        with transaction.atomic():
            silent = ending.lock_silent(before=now - keep, after=after)
            held = set(Lease.objects.filter(incarnation__in=silent).values_list("incarnation", flat=True))
            over = [each for each in silent if each not in held]
            ending.end(over)
            LeaseFloor.objects.filter(incarnation__in=over).delete()
        gone += len(over)
        if len(silent) < ending.BATCH:
            return gone
        after = silent[-1]

"""Closed leases that nobody speaks of any more are folded: their rows go, their accounts keep what they came to.

Every lease that goes leaves one entry in the ledger, and its incarnation remembers up to which number leases are closed for good:
who still speaks of one hears that, and nothing of it counts. What was charged to budgets for all of time goes to a rest, from which an
operator may take back. All of it is done in small transactions, each of which leaves everything
even; what is left undone when one stops, the next run finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from controlplane.budgets.actions.lease_acts import end_leases, write_entries
from controlplane.budgets.models import Account, Lease, LedgerProof, OnDisconnect
from controlplane.columns import ids, plain
from controlplane.domain.grants import Counters
from controlplane.domain.leases import LeaseKey, OpenLease
from controlplane.domain.ledger import entry_of, folding_entry, stand_of
from controlplane.domain.retention import Span, kept_until, may_still_spend
from controlplane.domain.taking_back import lasting, rest_key, rests_of

BATCH = 1000
_RESTS = 7_206_003  # the advisory lock of rests: who holds rows of leases takes it before any rest's
_FIRST = (datetime(1970, 1, 1, tzinfo=UTC), 0)


class Folded(NamedTuple):
    """How many leases of lost holders were ended, and how many closed ones were folded."""

    ended: int = 0
    folded: int = 0


def is_proved() -> bool:
    """Return whether the last proof of the ledger found every counter right. What differs is evidence: nothing of it is folded."""
    last = LedgerProof.objects.values_list("difference_count", flat=True).first()
    return last == 0


def fold_leases(*, now: datetime, keep: timedelta) -> Folded:
    """Fold the closed leases of which nothing was heard for ``keep``, and whose periods and windows are over.

    What holders had left that are lost for as long is presumed spent first: their accounts are exposed to as much as before.
    """
    total = Folded()
    after: tuple[datetime, int] | None = _FIRST
    while after is not None:
        batch, after = _older(after, now - keep)
        with transaction.atomic():
            done = _fold(batch, now, keep)
        total = Folded(total.ended + done.ended, total.folded + done.folded)
    return total


def _older(after: tuple[datetime, int], before: datetime) -> tuple[list[int], tuple[datetime, int] | None]:
    """Return the next leases by age that were not heard of since ``before``, and after which to go on; ``None``: nowhere."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT id, created_at, seen_at < %s FROM budgets_lease
            WHERE (created_at, id) > (%s, %s) AND created_at < %s AND number >= 0 ORDER BY created_at, id LIMIT %s
            """,
            [before, *after, before, BATCH],
        )
        rows = cursor.fetchall()
    last = (rows[-1][1], rows[-1][0]) if len(rows) == BATCH else None
    return [key for key, _, silent in rows if silent], last


def _fold(wanted: Sequence[int], now: datetime, keep: timedelta) -> Folded:
    if not wanted:
        return Folded()
    lock_rests()
    found = Lease.objects.select_for_update(skip_locked=True).filter(pk__in=wanted, seen_at__lt=now - keep)
    leases = list(found.order_by("pk"))
    spans = _spans(key for lease in leases for key in lease.path)
    due = [lease for lease in leases if kept_until(lease.seen_at, _path(lease, spans), keep) < now]
    lost = [lease for lease in due if not lease.closed and not may_still_spend(_path(lease, spans))]
    if lost:
        expired = {lease.pk: lease.seen_at + timedelta(milliseconds=settings.LEASE_TTL_MS) for lease in lost}
        end_leases(lost, counts_at=expired, now=now)
    closed = [lease for lease in due if lease.closed]
    if closed:
        fold_locked(closed, now=now)
    return Folded(len(lost), len(closed))


def lock_rests() -> None:
    """Let nobody else fold leases or take back from folded ones until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_RESTS])


def fold_locked(leases: Sequence[Lease], *, now: datetime) -> None:
    """Fold closed leases that are locked, under the lock of rests."""
    gone = [as_opened(lease) for lease in leases]
    write_entries([folding_entry(lease, now=now) for lease in gone], by="", reason="")
    _keep_rests(gone, now)
    _raise_floors(leases)
    Lease.objects.filter(pk__in=[lease.pk for lease in leases]).delete()


def _keep_rests(gone: Sequence[OpenLease], now: datetime) -> None:
    """Add to rests what can still be taken back; entries ``carry`` say so, which speak of no account."""
    spans = _spans(key for lease in gone for key in lease.path)
    names = {rest_key(lasting(lease.path, spans)) for lease in gone}
    rows = {
        (row.incarnation, row.number): row for row in Lease.objects.filter(incarnation__in=[key for key, _ in names])
    }
    known = {key: as_opened(row) for key, row in rows.items()}
    rests = rests_of(gone, spans, known)
    entries = []
    for key, rest in rests.items():
        entry = entry_of(rest, stand_of(known[key]) if key in known else None, now=now)
        assert entry is not None  # noqa: S101  more was charged
        entries.append(entry._replace(kind="carry"))
        _write_rest(key, rest, rows.get(key), now)
    if entries:
        write_entries(entries, by="", reason="")


def _write_rest(key: LeaseKey, rest: OpenLease, row: Lease | None, now: datetime) -> None:
    incarnation, number = key
    lease = row or Lease(
        incarnation=incarnation, number=number, path=rest.path, created_at=rest.opened_at or now, closed=True
    )
    lease.settled_nusd, lease.presumed_nusd, lease.seen_at = rest.counters.settled, rest.presumed, now
    lease.save()


def _spans(accounts: Iterable[int]) -> dict[int, Span]:
    rows = Account.objects.filter(pk__in=set(accounts)).values_list(
        "pk", "ends_at", "budget__period_days", "budget__on_disconnect"
    )
    return {key: Span(ends_at, days, finish == OnDisconnect.FINISH_LEASE) for key, ends_at, days, finish in rows}


def _path(lease: Lease, spans: Mapping[int, Span]) -> list[Span]:
    return [spans[key] for key in lease.path]


def as_opened(lease: Lease) -> OpenLease:
    """Return a lease as the rules see it."""
    counters = Counters(lease.granted_nusd, lease.settled_nusd, lease.returned_nusd, lease.corrected_nusd)
    return OpenLease(
        (lease.incarnation, lease.number), list(lease.path), counters, denied=lease.denied_calls, closed=lease.closed,
        opened_at=lease.created_at, presumed=lease.presumed_nusd, false_denied=lease.false_denied_calls,
        overage=lease.overage_nusd,
    )  # fmt: skip


def _raise_floors(leases: Iterable[Lease]) -> None:
    floors: dict[UUID, int] = {}
    for lease in leases:
        floors[lease.incarnation] = max(floors.get(lease.incarnation, 0), lease.number)
    ordered = sorted(floors)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO budgets_leasefloor AS floor (incarnation, number) SELECT * FROM unnest(%s::uuid[], %s::bigint[])
            ON CONFLICT (incarnation) DO UPDATE SET number = greatest(floor.number, excluded.number)
            """,
            [ids(ordered), plain([floors[each] for each in ordered])],
        )

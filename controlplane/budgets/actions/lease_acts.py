"""An operator's hand on leases, and the end of those whose holders are lost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F

from controlplane import live
from controlplane.budgets.accuracy import lease_seen_by, lost_after, open_leases_of
from controlplane.budgets.actions.carrying import carry_on_from
from controlplane.budgets.actions.lease_writes import INSERT_ENTRIES, entry_columns
from controlplane.budgets.models import Account, AccountSlot, Lease, OnDisconnect, PeriodKind
from controlplane.budgets.words import dollars
from controlplane.domain.grants import Counters
from controlplane.domain.leases import OpenLease
from controlplane.domain.ledger import Entry, entry_of, slot_moves, stand_of
from controlplane.domain.periods import leaves_window
from controlplane.problems import Conflict, Invalid
from controlplane.tenancy.actions.audit import record
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import Asker

log = structlog.get_logger(__name__)

MOST_EXPIRED = 500
MAX_REASON = 500


@transaction.atomic
def revoke_lease(*, by: Asker, incarnation: UUID, number: int, reason: str, now: datetime) -> Lease:
    """Close a lease on the server: it grants no more, and its holder gives back what is left with its next sync.

    Until then what it may spend stays exposed. The holder may open another lease: to keep it away, revoke its key.
    """
    lease = _locked(by, incarnation, number)
    reason = given_reason(reason)
    if lease.closed or lease.revoked:
        raise Conflict("The lease is closed already.")
    lease.revoked = True
    lease.save(update_fields=["revoked"])
    entry = Entry("revoke", (incarnation, number), tuple(lease.path), now, lease.created_at, now)
    write_entries([entry], by=by.name, reason=reason)
    summary = f"Revoked lease {number} of {str(incarnation)[:8]} with {dollars(_left(lease))} left"
    _tell(by, lease, "lease.revoked", summary, reason)
    return lease


@transaction.atomic
def revoke_leases_of(*, by: Asker, incarnation: UUID, reason: str, now: datetime) -> int:
    """Revoke every open lease of one client whose budgets the asker sees; return how many were still granting."""
    by.must(Role.OPERATOR)
    reason = given_reason(reason)
    numbers = list(open_leases_of(by, incarnation).filter(revoked=False).values_list("number", flat=True))
    if not numbers:
        raise Conflict("This client holds no lease that is not revoked.")
    for number in numbers:
        revoke_lease(by=by, incarnation=incarnation, number=number, reason=reason, now=now)
    return len(numbers)


@transaction.atomic
def resolve_lease(
    *, by: Asker, incarnation: UUID, number: int, spent_nusd: int | None = None, reason: str, now: datetime
) -> Lease:
    """End the lease of a lost holder: charge ``spent_nusd`` of what is left (``None``: all of it), and free the rest.

    A correction by an operator, who knows from elsewhere what was spent. Should the holder come back, what it reports
    replaces what was presumed. ``Conflict`` while the holder is heard of or may be.
    """
    lease = _locked(by, incarnation, number)
    reason = given_reason(reason)
    left = _left(lease)
    if lease.closed:
        raise Conflict("The lease is closed already.")
    if now - lease.seen_at <= lost_after():
        raise Conflict(f"The holder was heard of within {lost_after().total_seconds():.0f} s: it may still spend.")
    spent = left if spent_nusd is None else spent_nusd
    if not 0 <= spent <= left:
        raise Invalid(
            "That is not what may have been spent.", errors={"spent_usd": f"must be from 0 to {dollars(left)}"}
        )
    _end([lease], {lease.pk: spent}, {lease.pk: now}, by=by.name, reason=reason, now=now)
    summary = f"Resolved lease {number} of {str(incarnation)[:8]}: {dollars(spent)} of {dollars(left)} presumed spent"
    _tell(by, lease, "lease.resolved", summary, reason)
    return lease


@transaction.atomic
def expire_lost(*, now: datetime) -> int:
    """End the leases of lost holders whose charges have left every rolling window on their path; return how many.

    All of what was left is presumed spent, when the lease expired: what is charged has left the windows with it. Leases that
    may be finished after they expired are kept, and so are those on calendar budgets and those for all of time alone.
    """
    wanted = _that_can_expire(now)
    leases = list(Lease.objects.select_for_update().filter(pk__in=wanted, closed=False).order_by("pk"))
    counts_at = {lease.pk: _expired_at(lease) for lease in leases}
    over = [lease for lease in leases if wanted[lease.pk] and _expired_at(lease) + wanted[lease.pk] < now]
    if over:
        end_leases(over, counts_at=counts_at, now=now)
        log.info("leases.expired", leases=len(over))
        live.changed("budgets")
    return len(over)


def end_leases(leases: Sequence[Lease], *, counts_at: dict[int, datetime], now: datetime) -> None:
    """End locked leases of lost holders: all that is left of them is presumed spent, from ``counts_at`` on."""
    _end(leases, {lease.pk: _left(lease) for lease in leases}, counts_at, by="", reason="", now=now)


def _that_can_expire(now: datetime) -> dict[int, timedelta]:
    """Return leases of lost holders on rolling windows, with how long after they expired the last slot leaves."""
    rolling = Account.objects.filter(budget__period_kind=PeriodKind.ROLLING, outstanding_nusd__gt=0)
    days = {key: length or 1 for key, length in rolling.values_list("pk", "budget__period_days")}
    silent = Lease.objects.filter(closed=False, path__overlap=list(days), seen_at__lt=now - lost_after())
    paths = dict(silent.order_by("seen_at").values_list("pk", "path")[:MOST_EXPIRED])
    accounts = {key for path in paths.values() for key in path}
    finishing = Account.objects.filter(pk__in=accounts, budget__on_disconnect=OnDisconnect.FINISH_LEASE)
    kept = set(finishing.values_list("pk", flat=True))
    # Slots begin on whole multiples: from any time to when its slot leaves is at most one slot more than to its own end.
    epoch = datetime.fromtimestamp(0, now.tzinfo)
    spans = {key: leaves_window(length, epoch) - epoch for key, length in days.items()}
    return {
        key: max(spans[account] for account in path if account in spans)
        for key, path in paths.items()
        if not kept & set(path)
    }


def _expired_at(lease: Lease) -> datetime:
    return lease.seen_at + timedelta(milliseconds=settings.LEASE_TTL_MS)


def _end(
    leases: Sequence[Lease],
    spent: dict[int, int],
    counts_at: dict[int, datetime],
    *,
    by: str,
    reason: str,
    now: datetime,
) -> None:
    """Close locked leases, presuming ``spent``; move their accounts and slots, and enter it in the ledger."""
    keys = {key for lease in leases for key in lease.path}
    locked = Account.objects.select_for_update(of=("self",)).filter(pk__in=keys).select_related("budget").order_by("pk")
    accounts = {row.pk: row for row in locked}
    entries = []
    for lease in leases:
        left = _left(lease)
        entry = _presume(lease, spent[lease.pk], counts_at[lease.pk], now)
        entries.append(entry._replace(kind="correct") if by else entry)
        for account in (accounts[key] for key in lease.path):
            account.outstanding_nusd -= left
            account.settled_nusd += spent[lease.pk]
            account.presumed_nusd += spent[lease.pk]
            account.updated_at = now
    Lease.objects.bulk_update(leases, ["closed", "presumed_nusd"])
    Account.objects.bulk_update(accounts.values(), ["outstanding_nusd", "settled_nusd", "presumed_nusd", "updated_at"])
    carry_on_from(accounts.values(), now)
    move_slots(entries, accounts)
    write_entries(entries, by=by, reason=reason)


def _presume(lease: Lease, spent: int, counts_at: datetime, now: datetime) -> Entry:
    opened = OpenLease(
        key=(lease.incarnation, lease.number),
        path=list(lease.path),
        counters=Counters(lease.granted_nusd, lease.settled_nusd, lease.returned_nusd, lease.corrected_nusd),
        closed=lease.closed,
        opened_at=lease.created_at,
        presumed=lease.presumed_nusd,
    )
    stood = stand_of(opened)
    opened.closed, opened.presumed = True, opened.presumed + spent
    lease.closed, lease.presumed_nusd = True, opened.presumed
    entry = entry_of(opened, stood, now=now, counts_at=counts_at)
    assert entry is not None  # noqa: S101  it closes
    return entry


def move_slots(entries: Sequence[Entry], accounts: dict[int, Account]) -> None:
    """Add to the slots of rolling windows what entries on these accounts say."""
    rolling = {
        key: account.budget.period_days or 1
        for key, account in accounts.items()
        if account.budget.period_kind == PeriodKind.ROLLING
    }
    for (account, starts_at), amount in slot_moves(entries, rolling).items():
        slot, _ = AccountSlot.objects.get_or_create(account_id=account, starts_at=starts_at)
        AccountSlot.objects.filter(pk=slot.pk).update(settled_nusd=F("settled_nusd") + amount)


def write_entries(entries: Sequence[Entry], *, by: str, reason: str) -> None:
    """Enter in the ledger what an operator, or time (``by`` is "" then), has changed."""
    with connection.cursor() as cursor:
        cursor.execute(INSERT_ENTRIES, entry_columns(entries, by=by, reason=reason))


def _locked(by: Asker, incarnation: UUID, number: int) -> Lease:
    by.must(Role.OPERATOR)
    seen = lease_seen_by(by, incarnation, number)
    return Lease.objects.select_for_update().get(pk=seen.pk)


def _left(lease: Lease) -> int:
    return max(0, lease.granted_nusd - lease.returned_nusd - lease.settled_nusd)


def given_reason(reason: str) -> str:
    """Return the reason that an operator gives; ``Invalid`` when it is none."""
    reason = reason.strip().replace("\0", "")
    if not 1 <= len(reason) <= MAX_REASON:
        raise Invalid("Say why.", errors={"reason": f"must be text of 1 to {MAX_REASON} characters"})
    return reason


def _tell(by: Asker, lease: Lease, action: str, summary: str, reason: str) -> None:
    account = Account.objects.select_related("budget__tenant").get(pk=lease.path[0])
    record(
        by=by,
        action=action,
        target_kind="lease",
        target=f"{lease.incarnation}/{lease.number}",
        tenant=account.budget.tenant,
        summary=summary,
        reason=reason,
    )
    live.changed("budgets")

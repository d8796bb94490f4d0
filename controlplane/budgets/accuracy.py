"""How accurate the money is: where each unit of a budget stands, and every way in which it could be wrong.

docs/protocol.md, "Accuracy", defines the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import Case, Count, F, Max, Q, QuerySet, Sum, When
from django.db.models.functions import Greatest

from controlplane.budgets.models import Account, Budget, Lease, LedgerProof, OnDisconnect, OnExhausted, PeriodKind
from controlplane.budgets.queries import Standing, budgets_seen_by, standings
from controlplane.problems import NotFound
from controlplane.tenancy.queries import Asker

# A lease may be used until its ttl after the request that renewed it; a report may be late by this much more.
GRACE = timedelta(seconds=15)
# While an account denied within this time, what others hold idle is withheld from those who ask.
SCARCE_FOR = timedelta(seconds=30)
MOST_LEASES = 50


def lost_after() -> timedelta:
    """Return after what silence the holder of a lease counts as lost: its rights have expired and no report is due."""
    return timedelta(milliseconds=settings.LEASE_TTL_MS) + GRACE


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """One budget in its present period. Amounts are nano-USD.

    ``amount = settled + held + idle + unverified + free`` unless it is overspent or lowered below its exposure: ``free`` is
    never below zero. ``reported_at`` is the oldest last report among live holders: no figure here is older.
    """

    standing: Standing
    settled_nusd: int
    presumed_nusd: int
    held_nusd: int
    idle_nusd: int
    unverified_nusd: int
    stranded_nusd: int
    overspend_nusd: int
    overage_nusd: int
    denied_calls: int
    false_refusals: int
    holders: int
    lost: int
    reported_at: datetime | None

    @property
    def budget(self) -> Budget:
        return self.standing.budget

    @property
    def free_nusd(self) -> int:
        return self.standing.free_nusd

    @property
    def guaranteed(self) -> bool:
        """Whether the amount is a hard cap at all."""
        return self.budget.on_exhausted == OnExhausted.BLOCK

    @property
    def false_rate(self) -> float | None:
        """The share of denied calls for which there was room; ``None`` when none was denied."""
        return self.false_refusals / self.denied_calls if self.denied_calls else None


@dataclass(frozen=True)
class _Held:
    """What the open leases on one account come to."""

    held: int = 0
    idle: int = 0
    unverified: int = 0
    holders: int = 0
    lost: int = 0
    reported_at: datetime | None = None


def accuracy(asker: Asker, now: datetime, tenant_slug: str | None = None) -> list[Accuracy]:
    """Return how accurate the asker's budgets are in their present periods, those with something wrong first."""
    found = _accuracies(standings(asker, now, tenant_slug), now)
    return sorted(
        found,
        key=lambda each: (not each.overspend_nusd, not each.unverified_nusd, -each.denied_calls, each.budget.name),
    )


@dataclass(frozen=True, kw_only=True)
class Holding:
    """An open lease as operators see it. ``budget`` is the leaf of its path."""

    lease: Lease
    budget: Budget
    outstanding_nusd: int
    lost: bool

    @property
    def name(self) -> str:
        """``incarnation/number``."""
        return f"{self.lease.incarnation}/{self.lease.number}"

    @property
    def finishes(self) -> bool:
        """Whether its holder may go on spending although the lease has expired."""
        return self.budget.on_disconnect == OnDisconnect.FINISH_LEASE


def leases_seen_by(
    asker: Asker, now: datetime, *, most: int = MOST_LEASES, incarnation: UUID | None = None
) -> list[Holding]:
    """Return the open leases with something left whose leaf budget the asker sees: lost holders' first, then the greatest.

    With ``incarnation`` only those of that client.
    """
    left = F("granted_nusd") - F("returned_nusd") - F("settled_nusd")
    leases = Lease.objects.filter(closed=False).annotate(left=left).filter(left__gt=0)
    if incarnation is not None:
        leases = leases.filter(incarnation=incarnation)
    if asker.tenant is not None:
        own = list(Account.objects.filter(budget__in=budgets_seen_by(asker)).values_list("pk", flat=True))
        leases = leases.filter(path__overlap=own).filter(path__0__in=own)
    since = now - lost_after()
    late = Case(When(seen_at__lt=since, then=0), default=1)
    found = list(leases.order_by(late, "-left", "pk")[:most])
    leaves = Account.objects.select_related("budget__tenant").in_bulk({lease.path[0] for lease in found})
    return [
        Holding(
            lease=lease,
            budget=leaves[lease.path[0]].budget,
            outstanding_nusd=lease.granted_nusd - lease.returned_nusd - lease.settled_nusd,
            lost=lease.seen_at < since,
        )
        for lease in found
    ]


@dataclass(frozen=True, kw_only=True)
class Holder:
    """One client's open leases on a budget. ``left_nusd`` it may still spend, of which ``held_nusd`` by calls in flight."""

    incarnation: UUID
    leases: int
    left_nusd: int
    held_nusd: int
    revoked: int
    seen_at: datetime
    lost: bool


def holders_of(standing: Standing, now: datetime) -> list[Holder]:
    """Return who holds leases on a budget in its present period, the greatest first."""
    left = Sum(Greatest(0, F("granted_nusd") - F("returned_nusd") - F("settled_nusd")))
    leases = Lease.objects.filter(closed=False, path__contains=[standing.account_id])
    rows = leases.values("incarnation").annotate(
        leases=Count("pk"),
        left=left,
        held=Sum("held_nusd"),
        gone=Count("pk", filter=Q(revoked=True)),
        seen=Max("seen_at"),
    )
    since = now - lost_after()
    return [
        Holder(
            incarnation=row["incarnation"],
            leases=row["leases"],
            left_nusd=row["left"],
            held_nusd=min(row["held"], row["left"]),
            revoked=row["gone"],
            seen_at=row["seen"],
            lost=row["seen"] < since,
        )
        for row in (rows.order_by("-left", "incarnation")[:MOST_LEASES] if standing.account_id else [])
    ]


def open_leases_of(asker: Asker, incarnation: UUID) -> QuerySet[Lease]:
    """Return one client's open leases whose leaf budget the asker sees."""
    leases = Lease.objects.filter(incarnation=incarnation, closed=False).order_by("pk")
    if asker.tenant is None:
        return leases
    return leases.filter(
        path__0__in=list(Account.objects.filter(budget__in=budgets_seen_by(asker)).values_list("pk", flat=True))
    )


def lease_seen_by(asker: Asker, incarnation: UUID, number: int) -> Lease:
    """Return one lease; ``NotFound`` when its leaf budget is outside the asker's scope, as for one that does not exist."""
    lease = Lease.objects.filter(incarnation=incarnation, number=number).first()
    leaf = Account.objects.select_related("budget__tenant").get(pk=lease.path[0]).budget if lease else None
    seen = leaf is not None and (
        asker.tenant is None or (leaf.tenant is not None and asker.tenant.pk in leaf.tenant.lineage)
    )
    if lease is None or not seen:
        raise NotFound(f"There is no lease {number} of {incarnation} that you may see.")
    return lease


def last_proof() -> LedgerProof | None:
    """Return the newest proof of the ledger, of all tenants together."""
    return LedgerProof.objects.first()


def proofs(most: int = 14) -> list[LedgerProof]:
    """Return the last proofs of the ledger, the newest first."""
    return list(LedgerProof.objects.defer("differences")[:most])


def _accuracies(stood: Sequence[Standing], now: datetime) -> list[Accuracy]:
    ids = [standing.account_id for standing in stood if standing.account_id is not None]
    accounts = Account.objects.in_bulk(ids)
    held = _held(ids, now)
    made = []
    for standing in stood:
        key = standing.account_id or 0
        account = accounts.get(key) or Account(budget=standing.budget)
        rights = held.get(key, _Held())
        scarce = account.denied_at is not None and now - account.denied_at < SCARCE_FOR
        made.append(
            Accuracy(
                standing=standing,
                settled_nusd=standing.spent_nusd,
                presumed_nusd=account.presumed_nusd,
                held_nusd=rights.held,
                idle_nusd=rights.idle,
                unverified_nusd=rights.unverified,
                stranded_nusd=rights.unverified + (rights.idle if scarce else 0),
                overspend_nusd=_overspend(standing, account, now),
                overage_nusd=account.overage_nusd,
                denied_calls=account.denied_calls,
                false_refusals=account.false_denied_calls,
                holders=rights.holders,
                lost=rights.lost,
                reported_at=rights.reported_at,
            )
        )
    return made


def _overspend(standing: Standing, account: Account, now: datetime) -> int:
    """Return by how much the exposure exceeds the greatest amount that was in force in the period or window."""
    window = timedelta(days=standing.budget.period_days or 1)
    rolling = standing.budget.period_kind == PeriodKind.ROLLING
    left = rolling and account.lowered_at is not None and now - account.lowered_at > window
    highest = standing.amount_nusd if left else max(standing.amount_nusd, account.highest_nusd)
    return max(0, standing.spent_nusd + standing.leased_nusd - highest)


def _held(ids: Sequence[int], now: datetime) -> dict[int, _Held]:
    if not ids:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT account_id, coalesce(sum(least(outstanding, held_nusd)) FILTER (WHERE NOT lost), 0)::bigint,
                   coalesce(sum(greatest(0, outstanding - held_nusd)) FILTER (WHERE NOT lost), 0)::bigint,
                   coalesce(sum(outstanding) FILTER (WHERE lost), 0)::bigint,
                   count(DISTINCT incarnation) FILTER (WHERE NOT lost AND outstanding > 0),
                   count(DISTINCT incarnation) FILTER (WHERE lost AND outstanding > 0),
                   min(seen_at) FILTER (WHERE NOT lost)
            FROM (
                SELECT unnest(path) AS account_id, incarnation, held_nusd, seen_at, seen_at < %s AS lost,
                       greatest(0, granted_nusd - returned_nusd - settled_nusd) AS outstanding
                FROM budgets_lease WHERE NOT closed AND path && %s::bigint[]
            ) AS lease
            WHERE account_id = ANY(%s) GROUP BY account_id
            """,
            [now - lost_after(), list(ids), list(ids)],
        )
        return {row[0]: _Held(*row[1:]) for row in cursor.fetchall()}

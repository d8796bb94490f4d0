"""What was charged by mistake is taken back: a refund of the provider's, a call that was counted twice, a price that was wrong.

Nothing that was entered before is changed: each lease that was charged gets an entry that says who took back how much, and why.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db import transaction
from django.db.models import F

from controlplane import live
from controlplane.budgets.actions.carrying import carry_on_from
from controlplane.budgets.actions.folding import as_opened, lock_rests
from controlplane.budgets.actions.lease_acts import given_reason, move_slots, write_entries
from controlplane.budgets.models import Account, Budget, Lease
from controlplane.budgets.words import dollars
from controlplane.domain.ledger import Entry, entry_of, stand_of
from controlplane.domain.periods import period_of
from controlplane.domain.taking_back import taken_back
from controlplane.problems import Conflict, Forbidden, Invalid
from controlplane.tenancy.actions.audit import record
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import Asker

MOST_LEASES = 1000


@transaction.atomic
def take_back(*, by: Asker, budget: Budget, amount_nusd: int, reason: str, now: datetime) -> list[Entry]:
    """Take back ``amount_nusd`` of what was charged to a budget in its present period; return the entries that say so.

    The money was not spent, so every budget that was charged with it has room for it again. It is taken from the leases that were
    opened last, and then from what folded ones left behind; of a lease from what is presumed first. ``Invalid`` when that much was not
    charged; ``Forbidden`` where budgets were charged that the asker may not see.
    """
    by.must(Role.OPERATOR)
    reason = given_reason(reason)
    lock_rests()
    entries = _take_from(by, _parts(budget, amount_nusd, now), reason, now)
    _tell(by, budget, amount_nusd, reason)
    return entries


def _take_from(by: Asker, parts: dict[int, int], reason: str, now: datetime) -> list[Entry]:
    """Take back so much from each of these leases, and from every account on its path."""
    leases = list(Lease.objects.select_for_update().filter(pk__in=parts).order_by("pk"))
    keys = {key for lease in leases for key in lease.path}
    rows = Account.objects.select_for_update(of=("self",)).filter(pk__in=keys).select_related("budget__tenant")
    accounts = {row.pk: row for row in rows.order_by("pk")}
    _check_scope(by, accounts.values())
    entries = []
    for lease in leases:
        part = parts[lease.pk]
        stood = as_opened(lease)
        if stood.charged < part:
            raise Conflict("Somebody else has just taken something back: look again.")
        left = taken_back(stood, part)
        lease.corrected_nusd, lease.presumed_nusd = left.counters.corrected, left.presumed
        entry = entry_of(left, stand_of(stood), now=now)
        assert entry is not None  # noqa: S101  something was taken back
        entries.append(entry)
        for account in (accounts[key] for key in lease.path):
            account.settled_nusd -= part
            account.corrected_nusd += entry.corrected
            account.presumed_nusd += entry.presumed
            account.updated_at = now
    Lease.objects.bulk_update(leases, ["corrected_nusd", "presumed_nusd"])
    Account.objects.bulk_update(accounts.values(), ["settled_nusd", "corrected_nusd", "presumed_nusd", "updated_at"])
    carry_on_from(accounts.values(), now)
    move_slots(entries, accounts)
    write_entries(entries, by=by.name, reason=reason)
    return entries


def _parts(budget: Budget, amount_nusd: int, now: datetime) -> dict[int, int]:
    """Return how much is taken back from which leases."""
    if amount_nusd <= 0:
        raise Invalid("That can't be taken back.", errors={"amount_usd": "must be more than nothing"})
    account = Account.objects.filter(budget=budget, period_key=period_of(budget.rule, now).key).first()
    charged = F("settled_nusd") - F("corrected_nusd") + F("presumed_nusd")
    held = Lease.objects.filter(path__contains=[account.pk if account else 0]).annotate(charged=charged)
    parts: dict[int, int] = {}
    left = amount_nusd
    for key, most in (
        held.filter(charged__gt=0).order_by("-created_at", "-pk").values_list("pk", "charged")[:MOST_LEASES]
    ):
        if left <= 0:
            break
        parts[key] = min(left, most)
        left -= parts[key]
    if left > 0:
        found = amount_nusd - left
        many = f" by the {MOST_LEASES:,} leases that were opened last" if len(parts) == MOST_LEASES else ""
        if not many and account is not None and account.settled_nusd > found:
            many = " on leases that are not folded yet"
        fault = f"must be at most {dollars(found)}, which is what calls were charged in this period{many}"
        raise Invalid("So much can't be taken back.", errors={"amount_usd": fault})
    return parts


def _check_scope(by: Asker, accounts: Iterable[Account]) -> None:
    """Refuse where budgets were charged that are not the asker's: who takes back gives all of them room."""
    for tenant in [account.budget.tenant for account in accounts] if by.tenant is not None else ():
        if tenant is None or by.tenant.pk not in tenant.lineage:  # type: ignore[union-attr]  # looked at above
            raise Forbidden(f"The same calls were charged to budgets above {by.name}'s: ask who may see those.")


def _tell(by: Asker, budget: Budget, amount_nusd: int, reason: str) -> None:
    record(
        by=by,
        action="budget.taken_back",
        target_kind="budget",
        target=budget.name,
        tenant=budget.tenant,
        summary=f"Took back {dollars(amount_nusd)} that was charged to {budget.name}",
        reason=reason,
    )
    live.changed("budgets")

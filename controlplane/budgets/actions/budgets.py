"""Budgets: created, raised, lowered, archived."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from controlplane import intent, live
from controlplane.budgets.models import Account, Budget, OnDisconnect, OnExhausted, OnOverrun
from controlplane.budgets.queries import carried_to_present
from controlplane.budgets.words import dollars
from controlplane.domain.carry import CarryRule
from controlplane.domain.periods import PeriodError, PeriodRule, parse_period, period_of
from controlplane.problems import Conflict, Forbidden, Invalid
from controlplane.tenancy.actions.audit import record
from controlplane.tenancy.actions.tenants import slug_fault
from controlplane.tenancy.models import Role, Tenant
from controlplane.tenancy.queries import Asker
from tidegate.core.policy import route_fault
from tidegate.core.price import MAX_USD, NUSD_PER_USD, format_usd

MATCHES = ("route", "category", "model", "user", "session")
MAX_THRESHOLDS = 10
NOTHING_CARRIED = CarryRule()


@transaction.atomic
def create_budget(
    *,
    by: Asker,
    tenant: Tenant | None,
    slug: str,
    amount_nusd: int,
    period: Any,
    match: Any = None,
    on_exhausted: str = OnExhausted.BLOCK,
    on_disconnect: str = OnDisconnect.STOP,
    carry: CarryRule = NOTHING_CARRIED,
    strict: bool = True,
    on_overrun: str = OnOverrun.FINISH,
    thresholds: Any = None,
    now: datetime,
) -> Budget:
    """Create a budget for a tenant's subtree, or for the installation. ``Invalid`` names every wrong field."""
    _may(by, tenant)
    match, thresholds = match or {}, thresholds or []
    errors = _faults(slug, amount_nusd, match, thresholds) | _choice_faults(on_exhausted, on_disconnect)
    errors |= _overrun_fault(on_overrun)
    rule = PeriodRule("total")
    try:
        rule = parse_period(period)
    except PeriodError as error:
        errors |= error.errors
    errors |= _carry_faults(carry, rule)
    if errors:
        raise Invalid("The budget can't be created like this.", errors=errors)
    budget = Budget(
        tenant=tenant,
        slug=slug,
        amount_nusd=amount_nusd,
        period_kind=rule.kind,
        period_unit=rule.unit,
        period_timezone=rule.timezone,
        period_days=rule.days,
        match=match,
        on_exhausted=on_exhausted,
        on_disconnect=on_disconnect,
        carry_up_to_nusd=carry.up_to,
        carries_debt=carry.debt,
        strict=strict,
        on_overrun=on_overrun,
        thresholds=sorted(thresholds),
        created_at=now,
    )
    try:
        with transaction.atomic():
            budget.save()
    except IntegrityError:
        raise Conflict(f"There is already a budget {budget.name}.", errors={"slug": "is taken"}) from None
    summary = f"Created budget {budget.name} of {dollars(amount_nusd)}"
    _tell(by, budget, "budget.created", summary, after=document_of(budget))
    return budget


@transaction.atomic
def change_amount(
    *, by: Asker, budget: Budget, amount_nusd: int, reason: str = "", now: datetime, seen_nusd: int | None = None
) -> Budget:
    """Raise or lower a budget. Callers obey with their next sync; nothing is granted while exposure exceeds the amount.

    ``seen_nusd`` is the amount that the asker believes it to have: ``Conflict`` when somebody else changed it meanwhile.
    """
    _may(by, budget.tenant)
    fault = _amount_fault(amount_nusd)
    if fault:
        raise Invalid("The amount can't be changed like this.", errors={"amount_usd": fault})
    # Grants lock the accounts and then read the amount: after these locks nothing is granted by the old one. That holds of
    # an account that a sync is just opening, too: making it here waits for that sync.
    _open_account(budget, now)
    accounts = list(Account.objects.select_for_update().filter(budget=budget).order_by("pk"))
    current = Budget.objects.select_for_update().select_related(None).get(pk=budget.pk)
    if current.archived_at is not None:
        raise Conflict(f"Budget {budget.name} is archived.")
    if current.amount_nusd == amount_nusd:
        return budget
    if seen_nusd not in (None, current.amount_nusd):
        raise Conflict(
            f"Somebody changed {budget.name} meanwhile: it is {dollars(current.amount_nusd)} now, and nothing was saved.",
            errors={
                "amount_usd": f"was meant for {dollars(seen_nusd or 0)}; look at what it does now and save it again"
            },
        )
    before, budget.amount_nusd = document_of(current, tenant=budget.tenant), amount_nusd
    budget.save(update_fields=["amount_nusd"])
    _note_highest(accounts, current.amount_nusd, amount_nusd, now)
    verb = "Raised" if amount_nusd > current.amount_nusd else "Lowered"
    summary = f"{verb} budget {budget.name} from {dollars(current.amount_nusd)} to {dollars(amount_nusd)}"
    _tell(by, budget, "budget.amount_changed", summary, before=before, after=document_of(budget), reason=reason)
    return budget


def _open_account(budget: Budget, now: datetime) -> None:
    """Make the account of the present period, if the budget has none yet."""
    period = period_of(budget.rule, now)
    # Should nobody draw on it, the next one goes by that.
    extra = carried_to_present(budget, now)
    account = Account(
        budget=budget,
        period_key=period.key,
        starts_at=period.starts_at,
        ends_at=period.ends_at,
        amount_nusd=budget.amount_nusd,
        highest_nusd=budget.amount_nusd + extra,
        carried_nusd=extra,
        updated_at=now,
    )
    Account.objects.bulk_create([account], ignore_conflicts=True)


@transaction.atomic
def change_options(
    *,
    by: Asker,
    budget: Budget,
    on_exhausted: str,
    on_disconnect: str,
    strict: bool,
    on_overrun: str,
    carry: CarryRule,
    thresholds: Any,
    reason: str = "",
    now: datetime,
) -> Budget:
    """Change everything of a budget but its amount, its period and what it matches. ``Invalid`` names every wrong field."""
    _may(by, budget.tenant)
    errors = _choice_faults(on_exhausted, on_disconnect) | _overrun_fault(on_overrun)
    errors |= _carry_faults(carry, budget.rule) | _threshold_faults(thresholds)
    if errors:
        raise Invalid("The budget can't be changed like this.", errors=errors)
    # The same locks as for another amount: a sync grants by the old rules or by the new ones.
    _open_account(budget, now)
    accounts = list(Account.objects.select_for_update().filter(budget=budget).order_by("pk"))
    current = Budget.objects.select_for_update().select_related(None).get(pk=budget.pk)
    if current.archived_at is not None:
        raise Conflict(f"Budget {budget.name} is archived.")
    before = document_of(current, tenant=budget.tenant)
    budget.on_exhausted, budget.on_disconnect = on_exhausted, on_disconnect
    budget.strict, budget.on_overrun = strict, on_overrun
    budget.carry_up_to_nusd, budget.carries_debt = carry.up_to, carry.debt
    budget.thresholds = sorted(thresholds)
    after = document_of(budget)
    if after == before:
        return budget
    budget.save()
    if current.on_exhausted == OnExhausted.WARN and on_exhausted == OnExhausted.BLOCK:
        _note_exposure(accounts, now)
    changed = ", ".join(name for name in after if after[name] != before[name])
    _tell(
        by,
        budget,
        "budget.options_changed",
        f"Changed {changed} of budget {budget.name}",
        before=before,
        after=after,
        reason=reason,
    )
    return budget


def _note_exposure(accounts: list[Account], now: datetime) -> None:
    """Keep what a budget that only warned was exposed to already: as a hard cap it is answerable for what comes after."""
    for account in accounts:
        if account.ends_at is None or account.ends_at > now:
            exposure = account.outstanding_nusd + account.settled_nusd
            account.highest_nusd = max(account.highest_nusd, exposure)
            account.lowered_at = now
            account.save(update_fields=["highest_nusd", "lowered_at"])


@transaction.atomic
def change_reservation(*, by: Asker, budget: Budget, strict: bool, on_overrun: str) -> Budget:
    """Say what calls hold of a budget, and what becomes of those that need more where nothing is left."""
    _may(by, budget.tenant)
    errors = _overrun_fault(on_overrun)
    if errors:
        raise Invalid("The budget can't be changed like this.", errors=errors)
    current = Budget.objects.select_for_update().select_related(None).get(pk=budget.pk)
    if current.archived_at is not None:
        raise Conflict(f"Budget {budget.name} is archived.")
    before = document_of(current, tenant=budget.tenant)
    budget.strict, budget.on_overrun = strict, on_overrun
    if document_of(budget) != before:
        budget.save(update_fields=["strict", "on_overrun"])
        holds = "the worst case" if strict else "what such calls used to need"
        summary = f"Calls hold {holds} of budget {budget.name}; those that need more {on_overrun}"
        _tell(by, budget, "budget.reservation_changed", summary, before=before, after=document_of(budget))
    return budget


def _note_highest(accounts: list[Account], before_nusd: int, amount_nusd: int, now: datetime) -> None:
    """Keep, for the accounts of the present period, the greatest amount that was in force."""
    for account in accounts:
        if account.ends_at is not None and account.ends_at <= now:
            continue
        account.amount_nusd = amount_nusd
        account.highest_nusd = max(account.highest_nusd, max(before_nusd, amount_nusd) + account.carried_nusd)
        account.lowered_at = now if amount_nusd < before_nusd else account.lowered_at
        account.save(update_fields=["amount_nusd", "highest_nusd", "lowered_at"])


@transaction.atomic
def archive_budget(*, by: Asker, budget: Budget, now: datetime) -> Budget:
    """Retire a budget: it stops governing calls as soon as callers have the next snapshot; its history stays."""
    _may(by, budget.tenant)
    if budget.archived_at is None:
        budget.archived_at = now
        budget.save(update_fields=["archived_at"])
        _tell(by, budget, "budget.archived", f"Archived budget {budget.name}", before=document_of(budget))
    return budget


def document_of(budget: Budget, *, tenant: Tenant | None = None) -> dict[str, Any]:
    """Return a budget as revisions and the audit trail show it."""
    owner = tenant or budget.tenant
    return {
        "tenant": owner.slug if owner else None,
        "slug": budget.slug,
        "amount_usd": format_usd(budget.amount_nusd),
        "period": budget.rule.as_json(),
        "match": budget.match,
        "on_exhausted": str(budget.on_exhausted),
        "on_disconnect": str(budget.on_disconnect),
        "carry": {"unused_up_to_usd": format_usd(budget.carry_up_to_nusd), "debt": budget.carries_debt},
        "strict": budget.strict,
        "on_overrun": str(budget.on_overrun),
        "thresholds": list(budget.thresholds),
    }


def _may(by: Asker, tenant: Tenant | None) -> None:
    by.must(Role.OPERATOR)
    if tenant is None and by.tenant is not None:
        raise Forbidden(f"The installation's own budgets are not {by.name}'s to change.")


def _overrun_fault(on_overrun: str) -> dict[str, str]:
    known = OnOverrun.values
    return {} if on_overrun in known else {"on_overrun": f"must be one of {', '.join(known)}"}


def _amount_fault(amount_nusd: int) -> str | None:
    return None if 0 <= amount_nusd <= MAX_USD * NUSD_PER_USD else f"must be from 0 to {MAX_USD:,} dollars"


def _faults(slug: str, amount_nusd: int, match: Any, thresholds: Any) -> dict[str, str]:
    faults: dict[str, str | None] = {"slug": slug_fault(slug), "amount_usd": _amount_fault(amount_nusd)}
    if not isinstance(match, dict):
        faults["match"] = "must be an object"
    else:
        for part, value in match.items():
            if part not in MATCHES:
                faults[f"match.{part}"] = f"is not known; known are {', '.join(MATCHES)}"
            elif not isinstance(value, str) or not 1 <= len(value) <= 120:
                faults[f"match.{part}"] = "must be text of 1 to 120 characters"
            elif part == "route":
                faults["match.route"] = route_fault(value)  # no call is ever on such a route
    return {field: fault for field, fault in faults.items() if fault} | _threshold_faults(thresholds)


def _threshold_faults(thresholds: Any) -> dict[str, str]:
    percents = isinstance(thresholds, list) and all(
        isinstance(percent, int) and not isinstance(percent, bool) and 1 <= percent <= 1000 for percent in thresholds
    )
    if percents and len(thresholds) <= MAX_THRESHOLDS:
        return {}
    return {"thresholds": f"must be at most {MAX_THRESHOLDS} whole percentages from 1 to 1000"}


def _choice_faults(on_exhausted: str, on_disconnect: str) -> dict[str, str]:
    faults = {}
    if on_exhausted not in OnExhausted.values:
        faults["on_exhausted"] = f"must be one of {', '.join(OnExhausted.values)}"
    if on_disconnect not in OnDisconnect.values:
        faults["on_disconnect"] = f"must be one of {', '.join(OnDisconnect.values)}"
    return faults


def _carry_faults(carry: CarryRule, rule: PeriodRule) -> dict[str, str]:
    if carry.carries and rule.kind != "calendar":
        return {"carry": "is for calendar periods: other periods have none before them"}
    fault = _amount_fault(carry.up_to)
    return {"carry.unused_up_to_usd": fault} if fault else {}


def _tell(
    by: Asker, budget: Budget, action: str, summary: str, *, before: Any = None, after: Any = None, reason: str = ""
) -> None:
    intent.publish(
        intent.Change(
            actor=by.name,
            kind="budget",
            subject=budget.name,
            summary=summary,
            tenant_id=budget.tenant_id,
            before=before,
            after=after,
        )
    )
    record(
        by=by,
        action=action,
        target_kind="budget",
        target=budget.name,
        tenant=budget.tenant,
        summary=summary,
        before=before,
        after=after,
        reason=reason,
    )
    live.changed("budgets")

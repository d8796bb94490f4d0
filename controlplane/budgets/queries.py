"""Reads of budgets: what there is, where each stands in its present period, and what a new amount would do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection
from django.db.models import F, Q, QuerySet, Sum

from controlplane.budgets.models import Account, AccountSlot, Budget, Lease, PeriodKind
from controlplane.domain.carry import Past, brought
from controlplane.domain.forecast import Forecast, forecast, rolling_forecast
from controlplane.domain.periods import Period, period_of, rolling_cutoff
from controlplane.problems import NotFound
from controlplane.telemetry import queries as telemetry
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import Asker, in_scope

MOST_BUDGETS = 500
_BURN_OVER = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A budget in its present period. ``free_nusd`` is never negative; what is over the amount is ``over_nusd``.

    ``amount_nusd`` is in force: with what is carried from the period before, never below zero.
    ``leased_nusd`` is what clients hold and may still spend. ``exhausted_at`` is ``None`` when the amount lasts.
    """

    budget: Budget
    period: Period
    account_id: int | None
    amount_nusd: int
    spent_nusd: int
    leased_nusd: int
    carried_nusd: int
    denied_calls: int
    burn_nusd_per_h: float
    pace: float | None
    ahead: float | None
    exhausted_at: datetime | None

    @property
    def free_nusd(self) -> int:
        return max(0, self.amount_nusd - self.spent_nusd - self.leased_nusd)

    @property
    def over_nusd(self) -> int:
        return max(0, self.spent_nusd - self.amount_nusd)

    @property
    def used(self) -> float:
        """The share of the amount that is settled, 0 and up."""
        return self.spent_nusd / self.amount_nusd if self.amount_nusd else float(self.spent_nusd > 0)

    @property
    def exhausted(self) -> bool:
        return self.spent_nusd >= self.amount_nusd

    @property
    def tone(self) -> str:
        """``trouble`` when used up or about to be, ``watch`` when it will not last, else empty."""
        if self.used >= 0.9:
            return "trouble"
        return "watch" if self.exhausted_at is not None else ""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What a new amount would do, before anybody confirms it.

    ``at_risk_nusd`` is leased already and can be spent although the new amount has no room for it: the most by which the
    account may end up over, until those leases have drained, within ``drains_within_s``.
    """

    amount_nusd: int
    change_nusd: int
    free_nusd: int
    over_nusd: int
    at_risk_nusd: int
    drains_within_s: float
    clients: int
    ahead: float | None
    burn_nusd_per_h: float
    exhausted_at: datetime | None
    ends_at: datetime | None


def budgets_seen_by(asker: Asker) -> QuerySet[Budget]:
    """Return the live budgets in the asker's scope; the unrestricted also see the installation's own."""
    budgets = Budget.objects.filter(Q(tenant=None) | Q(tenant__archived_at=None), archived_at=None)
    budgets = budgets.select_related("tenant").order_by("tenant__slug", "slug")
    return in_scope(budgets, asker)


def budget_seen_by(asker: Asker, tenant_slug: str | None, slug: str) -> Budget:
    """Return one budget; ``NotFound`` outside the asker's scope, as for one that does not exist."""
    budget = budgets_seen_by(asker).filter(tenant__slug=tenant_slug, slug=slug).first()
    if budget is None:
        raise NotFound(f"There is no budget {slug!r} of {tenant_slug or 'the installation'} that you may see.")
    return budget


def standings(asker: Asker, now: datetime, tenant_slug: str | None = None) -> list[Standing]:
    """Return where the asker's budgets stand: those that run out first are first, then by the share used."""
    budgets = budgets_seen_by(asker)
    if tenant_slug:
        budgets = budgets.filter(tenant__slug=tenant_slug)
    found = _stand(list(budgets[:MOST_BUDGETS]), now)
    last = datetime.max.replace(tzinfo=now.tzinfo)
    return sorted(found, key=lambda each: (each.exhausted_at or last, -each.used, each.budget.name))


def standing_of(budget: Budget, now: datetime) -> Standing:
    """Return where one budget stands."""
    return _stand([budget], now)[0]


def _stand(budgets: Sequence[Budget], now: datetime) -> list[Standing]:
    periods = {budget.pk: period_of(budget.rule, now) for budget in budgets}
    accounts = {
        (account.budget_id, account.period_key): account
        for account in Account.objects.filter(
            budget__in=periods, period_key__in={period.key for period in periods.values()}
        )
    }
    rolled = _rolled(budgets, accounts.values(), now)
    burns = _burns(budgets, now)
    extra = _carried(budgets, periods, now)
    made = []
    for budget in budgets:
        period = periods[budget.pk]
        account = accounts.get((budget.pk, period.key)) or Account(budget=budget, period_key=period.key)
        spent = rolled.get(account.pk, 0) if budget.period_kind == PeriodKind.ROLLING else account.settled_nusd
        amount = max(0, budget.amount_nusd + extra.get(budget.pk, 0))
        told = _forecast(budget, amount, period, spent, burns[budget.pk], now)
        made.append(
            Standing(
                budget=budget,
                period=period,
                account_id=account.pk,
                amount_nusd=amount,
                carried_nusd=extra.get(budget.pk, 0),
                spent_nusd=spent,
                leased_nusd=account.outstanding_nusd,
                denied_calls=account.denied_calls,
                burn_nusd_per_h=burns[budget.pk],
                **told._asdict(),
            )
        )
    return made


def _carried(budgets: Sequence[Budget], periods: Mapping[int, Period], now: datetime) -> dict[int, int]:
    """Return what the present periods of budgets that carry have from the periods before."""
    carrying = [budget for budget in budgets if budget.carry.carries]
    if not carrying:
        return {}
    last = Account.objects.filter(budget__in=carrying, ends_at__lte=now)
    past = {row.budget_id: _past(row) for row in last.order_by("budget_id", "-ends_at").distinct("budget_id")}
    return {
        budget.pk: brought(
            budget.carry,
            budget.rule,
            periods[budget.pk].starts_at,
            past.get(budget.pk),
            amount=budget.amount_nusd,
            created_at=budget.created_at,
        )
        for budget in carrying
    }


def carried_to_present(budget: Budget, now: datetime) -> int:
    """Return what the present period of ``budget`` has from those before it."""
    return _carried([budget], {budget.pk: period_of(budget.rule, now)}, now).get(budget.pk, 0)


def _past(row: Account) -> Past | None:
    if row.ends_at is None:
        return None
    return Past(row.ends_at, row.amount_nusd, row.carried_nusd, row.outstanding_nusd + row.settled_nusd)


def _forecast(
    budget: Budget, amount_nusd: int, period: Period, spent_nusd: int, burn: float, now: datetime
) -> Forecast:
    if budget.period_kind == PeriodKind.ROLLING:
        return rolling_forecast(
            amount_nusd=amount_nusd,
            settled_nusd=spent_nusd,
            burn_nusd_per_h=burn,
            days=budget.period_days or 1,
            now=now,
        )
    return forecast(
        amount_nusd=amount_nusd,
        settled_nusd=spent_nusd,
        burn_nusd_per_h=burn,
        starts_at=period.starts_at,
        ends_at=period.ends_at,
        now=now,
    )


def _rolled(budgets: Sequence[Budget], accounts: Iterable[Account], now: datetime) -> dict[int, int]:
    """Return what rolling accounts settled in their windows, by account."""
    days = {budget.pk: budget.period_days or 1 for budget in budgets if budget.period_kind == PeriodKind.ROLLING}
    inside = Q()
    for account in accounts:
        if account.budget_id in days:
            inside |= Q(account=account.pk, starts_at__gt=rolling_cutoff(days[account.budget_id], now))
    if not inside:
        return {}
    sums = AccountSlot.objects.filter(inside).values("account").annotate(settled=Sum("settled_nusd"))
    return {row["account"]: row["settled"] for row in sums.order_by()}


def _burns(budgets: Sequence[Budget], now: datetime) -> dict[int, float]:
    """Return nano-USD per hour by budget, from what matching calls did cost in the last hour.

    Windows know no users: a budget for one user burns what its tenant's calls do, which is too much rather than too little.
    """
    costs = telemetry.costs(now - _BURN_OVER, now)
    if not costs or not budgets:
        return dict.fromkeys((budget.pk for budget in budgets), 0.0)
    known_h = max(1 / 30, (now - min(cost.first_at for cost in costs)).total_seconds() / 3600)
    lineages: dict[str, list[int]] = defaultdict(list)
    slugs = {cost.tenant for cost in costs}
    lineages.update(dict(Tenant.objects.filter(slug__in=slugs).values_list("slug", "lineage")))

    def touches(budget: Budget, cost: telemetry.Cost) -> bool:
        if budget.tenant_id is not None and budget.tenant_id not in lineages[cost.tenant]:
            return False
        match = budget.match
        if "model" in match and match["model"].lower() != cost.model.lower():
            return False
        return all(match[name] == getattr(cost, name) for name in ("route", "category") if name in match)

    return {budget.pk: sum(cost.cost_nusd for cost in costs if touches(budget, cost)) / known_h for budget in budgets}


def preview_amount(budget: Budget, amount_nusd: int, now: datetime) -> Effect:
    """Return what ``amount_nusd`` would do to the present period of ``budget``. Changes nothing."""
    standing = standing_of(budget, now)
    in_force = max(0, amount_nusd + standing.carried_nusd)
    told = _forecast(
        budget,
        in_force,
        standing.period,
        standing.spent_nusd,
        standing.burn_nusd_per_h,
        now,
    )
    holders = Lease.objects.filter(path__contains=[standing.account_id], closed=False)
    holders = holders.filter(granted_nusd__gt=F("settled_nusd") + F("returned_nusd"))
    room = in_force - standing.spent_nusd
    return Effect(
        amount_nusd=amount_nusd,
        change_nusd=amount_nusd - budget.amount_nusd,
        free_nusd=max(0, room - standing.leased_nusd),
        over_nusd=max(0, -room),
        at_risk_nusd=max(0, standing.leased_nusd - max(0, room)),
        drains_within_s=settings.LEASE_TTL_MS / 1000,
        clients=holders.values("incarnation").distinct().count() if standing.account_id else 0,
        ahead=told.ahead,
        burn_nusd_per_h=standing.burn_nusd_per_h,
        exhausted_at=told.exhausted_at,
        ends_at=standing.period.ends_at,
    )


def charges_of(budget: Budget, since: datetime, until: datetime, step_s: int) -> dict[datetime, int]:
    """Return what a budget was charged in each step of time from ``since`` on, by the ledger; steps without any are left out."""
    accounts = list(Account.objects.filter(budget=budget).values_list("pk", flat=True))
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT date_bin(%s::interval, counts_at, %s), sum(settled_nusd + presumed_nusd - corrected_nusd)::bigint
               FROM budgets_ledgerentry WHERE at >= %s AND counts_at >= %s AND counts_at < %s AND path && %s::bigint[]
               AND (incarnation IS NULL OR kind NOT IN ('carry', 'fold')) GROUP BY 1""",
            [f"{step_s} seconds", since, since, since, until, accounts],
        )
        return dict(cursor.fetchall())

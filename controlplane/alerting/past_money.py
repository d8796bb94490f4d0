"""What rules over budgets would have measured, from what matching calls did cost. Amounts are those of today."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from datetime import datetime, timedelta

from controlplane.alerting.courses import MOST_TRACKS, STEP_S, Held, Sample
from controlplane.alerting.schemas import BudgetSpec, ForecastSpec
from controlplane.budgets import queries as budgets
from controlplane.budgets.queries import Standing
from controlplane.domain.forecast import Forecast, forecast, rolling_forecast
from controlplane.domain.periods import period_of
from controlplane.problems import Invalid
from controlplane.telemetry import queries as telemetry
from controlplane.tenancy.queries import Asker

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_LEADS = {"hour": _HOUR * 2, "day": _DAY, "week": _DAY * 7, "month": _DAY * 31, "year": _DAY * 366}
_KNOWN = ("route", "model", "category")


class _Spending:
    """What a budget's calls had cost by any time since ``begins``."""

    def __init__(self, asker: Asker, standing: Standing, since: datetime, until: datetime) -> None:
        self._standing = standing
        self.step = timedelta(seconds=STEP_S if standing.budget.period_unit in ("hour", "day") else 3600)
        begins = since - max(self._lead(), _HOUR)
        self.begins = begins.replace(minute=0)
        self._ends: list[datetime] = [self.begins]
        self._sums = [0]
        for at, cost in self._costs(asker, until):
            self._ends.append(at)
            self._sums.append(self._sums[-1] + cost)

    def _lead(self) -> timedelta:
        budget = self._standing.budget
        if budget.period_kind == "rolling":
            return _DAY * (budget.period_days or 1)
        return _LEADS.get(budget.period_unit, _HOUR)

    def _costs(self, asker: Asker, until: datetime) -> list[tuple[datetime, int]]:
        budget = self._standing.budget
        if set(budget.match) - set(_KNOWN):  # figures of calls do not tell users and sessions apart; the ledger does
            charged = budgets.charges_of(budget, self.begins, until, int(self.step.total_seconds()))
            return [(at + self.step, cost) for at, cost in sorted(charged.items())]
        owner = budget.tenant.slug if budget.tenant else None
        names = {name: budget.match[name] for name in _KNOWN if name in budget.match}
        found = []
        at, chunk = self.begins, _DAY if self.step < _HOUR else until - self.begins
        while at < until:
            end = min(until, at + chunk)
            points = telemetry.series(asker, at, end, int(self.step.total_seconds()), owner, **names)
            found += [(point.at + self.step, point.cost_nusd) for point in points]
            at = end
        return found

    def by(self, at: datetime) -> int:
        """Return what had been spent since ``begins`` by the last whole step before ``at``."""
        place = bisect_left(self._ends, at)
        if place < len(self._ends) and self._ends[place] == at:
            return self._sums[place]
        return self._sums[max(0, place - 1)]

    def settled(self, at: datetime) -> int:
        """Return what the period of that time had cost by then."""
        budget = self._standing.budget
        if budget.period_kind == "rolling":
            return self.by(at) - self.by(at - _DAY * (budget.period_days or 1))
        starts = period_of(budget.rule, at - timedelta(seconds=1)).starts_at
        if starts is None:
            return self._standing.spent_nusd - (self._sums[-1] - self.by(at))
        return self.by(at) - self.by(starts)

    def forecast(self, at: datetime) -> Forecast:
        budget, amount, burn = self._standing.budget, self._standing.amount_nusd, self.by(at) - self.by(at - _HOUR)
        if budget.period_kind == "rolling":
            return rolling_forecast(
                amount_nusd=amount, settled_nusd=self.settled(at), burn_nusd_per_h=burn, days=budget.period_days or 1,
                now=at,
            )  # fmt: skip
        period = period_of(budget.rule, at - timedelta(seconds=1))
        return forecast(
            amount_nusd=amount, settled_nusd=self.settled(at), burn_nusd_per_h=burn, starts_at=period.starts_at,
            ends_at=period.ends_at, now=at,
        )  # fmt: skip


def _watched(asker: Asker, name: str, until: datetime) -> list[Standing]:
    found = [each for each in budgets.standings(asker, until) if each.amount_nusd and name in ("", each.budget.slug)]
    if not found:
        raise Invalid(
            "This rule can't be tried on the past.", errors={"spec.budget": "no budget of that name that has an amount"}
        )
    return found[:MOST_TRACKS]


def _course(
    spending: _Spending, since: datetime, until: datetime, look: Callable[[datetime], tuple[float | None, bool | None]]
) -> list[Sample]:
    count = int((until - since) / spending.step)
    times = [since + spending.step * number for number in range(1, count + 1)]
    return [Sample(at, *look(at)) for at in times]


def forecast_tracks(asker: Asker, spec: ForecastSpec, since: datetime, until: datetime) -> Held:
    """Return in how many hours each budget would have been used up, at each step."""
    held: Held = {}
    for standing in _watched(asker, spec.budget, until):
        spending = _Spending(asker, standing, since, until)

        def look(at: datetime, spending: _Spending = spending, amount: int = standing.amount_nusd) -> tuple[
            float | None, bool | None
        ]:  # fmt: skip
            ends = spending.forecast(at).exhausted_at
            if ends is None:
                return None, False
            left_h = max(0.0, (ends - at).total_seconds() / 3600)
            over = spending.settled(at) >= amount
            return left_h, not over and (spec.within_h is None or left_h <= spec.within_h)

        held[standing.budget.name] = _course(spending, since, until, look)
    return held


def budget_tracks(asker: Asker, spec: BudgetSpec, since: datetime, until: datetime) -> Held:
    """Return which share of each budget was spent at each step, once per threshold."""
    held: Held = {}
    for standing in _watched(asker, spec.budget, until):
        spending = _Spending(asker, standing, since, until)
        amount = standing.amount_nusd
        limits = [spec.used] if spec.used is not None else [each / 100 for each in standing.budget.thresholds]
        for limit in limits:

            def look(
                at: datetime, spending: _Spending = spending, amount: int = amount, limit: float = limit
            ) -> tuple[float | None, bool | None]:
                used = spending.settled(at) / amount
                return used, used >= limit

            name = standing.budget.name if spec.used is not None else f"{standing.budget.name} {limit:.0%}"
            held[name] = _course(spending, since, until, look)
            if len(held) >= MOST_TRACKS:
                return held
    return held

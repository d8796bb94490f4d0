"""Budgets: where each stands and is heading; the chosen one with its course and what it goes to."""

from __future__ import annotations

from controlplane.budgets.queries import Standing
from controlplane.telemetry import queries as telemetry
from controlplane.tenancy.models import Role
from dashboard.asking import Asking
from dashboard.budget_course import course_of, period_days
from dashboard.page import Context, Page, Params

MOST_SHARES = 8
PERIODS = (
    *((f"calendar:{unit}", f"Calendar {unit}") for unit in ("month", "week", "day", "hour", "year")),
    ("rolling", "Rolling days"),
    ("total", "For all time"),
)


def build(asking: Asking, params: Params) -> Context:
    tenant = params.value("tenant")
    found = [each for each in asking.standings if not tenant or _is_of(each, tenant)]
    chosen = _chosen(found, params.value("budget"))
    return {
        "title": "Budgets",
        "standings": found,
        "chosen": chosen,
        "spent": sum(each.spent_nusd for each in found),
        "amount": sum(each.amount_nusd for each in found),
        "leased": sum(each.leased_nusd for each in found),
        "over": sum(each.exhausted for each in found),
        **(_detail(asking, chosen) if chosen else {}),
    }


def _is_of(standing: Standing, tenant: str) -> bool:
    return standing.budget.tenant is not None and standing.budget.tenant.slug == tenant


def _chosen(found: list[Standing], name: str) -> Standing | None:
    if not name:
        return found[0] if found else None
    return next((each for each in found if each.budget.name == name), None)


def _detail(asking: Asking, chosen: Standing) -> Context:
    budget = chosen.budget
    owner = budget.tenant.slug if budget.tenant else None
    by: telemetry.Dimension = "model" if "category" in budget.match else "category"
    days = period_days(chosen, asking.now)
    shares = telemetry.usage(
        asking.asker, by, owner, days=days, today=asking.now.date(), limit=MOST_SHARES, match=budget.match
    )
    return {
        "course": course_of(asking, chosen),
        "shares": shares,
        "shares_by": by,
        "shares_top": max((share.cost_nusd for share in shares), default=0),
        "shares_days": days,
    }


PAGE = Page(
    name="budgets",
    section="budgets",
    template="pages/budgets.html",
    parts={
        "budget_summary": "budgets/summary.html",
        "budget_list": "budgets/list.html",
        "budget_course": "budgets/course.html",
        "budget_shares": "budgets/shares.html",
    },
    build=build,
    params=frozenset({"tenant", "budget"}),
)


def build_new(asking: Asking, params: Params) -> Context:
    asking.asker.must(Role.OPERATOR)
    return {
        "title": "New budget",
        "may_all": asking.asker.tenant is None,
        "preset": params.value("tenant"),
        "periods": PERIODS,
    }


NEW = Page(
    name="budget-new",
    section="budgets",
    template="pages/budget_new.html",
    parts={},
    build=build_new,
    params=frozenset({"tenant"}),
)

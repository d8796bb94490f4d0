"""Budgets: where each stands and is heading; the chosen one with its course and what it goes to."""

from __future__ import annotations

from controlplane.budgets.queries import Standing
from dashboard.asking import Asking
from dashboard.page import Context, Page, Params


def build(asking: Asking, params: Params) -> Context:
    tenant = params.value("tenant")
    found = [
        each for each in asking.standings if not tenant or (each.budget.tenant and each.budget.tenant.slug == tenant)
    ]
    chosen = _chosen(found, params.value("budget"))
    return {
        "title": "Budgets",
        "standings": found,
        "chosen": chosen,
        "spent": sum(each.spent_nusd for each in found),
        "amount": sum(each.amount_nusd for each in found),
        "leased": sum(each.leased_nusd for each in found),
        "over": sum(each.exhausted for each in found),
    }


def _chosen(found: list[Standing], slug: str) -> Standing | None:
    if not slug:
        return found[0] if found else None
    return next((each for each in found if each.budget.name == slug), None)


PAGE = Page(
    name="budgets",
    section="budgets",
    template="pages/budgets.html",
    parts={"budget_summary": "budgets/summary.html", "budget_list": "budgets/list.html"},
    build=build,
    params=frozenset({"tenant", "budget"}),
)

"""Budgets: where each stands and is heading; the chosen one with its course and what it goes to."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from controlplane.budgets.accuracy import Holder, holders_of
from controlplane.budgets.queries import Standing
from controlplane.fleet import queries as fleet
from controlplane.fleet.models import Instance
from controlplane.telemetry import queries as telemetry
from controlplane.tenancy.models import Role
from dashboard.asking import Asking
from dashboard.budget_course import course_of, period_days
from dashboard.budget_words import CHOICES, zones
from dashboard.page import Context, Page, Params
from tidegate.core.price import parse_usd

MOST_SHARES = 8
SHARES_BY: tuple[telemetry.Dimension, ...] = ("category", "model", "route", "user", "tenant")


@dataclass(frozen=True)
class Client:
    """Who holds leases; ``instance`` is ``None`` for one whose reports are no longer kept."""

    holder: Holder
    instance: Instance | None


@dataclass(frozen=True)
class Affordable:
    """Whether one budget on the path has room for a call that costs so much."""

    standing: Standing
    fits: bool


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
        "shares_choices": SHARES_BY,
        "choices": CHOICES,
        "lease_s": settings.LEASE_TTL_MS / 1000,
        **(_detail(asking, params, chosen) if chosen else {}),
    }


def _is_of(standing: Standing, tenant: str) -> bool:
    return standing.budget.tenant is not None and standing.budget.tenant.slug == tenant


def _chosen(found: list[Standing], name: str) -> Standing | None:
    if not name:
        return found[0] if found else None
    return next((each for each in found if each.budget.name == name), None)


def _shares_by(chosen: Standing, params: Params) -> telemetry.Dimension:
    wanted = next((each for each in SHARES_BY if each == params.value("by")), None)
    return wanted or ("model" if "category" in chosen.budget.match else "category")


def _detail(asking: Asking, params: Params, chosen: Standing) -> Context:
    budget = chosen.budget
    owner = budget.tenant.slug if budget.tenant else None
    by = _shares_by(chosen, params)
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
        **_holders(asking, params, chosen),
        **_afford(asking, params, chosen),
    }


def _holders(asking: Asking, params: Params, chosen: Standing) -> Context:
    held = holders_of(chosen, asking.now)
    instances = fleet.instances_named(each.incarnation for each in held)
    clients = [Client(each, instances.get(each.incarnation)) for each in held]
    wanted = params.value("client")
    return {
        "clients": clients,
        "client": next((each for each in clients if str(each.holder.incarnation) == wanted), None),
    }


def _afford(asking: Asking, params: Params, chosen: Standing) -> Context:
    """Return whether a call of the chosen budget that costs ``afford`` dollars would find room on every budget of its path."""
    text = params.value("afford").replace("$", "").replace(",", "")
    path = [each for each in asking.standings if _covers(each, chosen)]
    if not text:
        return {"path": path, "afford_nusd": None}
    try:
        cost = parse_usd(text)
    except ValueError as error:
        return {"path": path, "afford_nusd": None, "afford_fault": str(error)}
    found = [Affordable(each, each.budget.on_exhausted != "block" or each.free_nusd >= cost) for each in path]
    return {"path": path, "afford_nusd": cost, "afford": found, "affords": all(each.fits for each in found)}


def _covers(standing: Standing, chosen: Standing) -> bool:
    """Tell whether every call that the chosen budget covers is also covered by ``standing``."""
    owner, tenant = standing.budget.tenant_id, chosen.budget.tenant
    above = owner is None or (tenant is not None and owner in tenant.lineage)
    return above and all(chosen.budget.match.get(part) == value for part, value in standing.budget.match.items())


PAGE = Page(
    name="budgets",
    section="budgets",
    template="pages/budgets.html",
    parts={
        "budget_summary": "budgets/summary.html",
        "budget_list": "budgets/list.html",
        "budget_now": "budgets/now.html",
        "budget_course": "budgets/course.html",
        "budget_shares": "budgets/shares.html",
        "budget_holders": "budgets/holders.html",
        "budget_afford": "budgets/afford.html",
    },
    build=build,
    params=frozenset({"tenant", "budget", "by", "client", "afford"}),
)


def build_new(asking: Asking, params: Params) -> Context:
    asking.asker.must(Role.OPERATOR)
    return {
        "title": "New budget",
        "may_all": asking.asker.tenant is None,
        "preset": params.value("tenant"),
        "choices": CHOICES,
        "zones": zones(),
    }


NEW = Page(
    name="budget-new",
    section="budgets",
    template="pages/budget_new.html",
    parts={},
    build=build_new,
    params=frozenset({"tenant"}),
)

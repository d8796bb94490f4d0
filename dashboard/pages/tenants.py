"""Tenants: the tree with figures; one tenant with its money, usage, keys and those below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.budgets.queries import Standing
from controlplane.telemetry import queries as telemetry
from controlplane.telemetry.queries import Figures, Usage
from controlplane.tenancy import queries as tenancy
from controlplane.tenancy.models import Role, Tenant
from dashboard.asking import Asking
from dashboard.captures import capture_context
from dashboard.page import Context, Page, Params, range_of
from dashboard.strip import strip_of

MOST = 300
DAYS = 30
DIMENSIONS: tuple[telemetry.Dimension, ...] = ("category", "route", "model", "user", "tenant")


@dataclass(frozen=True)
class Row:
    """A tenant in the list; ``now`` are its own calls, those of tenants below it not included."""

    tenant: Tenant
    depth: int
    now: Figures | None
    month: Usage | None
    tightest: Standing | None


def build(asking: Asking, params: Params) -> Context:
    chosen = range_of(params)
    found = list(tenancy.tenants_seen_by(asking.asker)[: MOST + 1])
    since = chosen.since(asking.now)
    figures = telemetry.breakdown(asking.asker, since, asking.now, "tenant", 1000)
    month = {
        each.name: each
        for each in telemetry.usage(asking.asker, "tenant", days=DAYS, today=asking.now.date(), limit=1000)
    }
    tightest: dict[int, Standing] = {}
    for standing in asking.standings:
        if standing.budget.tenant_id is not None:
            tightest.setdefault(standing.budget.tenant_id, standing)
    rows = [
        Row(each, depth, figures.get(each.slug), month.get(each.slug), tightest.get(each.pk))
        for each, depth in _tree(found[:MOST], params.value("q").casefold())
    ]
    known = {each.slug for each in found}
    strangers = [(name, each) for name, each in month.items() if name not in known] if len(found) <= MOST else []
    return {
        "title": "Tenants",
        "range": chosen,
        "rows": rows,
        "total": len(found),
        "more": len(found) > MOST,
        "month_nusd": sum(each.cost_nusd for each in month.values()),
        "strangers": strangers[:20] if asking.asker.tenant is None and not params.value("q") else [],
    }


def _tree(found: Sequence[Tenant], text: str) -> list[tuple[Tenant, int]]:
    """Return tenants in the order of the tree with their depth; when ``text`` is sought, those alone, flat."""
    if text:
        return [(each, 0) for each in found if text in each.slug.casefold() or text in each.name.casefold()]
    slugs = {each.pk: each.slug for each in found}

    def place(tenant: Tenant) -> list[str]:
        return [slugs[pk] for pk in tenant.lineage if pk in slugs]

    return [(each, len(place(each)) - 1) for each in sorted(found, key=place)]


PAGE = Page(
    name="tenants",
    section="tenants",
    template="pages/tenants.html",
    parts={"tenant_list": "tenants/list.html"},
    build=build,
    params=frozenset({"q", "range"}),
)


def build_one(asking: Asking, params: Params) -> Context:
    tenant = tenancy.tenant_seen_by(asking.asker, params.value("slug"))
    chosen = range_of(params)
    since = chosen.since(asking.now)
    present = telemetry.figures(asking.asker, since, asking.now, tenant.slug)
    before = telemetry.figures(asking.asker, *chosen.before(asking.now), tenant.slug)
    course = telemetry.series(asking.asker, since, asking.now, chosen.step_s, tenant.slug)
    by = dimension_of(params)
    shares = telemetry.usage(asking.asker, by, tenant.slug, days=DAYS, today=asking.now.date(), limit=12)
    standings = [each for each in asking.standings if each.budget.tenant_id == tenant.pk]
    return {
        "title": tenant.name,
        "path_params": ("slug",),
        "tenant": tenant,
        "range": chosen,
        "figures": present,
        "strip": strip_of(present, before, course, chosen, asking.now),
        "standings": standings,
        "by": by,
        "dimensions": DIMENSIONS,
        "shares": shares,
        "shares_top": max((share.cost_nusd for share in shares), default=0),
        "keys": list(tenancy.keys_seen_by(asking.asker).filter(tenant=tenant)[:30]),
        "children": list(tenancy.tenants_seen_by(asking.asker).filter(parent=tenant)[:50]),
        "clients": sum(each.scope_id == tenant.pk for each in asking.live_instances),
        "days": DAYS,
        **capture_context(tenant),
    }


def dimension_of(params: Params) -> telemetry.Dimension:
    """Return what the address breaks usage down by; the category without."""
    return next((each for each in DIMENSIONS if each == params.value("by")), "category")


ONE = Page(
    name="tenant",
    section="tenants",
    template="pages/tenant.html",
    parts={
        "tenant_summary": "tenants/summary.html",
        "strip": "overview/strip.html",
        "tenant_budgets": "tenants/budgets.html",
        "tenant_usage": "tenants/usage.html",
        "tenant_keys": "tenants/keys.html",
        "tenant_children": "tenants/children.html",
        "spreads": "overview/spreads.html",
    },
    build=build_one,
    params=frozenset({"slug", "range", "by"}),
)


def build_new(asking: Asking, params: Params) -> Context:
    asking.asker.must(Role.ADMIN)
    return {"title": "New tenant", "may_all": asking.asker.tenant is None, "preset": params.value("parent")}


NEW = Page(
    name="tenant-new",
    section="tenants",
    template="pages/tenant_new.html",
    parts={},
    build=build_new,
    params=frozenset({"parent"}),
)

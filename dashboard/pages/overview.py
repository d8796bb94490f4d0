"""The first screen: the seven figures, what needs attention, money, calls by outcome, breakers, recent changes."""

from __future__ import annotations

from controlplane.policy import queries as policy
from controlplane.telemetry import queries as telemetry
from controlplane.tenancy import queries as tenancy
from dashboard import needs
from dashboard.asking import Asking
from dashboard.courses import outcome_course
from dashboard.page import Context, Page, Params, range_of
from dashboard.rollout_board import glance_of
from dashboard.strip import strip_of

MOST_ROLLOUTS = 4


def build(asking: Asking, params: Params) -> Context:
    chosen = range_of(params)
    tenant = params.value("tenant") or None
    since = chosen.since(asking.now)
    course = telemetry.series(asking.asker, since, asking.now, chosen.step_s, tenant)
    present = telemetry.figures(asking.asker, since, asking.now, tenant)
    before = telemetry.figures(asking.asker, *chosen.before(asking.now), tenant)
    found = needs.needs_of(asking)
    changes = list(policy.revisions_seen_by(asking.asker)[:30])
    return {
        "title": "Overview",
        "range": chosen,
        "figures": present,
        "strip": strip_of(present, before, course, chosen, asking.now),
        "needs": found[:6],
        "needs_count": len(found),
        "standings": [standing for standing in asking.standings if standing.amount_nusd][:5],
        "breakers": asking.breakers[:8],
        "breakers_count": len(asking.breakers),
        "clients": len(asking.live_instances),
        "course": outcome_course(course, chosen, asking.now, changes),
        "rollouts_now": [glance_of(each, now=asking.now) for each in asking.rollouts[:MOST_ROLLOUTS]],
        "rollouts_count": len(asking.rollouts),
        "tenants_now": list(telemetry.breakdown(asking.asker, since, asking.now, "tenant", 6).items()),
        "audit": list(tenancy.audit_seen_by(asking.asker)[:6]),
        "tenants_count": tenancy.tenants_seen_by(asking.asker).count(),
    }


PAGE = Page(
    name="overview",
    section="overview",
    template="pages/overview.html",
    parts={
        "summary": "overview/summary.html",
        "strip": "overview/strip.html",
        "needs": "overview/needs.html",
        "money": "overview/money.html",
        "outcomes": "overview/outcomes.html",
        "breaker_mosaic": "overview/breakers.html",
        "rollouts_now": "overview/rollouts.html",
        "tenants_now": "overview/tenants.html",
        "changes": "overview/changes.html",
        "spreads": "overview/spreads.html",
    },
    build=build,
    params=frozenset({"tenant", "range"}),
)

"""Breakers: their state by route and model, per client for the chosen one, and the operators' hands on them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from controlplane.fleet.queries import Breaker
from controlplane.policy import queries as policy
from controlplane.problems import NotFound
from controlplane.telemetry import queries as telemetry
from controlplane.tenancy.models import Tenant
from dashboard.asking import Asking
from dashboard.page import Context, Page, Params
from dashboard.policy_words import parts_of

MOST_CLIENTS = 200
MOST_CAUSES = 5
MEASURED_FOR = timedelta(minutes=10)
WATCHED_FOR = timedelta(hours=24)


def build(asking: Asking, params: Params) -> Context:
    chosen = _chosen(asking.breakers, params)
    overrides = list(policy.overrides_seen_by(asking.asker)[:200])
    return {
        "title": "Breakers",
        "breakers": asking.breakers,
        "open_count": sum(breaker.open > 0 for breaker in asking.breakers),
        "clients": len(asking.live_instances),
        "chosen": chosen,
        "chosen_route": chosen.route if chosen else "*",
        "chosen_model": chosen.model if chosen else "",
        "states": chosen.states[:MOST_CLIENTS] if chosen else [],
        "overrides": [each for each in overrides if each.mode != "auto" or each.resets],
        "may_all": asking.asker.tenant is None,
        **(_why(asking, chosen) if chosen else {}),
    }


@dataclass(frozen=True)
class WouldRefuse:
    """Calls that a breaker which only watches let through, and what they did cost with those of all other reasons."""

    tenant: str
    route: str
    count: int
    cost_nusd: int


def _why(asking: Asking, chosen: Breaker) -> Context:
    """Return the evidence for one breaker: what clients say, what was measured, and the rule at the asker's root."""
    opened = [state for state in chosen.states if state.phase == "open"]
    ruled = chosen.worst.instance.scope or asking.asker.tenant
    rule = _rule(asking, ruled, chosen.route)
    watched = telemetry.watched(asking.asker, asking.now - WATCHED_FOR, asking.now)
    return {
        "causes": Counter(state.cause for state in opened if state.cause).most_common(MOST_CAUSES),
        "newest_open": max((state.since for state in opened), default=None),
        "kinds": telemetry.kinds(
            asking.asker, asking.now - MEASURED_FOR, asking.now, route=chosen.route, model=chosen.model
        ),
        "rule": next((part.text for part in parts_of({"breaker": rule}) if rule), ""),
        "ruled": ruled,
        "open_s": rule.get("open_s") if rule else None,
        "watched": [
            WouldRefuse(each.tenant, each.route, each.reasons["breaker_open"], each.cost_nusd)
            for each in watched
            if each.route == chosen.route and each.reasons.get("breaker_open")
        ],
    }


def _rule(asking: Asking, tenant: Tenant | None, route: str) -> dict[str, Any]:
    try:
        found = policy.effective_policy(asking.asker, tenant.slug if tenant else None, route)
    except NotFound:  # the tenant is archived
        return {}
    return found.get("breaker") or {}


def _chosen(breakers: list[Breaker], params: Params) -> Breaker | None:
    wanted = params.value("route"), params.value("model"), params.value("credential")
    for breaker in breakers:
        if (breaker.route, breaker.model, breaker.credential) == wanted:
            return breaker
    return breakers[0] if breakers and not params.value("route") else None


PAGE = Page(
    name="breakers",
    section="breakers",
    template="pages/breakers.html",
    parts={
        "breaker_list": "breakers/list.html",
        "breaker_why": "breakers/why.html",
        "breaker_clients": "breakers/clients.html",
        "breaker_overrides": "breakers/overrides.html",
    },
    build=build,
    params=frozenset({"route", "model", "credential"}),
)

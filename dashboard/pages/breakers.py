"""Breakers: their state by route and model, per client for the chosen one, and the operators' hands on them."""

from __future__ import annotations

from controlplane.fleet.queries import Breaker
from controlplane.policy import queries as policy
from dashboard.asking import Asking
from dashboard.page import Context, Page, Params

MOST_CLIENTS = 200


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
    }


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
        "breaker_clients": "breakers/clients.html",
        "breaker_overrides": "breakers/overrides.html",
    },
    build=build,
    params=frozenset({"route", "model", "credential"}),
)

"""Limits: the policy documents per tenant and route, what is in force after inheritance, and their history."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from controlplane.policy import queries as policy
from controlplane.policy.models import Revision, RoutePolicy
from controlplane.problems import NotFound
from controlplane.telemetry import queries as telemetry
from controlplane.tenancy import queries as tenancy
from controlplane.tenancy.models import Role
from dashboard import policy_form
from dashboard.asking import Asking
from dashboard.diffs import lines_of
from dashboard.page import Context, Page, Params
from dashboard.policy_words import Part, parts_of

MOST = 200
HISTORY = 20
WATCHED_FOR = timedelta(hours=24)
EXAMPLE: dict[str, Any] = {
    "limits": [{"unit": "requests", "amount": 600, "per_s": 60, "scope": "fleet"}],
    "queue": {"max_concurrent": 16, "max_waiting": 64, "max_wait_ms": 2000},
    "breaker": {"window_s": 30, "min_calls": 20, "failure_rate": 0.5, "open_s": 20},
    "retry": {"max_attempts": 3, "base_ms": 200},
    "timeout_ms": 30000,
}


@dataclass(frozen=True)
class Row:
    """A document as listed. ``name`` is ``acme/chat``; ``/chat`` for the installation's own."""

    policy: RoutePolicy
    name: str
    parts: list[Part]


def name_of(tenant: str | None, route: str) -> str:
    return f"{tenant or ''}/{route}"


def split(name: str) -> tuple[str | None, str]:
    """Return the tenant's slug and the route of a name."""
    owner, _, route = name.partition("/")
    return owner or None, route


def build(asking: Asking, params: Params) -> Context:
    found = policy.policies_seen_by(asking.asker)
    tenant = params.value("tenant")
    if tenant:
        found = found.filter(tenant__slug=tenant)
    rows = [
        Row(each, name_of(each.tenant.slug if each.tenant else None, each.route), parts_of(each.document))
        for each in found[:MOST]
    ]
    rows.sort(key=lambda row: (row.policy.tenant is not None, row.name))
    name = params.value("policy") or (rows[0].name if rows else "")
    watched = telemetry.watched(asking.asker, asking.now - WATCHED_FOR, asking.now, tenant=tenant or None)
    return {
        "title": "Limits",
        "rows": rows,
        "name": name,
        "watched": watched,
        "watched_calls": sum(each.would_refuse for each in watched),
        "watched_nusd": sum(each.cost_nusd for each in watched),
        **(_detail(asking, params, name) if name else {}),
    }


def _detail(asking: Asking, params: Params, name: str) -> Context:
    owner, route = split(name)
    try:
        effective = policy.effective_policy(asking.asker, owner, route)
    except NotFound:
        return {}
    own = policy.policies_seen_by(asking.asker).filter(tenant__slug=owner, route=route).first()
    history = list(policy.revisions_seen_by(asking.asker, kind="policy", subject=name)[:HISTORY])
    chosen = _revision(history, params.value("revision"))
    return {
        "own": own,
        "known": True,
        "owner": tenancy.tenant_if_named(asking.asker, owner),
        "route": route,
        "effective": effective,
        "effective_parts": parts_of(effective),
        "history": history,
        "chosen": chosen,
        "diff": lines_of(chosen.before, chosen.after) if chosen else [],
    }


def _revision(history: list[Revision], number: str) -> Revision | None:
    return next((each for each in history if str(each.pk) == number), history[0] if history else None)


PAGE = Page(
    name="limits",
    section="limits",
    template="pages/limits.html",
    parts={
        "policy_list": "limits/list.html",
        "policy_effective": "limits/effective.html",
        "policy_history": "limits/history.html",
        "policy_watched": "limits/watched.html",
    },
    build=build,
    params=frozenset({"tenant", "policy", "revision"}),
)


def build_edit(asking: Asking, params: Params) -> Context:
    asking.asker.must(Role.OPERATOR)
    owner, route = split(params.value("policy"))
    own = policy.policies_seen_by(asking.asker).filter(tenant__slug=owner, route=route).first() if route else None
    return {
        "title": "Edit policy" if own else "New policy",
        "own": own,
        "owner_slug": owner or params.value("tenant"),
        "route": route,
        "may_all": asking.asker.tenant is None,
        "document": own.document if own else EXAMPLE,
        "values": policy_form.flat(own.document if own else {}),
        "says": policy_form.SAYS,
        "enforcements": policy_form.ENFORCEMENTS,
        "fallback_rows": range(policy_form.FALLBACKS),
    }


EDIT = Page(
    name="policy-edit",
    section="limits",
    template="pages/policy_edit.html",
    parts={},
    build=build_edit,
    params=frozenset({"policy", "tenant"}),
)

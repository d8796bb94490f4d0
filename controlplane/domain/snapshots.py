"""Compiling a snapshot: from the rows of intent to the document that the SDKs of one scope are served.

docs/protocol.md, "Snapshot", is the format.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tidegate.core.policy import ANY_ROUTE, complete, inherit, parse_policy
from tidegate.core.snapshot import FORMAT


class TenantNode(NamedTuple):
    """A live tenant. ``lineage`` holds the ids from its root to itself."""

    id: int
    slug: str
    parent: str | None
    lineage: tuple[int, ...]


class Override(NamedTuple):
    """An operator's hand on breakers; ``resets`` only grows."""

    mode: str
    resets: int


class BudgetLine(NamedTuple):
    id: int
    tenant_id: int | None
    slug: str
    match: Mapping[str, str]
    on_exhausted: str
    on_disconnect: str = "stop"
    strict: bool = True
    on_overrun: str = "finish"


class Money(NamedTuple):
    """What the storey of budgets adds to a snapshot: the live budgets, and the etag of the price book."""

    budgets: Sequence[BudgetLine] = ()
    prices: str | None = None


class DeploymentLine(NamedTuple):
    """A live deployment, and what the snapshots that show it say of it."""

    slug: str
    tenant_id: int | None
    document: Mapping[str, Any]


class Pace(NamedTuple):
    """How often SDKs sync, and how long a lease lasts, in milliseconds."""

    sync_ms: int
    lease_ttl_ms: int


Place = tuple[int | None, str]  # tenant id (None: the installation) and route


class Intent(NamedTuple):
    """Everything that operators intend, of all scopes."""

    tenants: Sequence[TenantNode]
    documents: Mapping[Place, Mapping[str, Any]]
    overrides: Mapping[Place, Override]
    money: Money
    pace: Pace
    deployments: Sequence[DeploymentLine] = ()


def effective_document(intent: Intent, lineage: Iterable[int], route: str) -> dict[str, Any]:
    """Return the complete policy document for a route at the end of ``lineage``; empty for the installation itself."""
    places: list[Place] = []
    for tenant_id in (None, *lineage):
        places += [(tenant_id, ANY_ROUTE)] if route == ANY_ROUTE else [(tenant_id, ANY_ROUTE), (tenant_id, route)]
    merged = inherit(intent.documents[place] for place in places if place in intent.documents)
    overrides = [intent.overrides[place] for place in places if place in intent.overrides]
    mode = overrides[-1].mode if overrides else "auto"
    if mode != "auto":
        merged["breaker"] = {**(merged.get("breaker") or {}), "mode": mode}
    policy = parse_policy(merged)
    return complete(policy._replace(breaker_resets=sum(override.resets for override in overrides)))


def compile_document(intent: Intent, scope: TenantNode | None, *, revision: int) -> dict[str, Any]:
    """Return the snapshot for the keys of ``scope``: a tenant with its subtree, or the installation."""
    policies = _Policies(intent)
    tenants = [tenant for tenant in intent.tenants if scope is None or scope.id in tenant.lineage]
    lines = _Lines(intent.money.budgets)
    slugs = {tenant.id: tenant.slug for tenant in intent.tenants}
    root: tuple[int, ...] = scope.lineage if scope else ()
    document: dict[str, Any] = {
        "format": FORMAT,
        "revision": revision,
        "scope": scope.slug if scope else None,
        "prices": intent.money.prices,
        "sync_ms": intent.pace.sync_ms,
        "lease_ttl_ms": intent.pace.lease_ttl_ms,
        "tenants": {
            tenant.slug: {
                "parent": tenant.parent,
                "routes": policies.of(tenant.lineage),
                "budgets": lines.of(tenant.lineage),
            }
            for tenant in tenants
        },
        "default": {"routes": policies.of(root), "budgets": lines.of(root)},
    }
    named = {key for rules in [*document["tenants"].values(), document["default"]] for key in rules["budgets"]}
    document["budgets"] = {
        str(line.id): {
            "tenant": slugs.get(line.tenant_id) if line.tenant_id else None,
            "slug": line.slug,
            "match": dict(line.match),
            "on_exhausted": line.on_exhausted,
            "on_disconnect": line.on_disconnect,
            "strict": line.strict,
            "on_overrun": line.on_overrun,
        }
        for line in intent.money.budgets
        if line.id in named
    }
    document["policies"] = policies.documents
    if intent.deployments:
        _add_deployments(document, intent.deployments, tenants, root)
    return document


def _add_deployments(
    document: dict[str, Any], lines: Sequence[DeploymentLine], tenants: Sequence[TenantNode], root: Sequence[int]
) -> None:
    """Say which deployments each tenant's calls belong to, the nearest first. Places without any say nothing."""
    by_owner: dict[int | None, list[str]] = {}
    for line in lines:
        by_owner.setdefault(line.tenant_id, []).append(line.slug)
    named: set[str] = set()
    places = [(document["tenants"][tenant.slug], tenant.lineage) for tenant in tenants]
    for rules, lineage in [*places, (document["default"], root)]:
        slugs = [slug for owner in (*reversed(lineage), None) for slug in by_owner.get(owner, ())]
        if slugs:
            rules["deployments"] = slugs
            named.update(slugs)
    if named:
        document["deployments"] = {line.slug: dict(line.document) for line in lines if line.slug in named}


class _Policies:
    """The distinct documents of a snapshot, and where each tenant's routes find theirs."""

    def __init__(self, intent: Intent) -> None:
        self.documents: list[dict[str, Any]] = []
        self._intent = intent
        self._index: dict[str, int] = {}
        self._routes: dict[int | None, set[str]] = {}
        for tenant_id, route in {*intent.documents, *intent.overrides}:
            self._routes.setdefault(tenant_id, set()).add(route)

    def of(self, lineage: Sequence[int]) -> dict[str, int]:
        routes = {ANY_ROUTE}.union(*(self._routes.get(tenant_id, ()) for tenant_id in (None, *lineage)))
        return {route: self._place(effective_document(self._intent, lineage, route)) for route in sorted(routes)}

    def _place(self, document: dict[str, Any]) -> int:
        text = json.dumps(document, sort_keys=True)
        if text not in self._index:
            self._index[text] = len(self.documents)
            self.documents.append(document)
        return self._index[text]


class _Lines:
    """Budgets by tenant, so that a tenant's own, its ancestors' and the installation's come leaf first."""

    def __init__(self, budgets: Iterable[BudgetLine]) -> None:
        self._by_tenant: dict[int | None, list[int]] = {}
        for line in budgets:
            # The more a budget names, the nearer it is to the call.
            self._by_tenant.setdefault(line.tenant_id, []).append(line.id)
        named = {line.id: len(line.match) for line in budgets}
        for ids in self._by_tenant.values():
            ids.sort(key=lambda key: (-named[key], key))

    def of(self, lineage: Sequence[int]) -> list[int]:
        return [key for tenant_id in (*reversed(lineage), None) for key in self._by_tenant.get(tenant_id, ())]

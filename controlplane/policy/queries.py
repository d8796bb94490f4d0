"""Reads of policies, their history and their effect, through the eyes of the one who asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.conf import settings
from django.db.models import Q, QuerySet

from controlplane.domain.snapshots import DeploymentLine, Intent, Money, Override, Pace, TenantNode, effective_document
from controlplane.policy.models import BreakerOverride, Revision, RoutePolicy
from controlplane.problems import NotFound
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import Asker, in_scope, tenant_seen_by

_money: Callable[[], Money] = Money
_deployments: Callable[[], Sequence[DeploymentLine]] = tuple


def install_money(source: Callable[[], Money]) -> None:
    """Make ``source`` tell what the storey of budgets adds to snapshots."""
    global _money
    _money = source


def install_deployments(source: Callable[[], Sequence[DeploymentLine]]) -> None:
    """Make ``source`` tell which deployments there are, with the releases that they serve."""
    global _deployments
    _deployments = source


def current_intent() -> Intent:
    """Return everything that is intended right now, of all scopes: the input of the snapshot compiler."""
    return Intent(
        tenants=tenant_nodes(),
        documents={(row.tenant_id, row.route): row.document for row in RoutePolicy.objects.all()},
        overrides={(row.tenant_id, row.route): Override(row.mode, row.resets) for row in BreakerOverride.objects.all()},
        money=_money(),
        pace=Pace(settings.SYNC_INTERVAL_MS, settings.LEASE_TTL_MS),
        deployments=_deployments(),
    )


def tenant_nodes() -> Sequence[TenantNode]:
    """Return all live tenants."""
    rows = Tenant.objects.filter(archived_at=None).order_by("pk")
    return [
        TenantNode(pk, slug, parent, tuple(lineage))
        for pk, slug, parent, lineage in rows.values_list("pk", "slug", "parent__slug", "lineage")
    ]


def policies_seen_by(asker: Asker) -> QuerySet[RoutePolicy]:
    """Return the policy documents in the asker's scope; the unrestricted also see the installation's own."""
    policies = RoutePolicy.objects.select_related("tenant", "revision").order_by("tenant__slug", "route")
    policies = policies.filter(Q(tenant=None) | Q(tenant__archived_at=None))
    return in_scope(policies, asker)


def policy_seen_by(asker: Asker, tenant_slug: str | None, route: str) -> RoutePolicy:
    """Return one policy document; ``NotFound`` outside the asker's scope, as for one that does not exist."""
    policy = policies_seen_by(asker).filter(tenant__slug=tenant_slug, route=route).first()
    if policy is None:
        raise NotFound(f"There is no policy of its own for {tenant_slug or 'the installation'} on route {route!r}.")
    return policy


def effective_policy(asker: Asker, tenant_slug: str | None, route: str) -> dict[str, Any]:
    """Return the complete document that governs calls of a tenant on a route, after inheritance and overrides."""
    lineage: Sequence[int] = ()
    if tenant_slug is not None:
        lineage = tenant_seen_by(asker, tenant_slug).lineage
    elif asker.tenant:
        raise NotFound("The installation's own policies are not yours to see.")
    return effective_document(current_intent(), lineage, route)


def previewed_policy(asker: Asker, tenant_slug: str | None, route: str, document: dict[str, Any]) -> dict[str, Any]:
    """Return what would govern calls of a tenant on a route if ``document``, which must be valid, were its own. Changes nothing."""
    tenant = tenant_seen_by(asker, tenant_slug) if tenant_slug is not None else None
    if tenant is None and asker.tenant:
        raise NotFound("The installation's own policies are not yours to see.")
    intent = current_intent()
    documents = {**intent.documents, (tenant.pk if tenant else None, route): document}
    return effective_document(intent._replace(documents=documents), tenant.lineage if tenant else (), route)


def revisions_seen_by(asker: Asker, *, kind: str | None = None, subject: str | None = None) -> QuerySet[Revision]:
    """Return the changes of intent in the asker's scope, the newest first."""
    revisions = in_scope(Revision.objects.select_related("tenant").order_by("-id"), asker)
    if kind is not None:
        revisions = revisions.filter(kind=kind)
    return revisions.filter(subject=subject) if subject is not None else revisions


def revision_seen_by(asker: Asker, number: int) -> Revision:
    """Return one revision; ``NotFound`` outside the asker's scope."""
    revision = revisions_seen_by(asker).filter(pk=number).first()
    if revision is None:
        raise NotFound(f"There is no revision {number} that you may see.")
    return revision


def overrides_seen_by(asker: Asker) -> QuerySet[BreakerOverride]:
    """Return the operators' overrides of breakers in the asker's scope."""
    overrides = BreakerOverride.objects.select_related("tenant").order_by("tenant__slug", "route")
    return in_scope(overrides, asker)

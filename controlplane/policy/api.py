"""Management API: policies, breakers, revisions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from ninja import Body, Router, Schema, Status

from controlplane.paging import newest_first
from controlplane.policy import queries
from controlplane.policy.actions import breakers, policies, revisions
from controlplane.policy.models import Revision
from controlplane.tenancy.bearer import asker
from controlplane.tenancy.queries import Asker, tenant_if_named, tenant_seen_by

router = Router(tags=["policy"])


class PolicyOut(Schema):
    """A tenant's own document for a route (``null``: it only inherits), and the complete one that governs its calls."""

    route: str
    own: dict[str, Any] | None
    effective: dict[str, Any]


class BreakerIn(Schema):
    mode: str
    reason: str = ""


class OverrideOut(Schema):
    route: str
    mode: str
    resets: int


class RevisionOut(Schema):
    id: int
    at: datetime
    actor: str
    kind: str
    subject: str
    tenant: str | None
    summary: str
    before: Any
    after: Any

    @staticmethod
    def resolve_tenant(row: Revision) -> str | None:
        return row.tenant.slug if row.tenant else None


class RevisionPage(Schema):
    items: list[RevisionOut]
    next: str | None


def _policy(who: Asker, slug: str | None, route: str) -> dict[str, Any]:
    own = queries.policies_seen_by(who).filter(tenant__slug=slug, route=route).first()
    effective = queries.effective_policy(who, slug, route)
    return {"route": route, "own": own.document if own else None, "effective": effective}


@router.get("/tenants/{slug}/routes/{route}/policy", response=PolicyOut)
def get_policy(request: HttpRequest, slug: str, route: str) -> Any:
    """A tenant's policy for a route; ``*`` for all routes."""
    return _policy(asker(request), slug, route)


@router.put("/tenants/{slug}/routes/{route}/policy", response=PolicyOut)
def put_policy(request: HttpRequest, slug: str, route: str, body: Body[dict[str, Any]]) -> Any:
    """Make a document the tenant's own policy for a route."""
    who = asker(request)
    policies.put_policy(by=who, tenant=tenant_seen_by(who, slug), route=route, document=body)
    return _policy(who, slug, route)


@router.delete("/tenants/{slug}/routes/{route}/policy", response={204: None})
def delete_policy(request: HttpRequest, slug: str, route: str) -> Any:
    """Delete a tenant's own policy for a route: what it inherits takes over."""
    who = asker(request)
    policies.delete_policy(by=who, tenant=tenant_seen_by(who, slug), route=route)
    return Status(204, None)


@router.get("/routes/{route}/policy", response=PolicyOut)
def get_installation_policy(request: HttpRequest, route: str) -> Any:
    """The installation's policy for a route, which every tenant inherits."""
    return _policy(asker(request), None, route)


@router.put("/routes/{route}/policy", response=PolicyOut)
def put_installation_policy(request: HttpRequest, route: str, body: Body[dict[str, Any]]) -> Any:
    """Make a document the installation's policy for a route."""
    who = asker(request)
    policies.put_policy(by=who, tenant=None, route=route, document=body)
    return _policy(who, None, route)


@router.delete("/routes/{route}/policy", response={204: None})
def delete_installation_policy(request: HttpRequest, route: str) -> Any:
    """Delete the installation's policy for a route."""
    policies.delete_policy(by=asker(request), tenant=None, route=route)
    return Status(204, None)


@router.post("/tenants/{slug}/routes/{route}/breaker", response=OverrideOut)
def set_breaker(request: HttpRequest, slug: str, route: str, body: BreakerIn) -> Any:
    """Force the breakers of a tenant's route open or closed, or hand them back with ``auto``."""
    who = asker(request)
    return breakers.set_mode(by=who, tenant=tenant_if_named(who, slug), route=route, mode=body.mode, reason=body.reason)


@router.post("/routes/{route}/breaker", response=OverrideOut)
def set_installation_breaker(request: HttpRequest, route: str, body: BreakerIn) -> Any:
    """Force the breakers of a route for all tenants, or hand them back with ``auto``."""
    return breakers.set_mode(by=asker(request), tenant=None, route=route, mode=body.mode, reason=body.reason)


@router.post("/tenants/{slug}/routes/{route}/breaker/reset", response=OverrideOut)
def reset_breaker(request: HttpRequest, slug: str, route: str) -> Any:
    """Make every client start a tenant's breakers of a route afresh."""
    who = asker(request)
    return breakers.reset(by=who, tenant=tenant_if_named(who, slug), route=route)


@router.post("/routes/{route}/breaker/reset", response=OverrideOut)
def reset_installation_breaker(request: HttpRequest, route: str) -> Any:
    """Make every client start the breakers of a route afresh."""
    return breakers.reset(by=asker(request), tenant=None, route=route)


@router.get("/revisions/", response=RevisionPage)
def list_revisions(
    request: HttpRequest, kind: str | None = None, subject: str | None = None, cursor: str = "", limit: int = 50
) -> Any:
    """Changes of intent, the newest first."""
    return newest_first(
        queries.revisions_seen_by(asker(request), kind=kind, subject=subject), cursor=cursor, limit=limit
    )


@router.get("/revisions/{int:number}/", response=RevisionOut)
def get_revision(request: HttpRequest, number: int) -> Any:
    """One change with what was before and after."""
    return queries.revision_seen_by(asker(request), number)


@router.post("/revisions/{int:number}/restore", response={204: None})
def restore(request: HttpRequest, number: int) -> Any:
    """Make the policy that a revision set the current one again."""
    who = asker(request)
    revisions.restore(by=who, revision=queries.revision_seen_by(who, number))
    return Status(204, None)

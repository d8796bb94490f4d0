"""Policy documents: put and deleted."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from controlplane import intent
from controlplane.policy.models import RoutePolicy
from controlplane.problems import Conflict, Forbidden, Invalid, NotFound
from controlplane.tenancy.actions.audit import record
from controlplane.tenancy.models import Role, Tenant
from controlplane.tenancy.queries import Asker
from tidegate.core.policy import PolicyError, parse_policy, route_fault


def subject_of(tenant: Tenant | None, route: str) -> str:
    """Return how revisions and the audit trail name a tenant's route: ``acme/chat``, ``/chat`` for the installation's."""
    return f"{tenant.slug if tenant else ''}/{route}"


@transaction.atomic
def put_policy(*, by: Asker, tenant: Tenant | None, route: str, document: Any, reason: str = "") -> RoutePolicy:
    """Make ``document`` the tenant's own policy for a route (``*``: for all). ``Invalid`` names every wrong field.

    Putting the same document again changes nothing.
    """
    _may(by, tenant)
    fault = route_fault(route, wildcard=True)
    if fault:
        raise Invalid("The policy can't be put there.", errors={"route": fault})
    try:
        parse_policy(document)
    except PolicyError as error:
        raise Invalid("The policy is not valid: nothing was changed.", errors=error.errors) from None
    current = RoutePolicy.objects.select_for_update().filter(tenant=tenant, route=route).first()
    if current is not None and current.document == document:
        return current
    before = current.document if current else None
    policy = current or RoutePolicy(tenant=tenant, route=route)
    policy.document = document
    summary = f"{'Changed' if current else 'Set'} the policy of {subject_of(tenant, route)}"
    policy.save()  # before the snapshots are compiled, which names the revision
    policy.revision_id = _publish(by, tenant, route, summary, before, document)
    policy.save(update_fields=["revision"])
    _record(by, "policy.put", tenant, route, summary, before, document, reason)
    return policy


@transaction.atomic
def delete_policy(*, by: Asker, tenant: Tenant | None, route: str, reason: str = "") -> None:
    """Delete a tenant's own policy for a route: what it inherits takes over."""
    _may(by, tenant)
    policy = RoutePolicy.objects.select_for_update().filter(tenant=tenant, route=route).first()
    if policy is None:
        raise NotFound(f"There is no policy of its own at {subject_of(tenant, route)}.")
    before = policy.document
    policy.delete()
    summary = f"Deleted the policy of {subject_of(tenant, route)}"
    _publish(by, tenant, route, summary, before, None)
    _record(by, "policy.deleted", tenant, route, summary, before, None, reason)


def _may(by: Asker, tenant: Tenant | None) -> None:
    by.must(Role.OPERATOR)
    if tenant is None and by.tenant is not None:
        raise Forbidden(f"The installation's own policies are not {by.name}'s to change.")
    if tenant is not None and tenant.archived_at is not None:
        raise Conflict(f"{tenant.slug} is archived.")


def _publish(by: Asker, tenant: Tenant | None, route: str, summary: str, before: Any, after: Any) -> int:
    return intent.publish(
        intent.Change(
            actor=by.name,
            kind="policy",
            subject=subject_of(tenant, route),
            summary=summary,
            tenant_id=tenant.pk if tenant else None,
            before=before,
            after=after,
        )
    )


def _record(
    by: Asker, action: str, tenant: Tenant | None, route: str, summary: str, before: Any, after: Any, reason: str
) -> None:
    record(
        by=by,
        action=action,
        target_kind="policy",
        target=subject_of(tenant, route),
        tenant=tenant,
        summary=summary,
        before=before,
        after=after,
        reason=reason,
    )

"""Tenants come, get names, and go. A tenant that is gone is archived: its history stays."""

from __future__ import annotations

import re

from django.db import IntegrityError, transaction
from django.utils import timezone

from controlplane import intent, live
from controlplane.problems import Conflict, Invalid
from controlplane.tenancy.actions.audit import record
from controlplane.tenancy.models import Role, SdkKey, Tenant
from controlplane.tenancy.queries import Asker

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?", re.ASCII)
MAX_DEPTH = 8


def slug_fault(slug: str) -> str | None:
    """Return what is wrong with a slug, or ``None``."""
    if _SLUG.fullmatch(slug):
        return None
    return "must be 1 to 64 lower-case letters, digits, - or _, and start and end with a letter or digit"


@transaction.atomic
def create_tenant(*, by: Asker, slug: str, name: str, parent: Tenant | None = None, is_demo: bool = False) -> Tenant:
    """Create a tenant; under the asker's own when they have one. ``Invalid``, ``Conflict`` for a slug that is taken."""
    by.must(Role.ADMIN)
    parent = parent or by.tenant
    _check(slug, name, parent)
    try:
        with transaction.atomic():
            tenant = Tenant.objects.create(slug=slug, name=name.strip(), parent=parent, is_demo=is_demo)
    except IntegrityError:
        raise Conflict(
            f"There is already a tenant {slug!r}: choose another slug.", errors={"slug": "is taken"}
        ) from None
    tenant.lineage = [*(parent.lineage if parent else []), tenant.pk]
    tenant.save(update_fields=["lineage"])
    _publish(by, tenant, f"Created tenant {slug}", after=_document(tenant))
    record(
        by=by,
        action="tenant.created",
        target_kind="tenant",
        target=slug,
        tenant=tenant,
        after=_document(tenant),
        summary=f"Created tenant {slug}",
    )
    return tenant


def _check(slug: str, name: str, parent: Tenant | None) -> None:
    errors = {}
    fault = slug_fault(slug)
    if fault:
        errors["slug"] = fault
    if not 1 <= len(name.strip()) <= 120:
        errors["name"] = "must have 1 to 120 characters"
    if parent and len(parent.lineage) >= MAX_DEPTH:
        errors["parent"] = f"the tree is at most {MAX_DEPTH} levels deep"
    if errors:
        raise Invalid("The tenant can't be created like this.", errors=errors)


@transaction.atomic
def rename_tenant(*, by: Asker, tenant: Tenant, name: str) -> Tenant:
    """Give a tenant another display name; its slug, by which callers know it, stays."""
    by.must(Role.ADMIN)
    if not 1 <= len(name.strip()) <= 120:
        raise Invalid("The tenant can't be renamed like this.", errors={"name": "must have 1 to 120 characters"})
    before = _document(tenant)
    tenant.name = name.strip()
    tenant.save(update_fields=["name"])
    record(
        by=by,
        action="tenant.renamed",
        target_kind="tenant",
        target=tenant.slug,
        tenant=tenant,
        before=before,
        after=_document(tenant),
        summary=f"Renamed tenant {tenant.slug} to {tenant.name}",
    )
    return tenant


@transaction.atomic
def archive_tenant(*, by: Asker, tenant: Tenant) -> Tenant:
    """Retire a tenant that has no live children: its keys are revoked at once, its rules leave the snapshots."""
    by.must(Role.ADMIN)
    if by.tenant and by.tenant.pk == tenant.pk:
        raise Conflict("A tenant can't be archived by its own operators: ask somebody above it.")
    if tenant.children.filter(archived_at=None).exists():
        raise Conflict(f"{tenant.slug} still has tenants below it: archive those first.")
    now = timezone.now()
    tenant.archived_at = now
    tenant.save(update_fields=["archived_at"])
    revoked = SdkKey.objects.filter(tenant=tenant, revoked_at=None).update(revoked_at=now)
    live.changed("keys")
    summary = f"Archived tenant {tenant.slug}" + (f" and revoked {revoked} of its keys" if revoked else "")
    _publish(by, tenant, summary, before=_document(tenant))
    record(
        by=by,
        action="tenant.archived",
        target_kind="tenant",
        target=tenant.slug,
        tenant=tenant,
        before=_document(tenant),
        summary=summary,
    )
    return tenant


def _document(tenant: Tenant) -> dict[str, object]:
    return {"slug": tenant.slug, "name": tenant.name, "parent": tenant.parent.slug if tenant.parent else None}


def _publish(by: Asker, tenant: Tenant, summary: str, *, before: object = None, after: object = None) -> None:
    intent.publish(
        intent.Change(
            actor=by.name,
            kind="tenant",
            subject=tenant.slug,
            summary=summary,
            tenant_id=tenant.pk,
            before=before,
            after=after,
        )
    )

"""The demo world goes with one call, and comes back with another. Its tenants are marked; nothing else is touched."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from controlplane import intent, live
from controlplane.tenancy.actions.audit import record
from controlplane.tenancy.actions.tenants import archive_tenant
from controlplane.tenancy.models import Role, SdkKey, Tenant
from controlplane.tenancy.queries import Asker


@transaction.atomic
def remove_demo(*, by: Asker) -> int:
    """Archive the tenants of the demo world, leaves first, and revoke their keys; return how many there were."""
    by.must(Role.ADMIN)
    tenants = sorted(Tenant.objects.filter(is_demo=True, archived_at=None), key=lambda one: -len(one.lineage))
    for tenant in tenants:
        archive_tenant(by=by, tenant=tenant)
    return len(tenants)


@transaction.atomic
def restore_demo(*, by: Asker) -> int:
    """Bring archived tenants of the demo world back, roots first; their keys stay revoked. Return how many there were."""
    by.must(Role.ADMIN)
    tenants = sorted(Tenant.objects.filter(is_demo=True).exclude(archived_at=None), key=lambda one: len(one.lineage))
    for tenant in tenants:
        tenant.archived_at = None
        tenant.save(update_fields=["archived_at"])
        summary = f"Restored tenant {tenant.slug}"
        intent.publish(
            intent.Change(actor=by.name, kind="tenant", subject=tenant.slug, summary=summary, tenant_id=tenant.pk)
        )
        record(
            by=by,
            action="tenant.restored",
            target_kind="tenant",
            target=tenant.slug,
            tenant=tenant,
            summary=summary,
        )
    return len(tenants)


@transaction.atomic
def revoke_demo_keys(*, by: Asker) -> int:
    """Revoke the keys of the demo world: their text was lost with the data directory that kept it."""
    by.must(Role.ADMIN)
    revoked = SdkKey.objects.filter(tenant__is_demo=True, revoked_at=None).update(revoked_at=timezone.now())
    if revoked:
        live.changed("keys")
    return revoked

"""SDK keys: made, shown once, and revoked at once."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from controlplane import live
from controlplane.problems import Conflict, Forbidden, Invalid
from controlplane.tenancy.actions.audit import record
from controlplane.tenancy.models import Role, SdkKey, Tenant
from controlplane.tenancy.queries import Asker
from controlplane.tenancy.secrets import SDK_KEY, mint

LIVE_KEYS_PER_NAME = 2


@transaction.atomic
def create_key(
    *, by: Asker, tenant: Tenant | None, name: str, expires_at: datetime | None = None
) -> tuple[SdkKey, str]:
    """Create a key for a tenant's subtree, or for the installation; return it and its text, which is kept nowhere."""
    by.must(Role.ADMIN)
    if tenant is None and by.tenant is not None:
        raise Forbidden(f"A key for the whole installation is not {by.name}'s to make: name a tenant.")
    now = timezone.now()
    name = name.strip()
    errors = {}
    if not 1 <= len(name) <= 120:
        errors["name"] = "must have 1 to 120 characters"
    if expires_at and expires_at <= now:
        errors["expires_at"] = "must lie in the future"
    if errors:
        raise Invalid("The key can't be created like this.", errors=errors)
    if tenant:
        Tenant.objects.select_for_update().get(pk=tenant.pk)
    alive = SdkKey.objects.filter(Q(expires_at=None) | Q(expires_at__gt=now), tenant=tenant, name=name, revoked_at=None)
    if alive.count() >= LIVE_KEYS_PER_NAME:
        raise Conflict(
            f"{name!r} already has {LIVE_KEYS_PER_NAME} live keys, enough for a rotation: revoke the old one first.",
            errors={"name": "has two live keys"},
        )
    minted = mint(SDK_KEY)
    key = SdkKey.objects.create(
        tenant=tenant,
        name=name,
        selector=minted.selector,
        digest=minted.digest,
        created_by=by.name,
        expires_at=expires_at,
    )
    live.changed("keys")
    record(
        by=by,
        action="key.created",
        target_kind="key",
        target=key.selector,
        tenant=tenant,
        after={"name": name, "expires_at": expires_at.isoformat() if expires_at else None},
        summary=f"Created key {name} for {tenant.slug if tenant else 'the installation'}",
    )
    return key, minted.text


@transaction.atomic
def revoke_key(*, by: Asker, key: SdkKey) -> SdkKey:
    """Revoke a key: every edge refuses it within a second. Revoking it again changes nothing."""
    by.must(Role.ADMIN)
    if key.revoked_at is None:
        key.revoked_at = timezone.now()
        key.save(update_fields=["revoked_at"])
        live.changed("keys")
        record(
            by=by,
            action="key.revoked",
            target_kind="key",
            target=key.selector,
            tenant=key.tenant,
            before={"name": key.name},
            summary=f"Revoked key {key.name}",
        )
    return key

"""Management API: tenants, SDK keys, operator tokens, the audit trail."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema, Status

from controlplane.paging import by_name, newest_first
from controlplane.tenancy import queries
from controlplane.tenancy.actions import keys, tenants, tokens
from controlplane.tenancy.bearer import asker
from controlplane.tenancy.models import OperatorToken, SdkKey, Tenant

router = Router(tags=["tenancy"])


class TenantIn(Schema):
    slug: str
    name: str
    parent: str | None = None


class TenantName(Schema):
    name: str


class TenantOut(Schema):
    slug: str
    name: str
    parent: str | None
    is_demo: bool
    created_at: datetime

    @staticmethod
    def resolve_parent(row: Tenant) -> str | None:
        return row.parent.slug if row.parent else None


class TenantPage(Schema):
    items: list[TenantOut]
    next: str | None


class KeyIn(Schema):
    name: str
    expires_at: datetime | None = None


class KeyOut(Schema):
    id: int
    name: str
    tenant: str | None
    selector: str
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None

    @staticmethod
    def resolve_tenant(row: SdkKey) -> str | None:
        return row.tenant.slug if row.tenant else None


class KeyCreated(Schema):
    """The only time that the key is told."""

    id: int
    key: str


class KeyPage(Schema):
    items: list[KeyOut]
    next: str | None


class TokenIn(Schema):
    name: str
    role: str
    tenant: str | None = None


class TokenCreated(Schema):
    """The only time that the token is told."""

    id: int
    token: str


class TokenOut(Schema):
    id: int
    name: str
    role: str
    tenant: str | None
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None

    @staticmethod
    def resolve_tenant(row: OperatorToken) -> str | None:
        return row.tenant.slug if row.tenant else None


class TokenPage(Schema):
    items: list[TokenOut]
    next: str | None


class AuditOut(Schema):
    id: int
    at: datetime
    actor: str
    action: str
    tenant: str | None
    target_kind: str
    target: str
    summary: str
    before: Any
    after: Any
    reason: str

    @staticmethod
    def resolve_tenant(row: Any) -> str | None:
        return row.tenant.slug if row.tenant else None


class AuditPage(Schema):
    items: list[AuditOut]
    next: str | None


@router.get("/tenants/", response=TenantPage)
def list_tenants(request: HttpRequest, cursor: str = "", limit: int = 50) -> Any:
    """Live tenants, by slug."""
    return by_name(queries.tenants_seen_by(asker(request)), "slug", cursor=cursor, limit=limit)


@router.post("/tenants/", response={201: TenantOut})
def create_tenant(request: HttpRequest, body: TenantIn) -> Any:
    """Create a tenant, under ``parent`` if one is named."""
    who = asker(request)
    parent = queries.tenant_if_named(who, body.parent)
    return Status(201, tenants.create_tenant(by=who, slug=body.slug, name=body.name, parent=parent))


@router.get("/tenants/{slug}/", response=TenantOut)
def get_tenant(request: HttpRequest, slug: str) -> Any:
    """One tenant."""
    return queries.tenant_seen_by(asker(request), slug)


@router.patch("/tenants/{slug}/", response=TenantOut)
def rename_tenant(request: HttpRequest, slug: str, body: TenantName) -> Any:
    """Give a tenant another name; its slug stays."""
    who = asker(request)
    return tenants.rename_tenant(by=who, tenant=queries.tenant_seen_by(who, slug), name=body.name)


@router.delete("/tenants/{slug}/", response={204: None})
def archive_tenant(request: HttpRequest, slug: str) -> Any:
    """Archive a tenant without live children; its keys are revoked at once."""
    who = asker(request)
    tenants.archive_tenant(by=who, tenant=queries.tenant_seen_by(who, slug))
    return Status(204, None)


@router.get("/tenants/{slug}/keys/", response=KeyPage)
def list_keys(request: HttpRequest, slug: str, cursor: str = "", limit: int = 50) -> Any:
    """A tenant's SDK keys, the newest first."""
    who = asker(request)
    tenant = queries.tenant_seen_by(who, slug)
    return newest_first(queries.keys_seen_by(who).filter(tenant=tenant), cursor=cursor, limit=limit)


@router.post("/tenants/{slug}/keys/", response={201: KeyCreated})
def create_key(request: HttpRequest, slug: str, body: KeyIn) -> Any:
    """Create a key for a tenant and everything below it; it is told once."""
    who = asker(request)
    key, text = keys.create_key(
        by=who, tenant=queries.tenant_seen_by(who, slug), name=body.name, expires_at=body.expires_at
    )
    return Status(201, {"id": key.pk, "key": text})


@router.get("/keys/", response=KeyPage)
def list_all_keys(request: HttpRequest, cursor: str = "", limit: int = 50) -> Any:
    """All SDK keys that you may see, the newest first."""
    return newest_first(queries.keys_seen_by(asker(request)), cursor=cursor, limit=limit)


@router.post("/keys/", response={201: KeyCreated})
def create_installation_key(request: HttpRequest, body: KeyIn) -> Any:
    """Create a key for all tenants; it is told once."""
    key, text = keys.create_key(by=asker(request), tenant=None, name=body.name, expires_at=body.expires_at)
    return Status(201, {"id": key.pk, "key": text})


@router.delete("/keys/{int:key_id}/", response={204: None})
def revoke_key(request: HttpRequest, key_id: int) -> Any:
    """Revoke a key at once."""
    who = asker(request)
    keys.revoke_key(by=who, key=queries.key_seen_by(who, key_id))
    return Status(204, None)


@router.get("/tokens/", response=TokenPage)
def list_tokens(request: HttpRequest, cursor: str = "", limit: int = 50) -> Any:
    """Operator tokens, the newest first."""
    return newest_first(queries.tokens_seen_by(asker(request)), cursor=cursor, limit=limit)


@router.post("/tokens/", response={201: TokenCreated})
def create_token(request: HttpRequest, body: TokenIn) -> Any:
    """Create an operator token; it is told once."""
    who = asker(request)
    tenant = queries.tenant_if_named(who, body.tenant)
    token, text = tokens.create_token(by=who, name=body.name, role=body.role, tenant=tenant)
    return Status(201, {"id": token.pk, "token": text})


@router.delete("/tokens/{int:token_id}/", response={204: None})
def revoke_token(request: HttpRequest, token_id: int) -> Any:
    """Revoke an operator token at once."""
    who = asker(request)
    tokens.revoke_token(by=who, token=queries.token_seen_by(who, token_id))
    return Status(204, None)


@router.get("/audit/", response=AuditPage)
def list_audit(request: HttpRequest, target: str = "", actor: str = "", cursor: str = "", limit: int = 50) -> Any:
    """The audit trail, the newest first."""
    entries = queries.audit_seen_by(asker(request))
    entries = entries.filter(target=target) if target else entries
    return newest_first(entries.filter(actor=actor) if actor else entries, cursor=cursor, limit=limit)

"""Operator tokens: bearers for operators' programs."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from controlplane.problems import Invalid
from controlplane.tenancy.actions.audit import record
from controlplane.tenancy.models import OperatorToken, Role, Tenant
from controlplane.tenancy.queries import Asker
from controlplane.tenancy.secrets import OPERATOR_TOKEN, Minted, mint


@transaction.atomic
def create_token(
    *, by: Asker, name: str, role: str, tenant: Tenant | None = None, minted: Minted | None = None
) -> tuple[OperatorToken, str]:
    """Create a token; return it and its text, which is kept nowhere. ``minted``: a preset one."""
    by.must(Role.ADMIN)
    name = name.strip()
    errors = {}
    if not 1 <= len(name) <= 120:
        errors["name"] = "must have 1 to 120 characters"
    if role not in Role.values:
        errors["role"] = f"must be one of {', '.join(Role.values)}"
    if errors:
        raise Invalid("The token can't be created like this.", errors=errors)
    fresh = minted or mint(OPERATOR_TOKEN)
    token = OperatorToken.objects.create(
        name=name,
        selector=fresh.selector,
        digest=fresh.digest,
        role=role,
        tenant=tenant or by.tenant,
        created_by=by.name,
    )
    record(
        by=by,
        action="token.created",
        target_kind="token",
        target=token.selector,
        tenant=token.tenant,
        after={"name": name, "role": role},
        summary=f"Created operator token {name} ({role})",
    )
    return token, fresh.text


@transaction.atomic
def revoke_token(*, by: Asker, token: OperatorToken) -> OperatorToken:
    """Revoke a token at once. Revoking it again changes nothing."""
    by.must(Role.ADMIN)
    if token.revoked_at is None:
        token.revoked_at = timezone.now()
        token.save(update_fields=["revoked_at"])
        record(
            by=by,
            action="token.revoked",
            target_kind="token",
            target=token.selector,
            tenant=token.tenant,
            before={"name": token.name, "role": token.role},
            summary=f"Revoked operator token {token.name}",
        )
    return token

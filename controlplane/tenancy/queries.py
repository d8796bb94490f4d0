"""Reads of tenants, keys, operators and the audit trail, each through the eyes of the one who asks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from django.db.models import Model, QuerySet

from controlplane.problems import Forbidden, NotFound, Unauthorized
from controlplane.tenancy.models import AuditEntry, Operator, OperatorToken, Role, SdkKey, Tenant
from controlplane.tenancy.secrets import operator_selector, proves

M = TypeVar("M", bound=Model)
_RANK = {Role.VIEWER: 0, Role.OPERATOR: 1, Role.ADMIN: 2}


@dataclass(frozen=True)
class Asker:
    """Who asks: a signed-in operator, a program with a token, or the system itself.

    With a tenant, the asker sees that tenant's subtree and nothing else; without one, everything.
    """

    name: str
    role: Role
    tenant: Tenant | None = None

    def may(self, role: Role) -> bool:
        """Tell whether the asker has at least ``role``."""
        return _RANK[self.role] >= _RANK[role]

    def must(self, role: Role) -> None:
        """Raise ``Forbidden`` unless the asker has at least ``role``."""
        if not self.may(role):
            raise Forbidden(f"This takes the role {role.value}; {self.name} has {self.role.value}.")


SYSTEM = Asker(name="system", role=Role.ADMIN)


def asker_of(who: Operator | OperatorToken) -> Asker:
    """Return the asker behind a session or a token."""
    name = f"token:{who.name}" if isinstance(who, OperatorToken) else who.get_username()
    return Asker(name=name, role=Role(who.role), tenant=who.tenant)


def tenants_seen_by(asker: Asker) -> QuerySet[Tenant]:
    """Return the live tenants in the asker's scope, by slug."""
    tenants = Tenant.objects.filter(archived_at=None).select_related("parent")
    return tenants.filter(lineage__contains=[asker.tenant.pk]) if asker.tenant else tenants


def tenant_seen_by(asker: Asker, slug: str) -> Tenant:
    """Return one tenant; ``NotFound`` for one outside the asker's scope, as for one that does not exist."""
    tenant = tenants_seen_by(asker).filter(slug=slug).first()
    if tenant is None:
        raise NotFound(f"There is no tenant {slug!r} that you may see.")
    return tenant


def tenant_if_named(asker: Asker, slug: str | None) -> Tenant | None:
    """Return the tenant of a slug, as ``tenant_seen_by``; ``None`` where none is named: the installation's own is meant."""
    return tenant_seen_by(asker, slug) if slug else None


def slugs_seen_by(asker: Asker) -> list[str] | None:
    """Return the slugs in the asker's scope, archived ones included, or ``None`` for no restriction.

    Windows and spans carry slugs, also of tenants that nobody has registered: only the unrestricted see those.
    """
    if asker.tenant is None:
        return None
    return list(Tenant.objects.filter(lineage__contains=[asker.tenant.pk]).values_list("slug", flat=True))


def operator_of_token(text: str, *, now: datetime) -> OperatorToken:
    """Return the live token that ``text`` is; ``Unauthorized`` for anything else. Notes its use once a minute."""
    token = OperatorToken.objects.select_related("tenant").filter(selector=operator_selector(text)).first()
    if token is None or not proves(text, bytes(token.digest)) or not _is_live(token, now):
        raise Unauthorized("Send 'Authorization: Bearer <operator token>' with a token that is live.")
    if token.last_used_at is None or now - token.last_used_at > timedelta(minutes=1):
        OperatorToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token


def _is_live(token: OperatorToken, now: datetime) -> bool:
    return token.revoked_at is None and (token.expires_at is None or token.expires_at > now)


def in_scope(found: QuerySet[M], asker: Asker, *, through: str = "tenant") -> QuerySet[M]:
    """Return those that belong to a tenant in the asker's scope; ``through`` is how they name it."""
    return found.filter(**{f"{through}__lineage__contains": [asker.tenant.pk]}) if asker.tenant else found


def keys_seen_by(asker: Asker) -> QuerySet[SdkKey]:
    """Return the SDK keys in the asker's scope, revoked ones too, the newest first."""
    keys = SdkKey.objects.select_related("tenant").order_by("-id")
    return in_scope(keys, asker)


def key_seen_by(asker: Asker, pk: int) -> SdkKey:
    """Return one key; ``NotFound`` outside the asker's scope."""
    key = keys_seen_by(asker).filter(pk=pk).first()
    if key is None:
        raise NotFound("There is no such key that you may see.")
    return key


def operators_seen_by(asker: Asker) -> QuerySet[Operator]:
    """Return the operators in the asker's scope, by name."""
    operators = Operator.objects.select_related("tenant").order_by("username")
    return in_scope(operators, asker)


def tokens_seen_by(asker: Asker) -> QuerySet[OperatorToken]:
    """Return the operator tokens in the asker's scope, revoked ones too, the newest first."""
    tokens = OperatorToken.objects.select_related("tenant").order_by("-id")
    return in_scope(tokens, asker)


def token_seen_by(asker: Asker, pk: int) -> OperatorToken:
    """Return one operator token; ``NotFound`` outside the asker's scope."""
    token = tokens_seen_by(asker).filter(pk=pk).first()
    if token is None:
        raise NotFound("There is no such token that you may see.")
    return token


def audit_seen_by(asker: Asker) -> QuerySet[AuditEntry]:
    """Return the audit trail in the asker's scope, the newest first."""
    entries = AuditEntry.objects.select_related("tenant").order_by("-at", "-id")
    return in_scope(entries, asker)

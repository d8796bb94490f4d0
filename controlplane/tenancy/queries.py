"""Reads of tenants, keys, operators and the audit trail, each through the eyes of the one who asks."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import QuerySet

from controlplane.problems import Forbidden, NotFound
from controlplane.tenancy.models import Operator, OperatorToken, Role, Tenant

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


def slugs_seen_by(asker: Asker) -> list[str] | None:
    """Return the slugs in the asker's scope, archived ones included, or ``None`` for no restriction.

    Windows and spans carry slugs, also of tenants that nobody has registered: only the unrestricted see those.
    """
    if asker.tenant is None:
        return None
    return list(Tenant.objects.filter(lineage__contains=[asker.tenant.pk]).values_list("slug", flat=True))

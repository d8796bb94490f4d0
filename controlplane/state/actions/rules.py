"""How a tenant's state is kept: set, and left to those above again."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from controlplane import live
from controlplane.problems import Forbidden, Invalid
from controlplane.state.models import Rule
from controlplane.state.queries import RULE_FIELDS
from controlplane.tenancy.actions.audit import record
from controlplane.tenancy.models import Role, Tenant
from controlplane.tenancy.queries import Asker

_MOST = 2**53
_FLAGS = ("durable_sessions", "encrypt")
_BOUNDS = {
    "session_ttl_s": (60, 30 * 86_400),
    "max_keys": (0, _MOST),
    "max_bytes": (0, _MOST),
    "user_days": (1, 36_500),
    "shared_days": (1, 36_500),
}


def document_of(rule: Rule) -> dict[str, Any]:
    """Return a rule as the audit trail and the API show it."""
    return {name: getattr(rule, name) for name in RULE_FIELDS}


@transaction.atomic
def put_rule(*, by: Asker, tenant: Tenant | None, document: dict[str, Any]) -> Rule:
    """Set the rule of a tenant's subtree, or the installation's; parts that are left out get their defaults.

    Edges follow it within a second. ``Invalid`` names every wrong part.
    """
    by.must(Role.ADMIN)
    if tenant is None and by.tenant is not None:
        raise Forbidden(f"The installation's own rule is not {by.name}'s to change.")
    errors = {name: fault for name, value in document.items() if (fault := _fault(name, value))}
    if errors:
        raise Invalid("State can't be kept like this.", errors=errors)
    before = Rule.objects.select_for_update().filter(tenant=tenant).first()
    rule = Rule(tenant=tenant, pk=before.pk if before is not None else None, **document)
    rule.save()
    _tell(by, tenant, "state.rule_set", document_of(before) if before is not None else None, document_of(rule))
    return rule


@transaction.atomic
def drop_rule(*, by: Asker, tenant: Tenant | None) -> None:
    """Let the rule of those above count again."""
    by.must(Role.ADMIN)
    if tenant is None and by.tenant is not None:
        raise Forbidden(f"The installation's own rule is not {by.name}'s to change.")
    rule = Rule.objects.select_for_update().filter(tenant=tenant).first()
    if rule is not None:
        rule.delete()
        _tell(by, tenant, "state.rule_dropped", document_of(rule), None)


def _fault(name: str, value: Any) -> str | None:
    if name in _FLAGS:
        return None if isinstance(value, bool) else "must be true or false"
    if name not in _BOUNDS:
        return f"is not known; known are {', '.join(RULE_FIELDS)}"
    if value is None and name != "session_ttl_s":
        return None
    least, most = _BOUNDS[name]
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        return f"must be a whole number from {least:,} to {most:,}"
    return None


def _tell(by: Asker, tenant: Tenant | None, action: str, before: Any, after: Any) -> None:
    owner = tenant.slug if tenant is not None else "the installation"
    verb = "Set" if after is not None else "Dropped"
    record(
        by=by,
        action=action,
        target_kind="state-rule",
        target=owner,
        tenant=tenant,
        summary=f"{verb} how {owner} keeps state",
        before=before,
        after=after,
    )
    live.changed("state")

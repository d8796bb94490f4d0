"""An operator's hand on breakers: forced open, forced closed, back to automatic, started afresh."""

from __future__ import annotations

from django.db import transaction

from controlplane import intent
from controlplane.policy.actions.policies import subject_of
from controlplane.policy.models import BreakerMode, BreakerOverride
from controlplane.problems import Forbidden, Invalid
from controlplane.tenancy.actions.audit import record
from controlplane.tenancy.models import Role, Tenant
from controlplane.tenancy.queries import Asker
from tidegate.core.policy import route_fault

_SAID = {"forced_open": "Forced open", "forced_closed": "Forced closed", "auto": "Handed back to automatic"}


@transaction.atomic
def set_mode(*, by: Asker, tenant: Tenant | None, route: str, mode: str, reason: str = "") -> BreakerOverride:
    """Force the breakers of a route in a tenant's subtree, or hand them back with ``auto``."""
    if mode not in BreakerMode.values:
        raise Invalid("There is no such mode.", errors={"mode": f"must be one of {', '.join(BreakerMode.values)}"})
    override = _override(by, tenant, route)
    before, override.mode = override.mode, mode
    return _save(
        by, override, "breaker.mode_set", f"{_SAID[mode]}: breakers of {subject_of(tenant, route)}", before, reason
    )


@transaction.atomic
def reset(*, by: Asker, tenant: Tenant | None, route: str, reason: str = "") -> BreakerOverride:
    """Make every client start the breakers of a route afresh, closed and with no memory."""
    override = _override(by, tenant, route)
    override.resets += 1
    return _save(
        by, override, "breaker.reset", f"Reset the breakers of {subject_of(tenant, route)}", override.mode, reason
    )


def _override(by: Asker, tenant: Tenant | None, route: str) -> BreakerOverride:
    by.must(Role.OPERATOR)
    if tenant is None and by.tenant is not None:
        raise Forbidden(f"The installation's breakers are not {by.name}'s to force.")
    fault = route_fault(route, wildcard=True)
    if fault:
        raise Invalid("There can't be such a route.", errors={"route": fault})
    BreakerOverride.objects.get_or_create(tenant=tenant, route=route)
    return BreakerOverride.objects.select_for_update().get(tenant=tenant, route=route)


def _save(by: Asker, override: BreakerOverride, action: str, summary: str, before: str, reason: str) -> BreakerOverride:
    override.save()
    tenant, subject = override.tenant, subject_of(override.tenant, override.route)
    after = {"mode": override.mode, "resets": override.resets}
    intent.publish(
        intent.Change(
            actor=by.name,
            kind="breaker",
            subject=subject,
            summary=summary,
            tenant_id=tenant.pk if tenant else None,
            before={"mode": before},
            after=after,
        )
    )
    record(
        by=by,
        action=action,
        target_kind="breaker",
        target=subject,
        tenant=tenant,
        summary=summary,
        before={"mode": before},
        after=after,
        reason=reason,
    )
    return override

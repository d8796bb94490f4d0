"""Freezes: spans in which no rollout goes on."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from controlplane import live
from controlplane.problems import Invalid
from controlplane.rollouts.actions.deployments import may_change
from controlplane.rollouts.models import Freeze
from controlplane.tenancy.actions.audit import record
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import Asker


@transaction.atomic
def add_freeze(*, by: Asker, tenant: Tenant | None, starts_at: datetime, ends_at: datetime, reason: str = "") -> Freeze:
    """Let nothing of a tenant's (or, without one, of anybody's) deployments go on from ``starts_at`` until ``ends_at``."""
    may_change(by, tenant)
    if ends_at <= starts_at:
        raise Invalid("A freeze ends after it starts.", errors={"ends_at": "must be after the start"})
    made = Freeze.objects.create(
        tenant=tenant, starts_at=starts_at, ends_at=ends_at, reason=reason[:300], created_by=by.name
    )
    _record(by, "freeze.added", made, f"Froze rollouts from {starts_at:%Y-%m-%d %H:%M} to {ends_at:%Y-%m-%d %H:%M} UTC")
    return made


@transaction.atomic
def end_freeze(*, by: Asker, freeze: Freeze, now: datetime) -> None:
    """End a freeze now; one that has not begun is taken back."""
    may_change(by, freeze.tenant)
    _record(by, "freeze.ended", freeze, f"Ended the freeze until {freeze.ends_at:%Y-%m-%d %H:%M} UTC")
    if freeze.starts_at >= now:
        freeze.delete()
    else:
        freeze.ends_at = now
        freeze.save(update_fields=["ends_at"])


def _record(by: Asker, action: str, freeze: Freeze, summary: str) -> None:
    record(
        by=by,
        action=action,
        target_kind="freeze",
        target=f"{freeze.tenant.slug if freeze.tenant else ''}/{freeze.pk}",
        tenant=freeze.tenant,
        summary=summary,
        after={"starts_at": freeze.starts_at.isoformat(), "ends_at": freeze.ends_at.isoformat()},
        reason=freeze.reason,
    )
    live.changed("intent")

"""The audit trail: written inside the transaction of the change that it tells of."""

from __future__ import annotations

from typing import Any

from controlplane import live
from controlplane.tenancy.models import AuditEntry, Tenant
from controlplane.tenancy.queries import Asker


def record(
    *,
    by: Asker,
    action: str,
    target_kind: str,
    target: str,
    summary: str,
    tenant: Tenant | None = None,
    before: Any = None,
    after: Any = None,
    reason: str = "",
    request_id: str = "",
) -> AuditEntry:
    """Write one entry. ``before`` and ``after`` are JSON documents without secrets; ``None`` for absent."""
    entry = AuditEntry.objects.create(
        actor=by.name,
        action=action,
        tenant=tenant,
        target_kind=target_kind,
        target=target,
        summary=summary,
        before=before,
        after=after,
        reason=reason,
        request_id=request_id,
    )
    live.changed("audit")
    return entry

"""What people changed that may bend a course over time: marks on charts of budgets and of service levels."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Q

from controlplane.policy import queries as policy
from controlplane.policy.models import Revision
from controlplane.tenancy.models import Tenant
from dashboard.asking import Asking

MOST_CHANGES = 200
_BENDING = ("policy", "price", "deployment")
_NOTHING = Q(pk__in=())


def changes_since(asking: Asking, tenant: Tenant | None, since: datetime, itself: Q = _NOTHING) -> list[Revision]:
    """Return changes of ``itself``, and of prices, policies and releases of ``tenant``, those above it and those below it."""
    found = policy.revisions_seen_by(asking.asker).filter(
        itself | Q(kind__in=_BENDING), at__gte=since, at__lt=asking.now
    )
    if tenant is not None:
        above_or_below = Q(tenant_id__in=tenant.lineage) | Q(tenant__lineage__contains=[tenant.pk])
        found = found.filter(itself | Q(tenant=None) | above_or_below)
    return list(found[:MOST_CHANGES])

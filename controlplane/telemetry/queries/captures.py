"""Whether prompts and replies are kept: what a tenant says itself, and what holds for it."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Q

from controlplane.telemetry.models import Capture
from controlplane.tenancy.models import Tenant


@dataclass(frozen=True)
class Captured:
    """What holds. ``source`` is the tenant that says so, empty for the installation; ``own`` is what is said here, if it is."""

    keeps: bool
    redact: list[str]
    source: str
    own: bool


def capture_of(tenant: Tenant | None) -> Captured:
    """Return what holds for a tenant, the nearest that says something first; for the installation without one."""
    lineage = list(reversed(tenant.lineage)) if tenant else []
    found = Capture.objects.filter(Q(tenant__in=lineage) | Q(tenant=None)).select_related("tenant")
    said = {each.tenant_id: each for each in found}
    nearest = next((said[pk] for pk in [*lineage, None] if pk in said), None)
    if nearest is None:
        return Captured(False, [], "", False)
    own = nearest.tenant_id == (tenant.pk if tenant else None)
    return Captured(nearest.keeps, list(nearest.redact), nearest.tenant.slug if nearest.tenant else "", own)

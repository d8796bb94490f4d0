"""What operators do to the state of one user, session or topic: erase it. And what time does: retention."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from asgiref.sync import async_to_sync
from django.db import transaction

from controlplane.domain.state import KINDS
from controlplane.problems import Problem
from controlplane.state import reach
from controlplane.state.changes import name_of
from controlplane.state.lookup import space_of
from controlplane.state.models import Rule, Traffic
from controlplane.state.queries import rule_of
from controlplane.state.stores.words import Space
from controlplane.state.tiers import Tiers
from controlplane.tenancy.actions.audit import record
from controlplane.tenancy.models import Role, Tenant
from controlplane.tenancy.queries import Asker

log = structlog.get_logger(__name__)

TRAFFIC_HOURS = 48


def erase_owner(*, by: Asker, tenant: str, kind: str, owner: str, reason: str = "") -> int:
    """Erase all that an owner has, earlier versions too, on every tier; return how many values that were."""
    by.must(Role.OPERATOR)
    space = space_of(by, tenant, kind, owner)
    keys = async_to_sync(_erase)(space, reach.database_url())
    reach.tell([(tenant, name_of(tenant, kind, owner), 0)])
    with transaction.atomic():
        record(
            by=by,
            action="state.erased",
            target_kind=f"state-{kind}",
            target=f"{tenant}/{owner}"[:200],
            tenant=Tenant.objects.filter(slug=tenant).first(),
            summary=f"Erased {keys} values of {kind} {owner}"[:300],
            reason=reason,
        )
    return keys


async def _erase(space: Space, url: str) -> int:
    async with reach.reached(url) as atlas:
        await atlas.current()
        return await Tiers(atlas).erase(space)


def retain(*, now: datetime) -> int:
    """Delete users' and shared state that is older than the rules allow, and old counts of traffic; return how much."""
    Traffic.objects.filter(minute__lt=now - timedelta(hours=TRAFFIC_HOURS)).delete()
    if not Rule.objects.exclude(user_days=None, shared_days=None).exists():
        return 0
    due: dict[tuple[int, int], list[str]] = {}
    for tenant in Tenant.objects.all():
        rule, _ = rule_of(tenant)
        for kind, days in (("user", rule.user_days), ("shared", rule.shared_days)):
            if days is not None:
                due.setdefault((KINDS.index(kind), days), []).append(tenant.slug)
    return async_to_sync(_retain)(due, reach.database_url())


async def _retain(due: dict[tuple[int, int], list[str]], url: str) -> int:
    deleted = 0
    async with reach.reached(url) as atlas:
        for place in (await atlas.current()).places.values():
            if place.kind != "database":
                continue
            for (kind, days), tenants in due.items():
                try:
                    deleted += await (await atlas.database(place)).retain(tenants, kind, days)
                except Problem as problem:
                    log.warning("state.not_retained", node=place.name, error=problem.detail)
    return deleted

"""Brings the demo world into the database, through the same actions as everybody's clicks. Doing it again changes nothing."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from django.db import transaction

from controlplane.alerting.actions import configuring
from controlplane.alerting.models import Rule, Slo
from controlplane.budgets.actions.budgets import create_budget
from controlplane.budgets.models import Budget
from controlplane.policy.actions.policies import put_policy
from controlplane.policy.models import RoutePolicy
from controlplane.problems import Problem
from controlplane.runtime.demo import world
from controlplane.runtime.engines import write_secret
from controlplane.tenancy.actions import demo
from controlplane.tenancy.actions.keys import create_key
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import Role, SdkKey, Tenant
from controlplane.tenancy.queries import Asker
from controlplane.tenancy.secrets import digest

DEMO = Asker(name="demo", role=Role.ADMIN)


class Gone(Exception):
    """Somebody has removed the demo world; it does not come back by itself."""


@transaction.atomic
def seed(*, now: datetime, restore: bool) -> None:
    """Create what is missing of the demo world. ``Gone`` if it was removed and ``restore`` is false."""
    root = Tenant.objects.filter(slug=world.ROOT).first()
    if root is not None and not root.is_demo:
        raise Gone(f"A tenant named {world.ROOT} is yours: the demo world keeps out.")
    if root is not None and root.archived_at is not None:
        if not restore:
            raise Gone("The demo world was removed; --demo brings it back.")
        demo.restore_demo(by=DEMO)
    tenants = {one.slug: _tenant(one) for one in world.TENANTS}
    for budget in world.BUDGETS:
        _budget(tenants[budget.tenant], budget, now)
    for slug, route, document in world.POLICIES:
        if not RoutePolicy.objects.filter(tenant=tenants[slug], route=route).exists():
            put_policy(by=DEMO, tenant=tenants[slug], route=route, document=document, reason="the demo world")
    _watch(tenants[world.ROOT])


def _tenant(wanted: world.DemoTenant) -> Tenant:
    known = Tenant.objects.filter(slug=wanted.slug, is_demo=True).first()
    if known is not None:
        return known
    parent = Tenant.objects.get(slug=wanted.parent) if wanted.parent else None
    try:
        return create_tenant(by=DEMO, slug=wanted.slug, name=wanted.name, parent=parent, is_demo=True)
    except Problem as problem:
        raise Gone(f"The demo world can't have its tenant {wanted.slug}: {problem.detail}") from None


def _budget(tenant: Tenant, wanted: world.DemoBudget, now: datetime) -> None:
    if Budget.objects.filter(tenant=tenant, slug=wanted.slug).exists():
        return
    create_budget(
        by=DEMO,
        tenant=tenant,
        slug=wanted.slug,
        amount_nusd=wanted.amount_nusd,
        period=wanted.period,
        match=wanted.match,
        on_exhausted=wanted.on_exhausted,
        thresholds=list(wanted.thresholds),
        now=now,
    )


def _watch(root: Tenant) -> None:
    """Make the service levels and the rules that were never there: what somebody took away stays away."""
    for slo in world.SLOS:
        if not Slo.objects.filter(tenant=root, slug=slo.slug).exists():
            configuring.put_slo(by=DEMO, tenant=root, **slo._asdict())
    for rule in world.RULES:
        if not Rule.objects.filter(tenant=root, slug=rule["slug"]).exists():
            configuring.put_rule(by=DEMO, tenant=root, **rule)


def key_text(kept: Path) -> str:
    """Return the key of the demo's services, which is kept in the file ``kept``; a new one when that is lost or revoked."""
    text = kept.read_text().strip() if kept.exists() else ""
    if text and SdkKey.objects.filter(digest=digest(text), revoked_at=None).exists():
        return text
    with transaction.atomic():
        demo.revoke_demo_keys(by=DEMO)
        _key, text = create_key(by=DEMO, tenant=Tenant.objects.get(slug=world.ROOT), name=world.KEY_NAME)
    write_secret(kept, text)
    return text


def is_there() -> bool:
    """Tell whether the demo world has not been removed."""
    return Tenant.objects.filter(slug=world.ROOT, is_demo=True, archived_at=None).exists()

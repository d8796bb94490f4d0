"""What a change of intent makes of the snapshots that SDKs are served."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from controlplane.budgets.actions.budgets import archive_budget, change_amount, create_budget
from controlplane.budgets.actions.prices import refresh_price_book, set_override
from controlplane.policy.actions.breakers import reset, set_mode
from controlplane.policy.actions.policies import put_policy
from controlplane.policy.actions.publishing import SNAPSHOTS_KEPT, ensure_snapshot, forget_snapshots
from controlplane.policy.models import Revision, Snapshot
from controlplane.tenancy.actions.keys import create_key
from controlplane.tenancy.actions.tenants import archive_tenant, create_tenant
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import SYSTEM
from tidegate.core import snapshot as core

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 25, tzinfo=UTC)
MONTH = {"kind": "calendar", "unit": "month", "timezone": "UTC"}


@pytest.fixture
def acme() -> Tenant:
    tenant = create_tenant(by=SYSTEM, slug="acme", name="Acme")
    create_key(by=SYSTEM, tenant=tenant, name="app")
    return tenant


@pytest.fixture
def globex() -> Tenant:
    tenant = create_tenant(by=SYSTEM, slug="globex", name="Globex")
    create_key(by=SYSTEM, tenant=tenant, name="app")
    return tenant


def snapshot_of(tenant: Tenant | None) -> core.Snapshot:
    ensure_snapshot(tenant.pk if tenant else None)
    stored = Snapshot.objects.filter(scope=tenant).latest("id")
    return core.compile_snapshot(orjson.loads(bytes(stored.body)))


def count_of(tenant: Tenant | None) -> int:
    return Snapshot.objects.filter(scope=tenant).count()


def put(tenant: Tenant | None, route: str, document: dict[str, Any]) -> None:
    put_policy(by=SYSTEM, tenant=tenant, route=route, document=document)


def test_snapshot__the_tree_of_tenants__inherits_part_by_part(acme: Tenant) -> None:
    child = create_tenant(by=SYSTEM, slug="acme-eu", name="EU", parent=acme)
    put(None, "*", {"timeout_ms": 1, "queue": {"max_concurrent": 1}})
    put(acme, "chat", {"timeout_ms": 2})
    put(child, "*", {"enforcement": "shadow"})

    snapshot = snapshot_of(acme)

    chat = snapshot.policy_for("acme-eu", "chat")
    assert (chat.timeout_ms, chat.enforcement) == (2, "shadow")
    assert chat.queue is not None
    assert chat.queue.max_concurrent == 1
    assert snapshot.policy_for("acme-eu", "embed").timeout_ms == 1
    assert snapshot.policy_for("acme", "chat").enforcement == "enforce"


def test_snapshot__of_a_scope__knows_nothing_of_other_tenants(acme: Tenant, globex: Tenant) -> None:
    put(globex, "chat", {"timeout_ms": 3})
    create_budget(by=SYSTEM, tenant=globex, slug="secret", amount_nusd=1, period=MONTH, now=NOW)

    snapshot_of(acme)

    assert b"globex" not in bytes(Snapshot.objects.filter(scope=acme).latest("id").body)


def test_snapshot__an_unknown_tenant_under_a_scoped_key__is_governed_as_the_scope_is(acme: Tenant) -> None:
    budget = create_budget(by=SYSTEM, tenant=acme, slug="all", amount_nusd=1, period=MONTH, now=NOW)
    put(acme, "chat", {"timeout_ms": 4})

    snapshot = snapshot_of(acme)

    assert snapshot.policy_for("nobody", "chat").timeout_ms == 4
    assert [ref.id for ref in snapshot.budgets_for("nobody", route="chat")] == [budget.pk]


def test_snapshot__budgets__come_leaf_first_and_leave_when_archived(acme: Tenant) -> None:
    whole = create_budget(by=SYSTEM, tenant=None, slug="everything", amount_nusd=1, period=MONTH, now=NOW)
    mine = create_budget(by=SYSTEM, tenant=acme, slug="all", amount_nusd=1, period=MONTH, now=NOW)
    chat = create_budget(
        by=SYSTEM, tenant=acme, slug="chat", amount_nusd=1, period=MONTH, match={"route": "chat"}, now=NOW
    )

    before = [ref.id for ref in snapshot_of(acme).budgets_for("acme", route="chat")]
    archive_budget(by=SYSTEM, budget=mine, now=NOW)

    assert before == [chat.pk, mine.pk, whole.pk]
    assert [ref.id for ref in snapshot_of(acme).budgets_for("acme", route="embed")] == [whole.pk]


def test_publish__a_change_elsewhere__leaves_a_scope_s_snapshot_as_it_is(acme: Tenant, globex: Tenant) -> None:
    snapshot_of(acme)
    before = count_of(acme)

    put(globex, "chat", {"timeout_ms": 3})

    assert count_of(acme) == before


def test_publish__an_amount__makes_a_revision_and_no_snapshot(acme: Tenant) -> None:
    budget = create_budget(by=SYSTEM, tenant=acme, slug="all", amount_nusd=5, period=MONTH, now=NOW)
    before = count_of(acme)

    change_amount(by=SYSTEM, budget=budget, amount_nusd=7, now=NOW)

    assert count_of(acme) == before
    assert Revision.objects.latest("id").kind == "budget"


def test_put_policy__the_same_document_again__changes_nothing(acme: Tenant) -> None:
    put(acme, "chat", {"timeout_ms": 3})
    before = Revision.objects.count()

    put(acme, "chat", {"timeout_ms": 3})

    assert Revision.objects.count() == before


def test_breakers__forced_above_and_reset_below__both_reach_the_policy(acme: Tenant) -> None:
    set_mode(by=SYSTEM, tenant=None, route="chat", mode="forced_open")
    reset(by=SYSTEM, tenant=acme, route="chat")
    reset(by=SYSTEM, tenant=None, route="*")

    forced = snapshot_of(acme).policy_for("acme", "chat")
    set_mode(by=SYSTEM, tenant=None, route="chat", mode="auto")
    freed = snapshot_of(acme).policy_for("acme", "chat")

    assert forced.breaker is None or forced.breaker.mode in {"forced_open", "auto"}
    assert forced.breaker_resets == 2
    assert freed.breaker is None


def test_breakers__forced_by_a_tenant_s_ancestor__hold_unless_the_tenant_forces_them_itself(acme: Tenant) -> None:
    set_mode(by=SYSTEM, tenant=None, route="chat", mode="forced_open")
    above = snapshot_of(acme).policy_for("acme", "chat").breaker
    set_mode(by=SYSTEM, tenant=acme, route="chat", mode="forced_closed")

    own = snapshot_of(acme).policy_for("acme", "chat").breaker

    assert above is not None
    assert above.mode == "forced_open"
    assert own is not None
    assert own.mode == "forced_closed"


def test_prices__a_new_override__is_served_by_a_new_name(acme: Tenant) -> None:
    listed = refresh_price_book()
    set_override(by=SYSTEM, model="acme-7b", rates={"input": "0.10"})

    assert snapshot_of(acme).prices not in {None, listed}
    assert refresh_price_book() == snapshot_of(acme).prices


def test_archive_tenant__its_parent_s_snapshot__forgets_it(acme: Tenant) -> None:
    child = create_tenant(by=SYSTEM, slug="acme-eu", name="EU", parent=acme)
    known = list(snapshot_of(acme).tenants)

    archive_tenant(by=SYSTEM, tenant=child)

    assert known == ["acme", "acme-eu"]
    assert list(snapshot_of(acme).tenants) == ["acme"]


def test_forget_snapshots__replaced_long_ago__goes_and_the_newest_of_each_scope_stays(
    acme: Tenant, globex: Tenant
) -> None:
    for tenant in (acme, globex):
        ensure_snapshot(tenant.pk)
    for limit in (1, 2):
        put_policy(by=SYSTEM, tenant=acme, route="chat", document={"timeout_ms": 1000 * limit})
    newest = {scope: Snapshot.objects.filter(scope=scope).latest("id").pk for scope in (acme, globex, None)}
    Snapshot.objects.update(created_at=NOW)

    assert forget_snapshots(now=NOW + SNAPSHOTS_KEPT) == 0
    assert forget_snapshots(now=NOW + SNAPSHOTS_KEPT + timedelta(seconds=1)) > 0
    assert set(Snapshot.objects.values_list("pk", flat=True)) == set(newest.values())

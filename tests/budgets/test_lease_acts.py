"""An operator's hand on leases, and the end of those whose holders are lost."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from controlplane.budgets.accuracy import accuracy, leases_seen_by, lost_after
from controlplane.budgets.actions.lease_acts import expire_lost, resolve_lease, revoke_lease
from controlplane.budgets.actions.ledger import rebuild
from controlplane.budgets.models import Account, Budget, Lease, LedgerEntry
from controlplane.problems import Conflict, Forbidden, Invalid, NotFound
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import AuditEntry, Role, Tenant
from controlplane.tenancy.queries import SYSTEM, Asker
from tests.budgets.test_leases import NOW, budget, report, sync

pytestmark = pytest.mark.django_db(transaction=True)
TOTAL = {"kind": "total"}
DAILY = {"kind": "rolling", "days": 1}
LOST = NOW + lost_after() + timedelta(seconds=1)


@pytest.fixture
def acme() -> Tenant:
    return create_tenant(by=SYSTEM, slug="acme", name="Acme")


@pytest.fixture
def me() -> UUID:
    return uuid4()


def lease(me: UUID, path: list[Budget]) -> None:
    """Open a lease of which 50 are settled and 200 are left."""
    sync(report(me, path, want=250, min_useful=10))
    sync(report(me, path, seq=2, want=200, settled=50))


def resolve(me: UUID, **more: Any) -> Lease:
    named = {"by": SYSTEM, "number": 1, "reason": "the host is gone", "now": LOST, **more}
    return resolve_lease(incarnation=me, **named)


def stands() -> tuple[int, int, int]:
    account = Account.objects.get()
    return account.outstanding_nusd, account.settled_nusd, account.presumed_nusd


def test_revoke__a_lease__grants_no_more_and_stays_exposed_until_its_holder_reports(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "all", 1000, TOTAL)]
    sync(report(me, path, want=200, min_useful=10))

    revoke_lease(by=SYSTEM, incarnation=me, number=1, reason="a loop", now=NOW)
    (answer,) = sync(report(me, path, seq=2, want=500, settled=40))
    exposed = stands()
    (last,) = sync(report(me, path, seq=3, settled=60, final=True))

    assert (answer.granted, answer.closed, answer.denied, answer.cap) == (200, True, "closed", 0)
    assert exposed == (160, 40, 0)
    assert (last.closed, stands()) == (True, (0, 60, 0))
    assert rebuild().differences == []
    revoked = LedgerEntry.objects.get(kind="revoke")
    assert (revoked.by, revoked.reason) == ("system", "a loop")
    assert AuditEntry.objects.filter(action="lease.revoked", reason="a loop").exists()


def test_resolve__a_lost_holder__charges_what_was_left(acme: Tenant, me: UUID) -> None:
    lease(me, [budget(acme, "all", 1000, TOTAL)])

    resolve(me)

    assert stands() == (0, 250, 200)
    assert rebuild().differences == []
    entry = LedgerEntry.objects.get(kind="correct")
    assert (entry.presumed_nusd, entry.by, entry.reason) == (200, "system", "the host is gone")


def test_resolve__what_was_spent_is_known__frees_the_rest(acme: Tenant, me: UUID) -> None:
    lease(me, [budget(acme, "all", 1000, TOTAL)])

    resolve(me, spent_nusd=30)

    assert stands() == (0, 80, 30)


@pytest.mark.parametrize(("settled", "final", "expected"), [(90, True, 90), (90, False, 250), (260, False, 260)])
def test_resolve__its_holder_comes_back__what_it_says_replaces_what_was_presumed(
    acme: Tenant, me: UUID, settled: int, final: bool, expected: int
) -> None:
    path = [budget(acme, "all", 1000, TOTAL)]
    lease(me, path)
    resolve(me)

    sync(report(me, path, seq=3, settled=settled, final=final), now=LOST + timedelta(hours=1))

    account = Account.objects.get()
    assert (account.settled_nusd, account.overage_nusd) == (expected, max(0, settled - 250))
    assert rebuild().differences == []


def test_resolve__a_holder_that_is_heard_of__conflicts(acme: Tenant, me: UUID) -> None:
    sync(report(me, [budget(acme, "all", 1000, TOTAL)], want=200))

    with pytest.raises(Conflict):
        resolve(me, now=NOW + lost_after())


@pytest.mark.parametrize(
    ("more", "field"),
    [({"spent_nusd": 201}, "spent_usd"), ({"spent_nusd": -1}, "spent_usd"), ({"reason": " "}, "reason")],
)
def test_resolve__wrong_input__is_refused_by_name(acme: Tenant, me: UUID, more: Any, field: str) -> None:
    sync(report(me, [budget(acme, "all", 1000, TOTAL)], want=200))

    with pytest.raises(Invalid) as raised:
        resolve(me, **more)

    assert list(raised.value.errors) == [field]


def test_resolve__by_somebody_who_may_not__changes_nothing(acme: Tenant, me: UUID) -> None:
    sync(report(me, [budget(acme, "all", 1000, TOTAL)], want=200))
    other = create_tenant(by=SYSTEM, slug="globex", name="Globex")

    with pytest.raises(NotFound):
        resolve(me, by=Asker(name="gus", role=Role.OPERATOR, tenant=other))
    with pytest.raises(Forbidden):
        resolve(me, by=Asker(name="vera", role=Role.VIEWER))

    assert stands() == (200, 0, 0)
    assert leases_seen_by(Asker(name="gus", role=Role.OPERATOR, tenant=other), NOW) == []


def test_expire__a_lost_lease__is_kept_until_its_charges_have_left_the_window(acme: Tenant, me: UUID) -> None:
    lease(me, [budget(acme, "day", 1000, DAILY), budget(None, "all", 5000, TOTAL)])
    left = NOW + timedelta(days=1, minutes=8)

    early = expire_lost(now=left - timedelta(minutes=4))
    late = expire_lost(now=left)

    assert (early, late) == (0, 1)
    standing = {each.budget.slug: each for each in accuracy(SYSTEM, left)}
    assert (standing["day"].settled_nusd, standing["day"].free_nusd) == (0, 1000)
    assert (standing["all"].settled_nusd, standing["all"].presumed_nusd) == (250, 200)
    assert rebuild().differences == []
    assert expire_lost(now=left) == 0


def test_expire__a_lease_that_may_be_finished__is_kept(acme: Tenant, me: UUID) -> None:
    lease(me, [budget(acme, "day", 1000, DAILY, on_disconnect="finish_lease")])

    assert expire_lost(now=NOW + timedelta(days=9)) == 0


def test_expire__a_lease_on_budgets_without_windows__is_kept(acme: Tenant, me: UUID) -> None:
    sync(report(me, [budget(acme, "all", 1000, TOTAL)], want=200))

    assert expire_lost(now=NOW + timedelta(days=400)) == 0
    assert leases_seen_by(SYSTEM, NOW + timedelta(days=400))[0].lost

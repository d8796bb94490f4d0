"""The ledger: what each sync leaves in it, and that every counter can be rebuilt from it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.utils import DatabaseError

from controlplane.budgets.actions.ledger import prove, rebuild
from controlplane.budgets.actions.ledger_keeping import make_partitions
from controlplane.budgets.models import Account, AccountSlot, Budget, Lease, LedgerEntry, LedgerProof
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import SYSTEM
from tests.budgets.test_leases import NOW, budget, report, sync

pytestmark = pytest.mark.django_db(transaction=True)
ROLLING = {"kind": "rolling", "days": 1}


@pytest.fixture
def acme() -> Tenant:
    return create_tenant(by=SYSTEM, slug="acme", name="Acme")


@pytest.fixture
def me() -> UUID:
    return uuid4()


def kinds() -> list[str]:
    return list(LedgerEntry.objects.order_by("at", "id").values_list("kind", flat=True))


def a_busy_hour(me: UUID, path: list[Budget]) -> None:
    """Two leases that open, spend, return, correct, are denied and close, with repeats and reports out of order."""
    other = uuid4()
    sync(report(me, path, want=500, min_useful=10), report(other, path, number=4, want=100, min_useful=10))
    sync(report(me, path, seq=2, want=500, settled=120, held=10), now=NOW + timedelta(minutes=5))
    sync(report(me, path, seq=4, want=10**6, min_useful=10**6, settled=300, returned=50, denied=3))
    sync(report(me, path, seq=3, want=500, settled=200))
    sync(report(me, path, seq=5, settled=320, corrected=60, returned=50), now=NOW + timedelta(minutes=20))
    sync(report(other, path, number=4, seq=2, settled=40, final=True), now=NOW + timedelta(minutes=30))
    sync(report(other, path, number=4, seq=2, settled=40, final=True), now=NOW + timedelta(minutes=31))


def test_rebuild__after_all_that_leases_do__finds_no_difference(acme: Tenant, me: UUID) -> None:
    a_busy_hour(me, [budget(acme, "day", 5000, ROLLING), budget(acme, "month", 9000), budget(None, "all", 9000)])

    found = rebuild()

    assert found.differences == []
    assert (found.leases, found.accounts, found.slots > 1) == (2, 3, True)


def test_merge__what_a_sync_changed__is_one_entry_per_lease(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "month", 9000)]
    sync(report(me, path, want=500, min_useful=10))
    sync(report(me, path, seq=2, want=500, settled=120))
    sync(report(me, path, seq=3, settled=120, corrected=20))
    sync(report(me, path, seq=4, settled=120, corrected=20, denied=2))
    sync(report(me, path, seq=5, settled=120, corrected=20, denied=2, final=True))

    entries = list(LedgerEntry.objects.order_by("id"))
    assert [each.kind for each in entries] == ["open", "settle", "correct", "deny", "close"]
    assert [each.settled_nusd for each in entries] == [0, 120, 0, 0, 0]
    assert entries[1].granted_nusd == 120


def test_merge__nothing_changed__leaves_no_entry(acme: Tenant, me: UUID) -> None:
    said = report(me, [budget(acme, "month", 9000)], want=500, settled=30)
    sync(said)
    before = kinds()

    sync(said, now=NOW + timedelta(seconds=5))

    assert kinds() == before == ["open"]


def test_rebuild__counters_that_were_tampered_with__are_named(acme: Tenant, me: UUID) -> None:
    a_busy_hour(me, [budget(acme, "day", 5000, ROLLING)])
    Lease.objects.filter(number=1).update(granted_nusd=1)
    Account.objects.update(settled_nusd=7)
    AccountSlot.objects.order_by("starts_at").first().delete()  # type: ignore[union-attr]

    found = rebuild()

    assert {(each.what, each.field) for each in found.differences} == {
        ("lease", "granted"),
        ("account", "settled"),
        ("slot", "settled"),
    }
    assert found.difference_count == 3


def test_merge__a_correction_in_a_rolling_window__never_outlives_the_charge(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "day", 1000, ROLLING)]
    sync(report(me, path, want=900, min_useful=10))
    sync(report(me, path, seq=2, settled=200), now=NOW + timedelta(hours=1))
    sync(report(me, path, seq=3, settled=200, corrected=150), now=NOW + timedelta(hours=20))

    slots = dict(AccountSlot.objects.values_list("starts_at", "settled_nusd"))

    assert slots == {NOW: -150, NOW + timedelta(hours=1): 200}
    assert rebuild().difference_count == 0


def test_ledger__an_entry_is_changed_or_deleted__refuses(acme: Tenant, me: UUID) -> None:
    sync(report(me, [budget(acme, "month", 9000)], want=500))

    with pytest.raises(DatabaseError, match="append-only"):
        LedgerEntry.objects.update(granted_nusd=0)
    with pytest.raises(DatabaseError, match="append-only"), connection.cursor() as cursor:
        cursor.execute("DELETE FROM budgets_ledgerentry")


def test_make_partitions__entries_that_came_before_them__move_in(acme: Tenant, me: UUID) -> None:
    sync(report(me, [budget(acme, "month", 9000)], want=500))

    made = make_partitions(today=NOW.date())

    assert made == ["budgets_ledgerentry_20261125", "budgets_ledgerentry_20261126", "budgets_ledgerentry_20261127"]
    assert make_partitions(today=NOW.date()) == []
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM budgets_ledgerentry_20261125")
        assert cursor.fetchone() == (1,)
        for name in made:
            cursor.execute(f"DROP TABLE {name}")


def test_ledger_verify__all_is_well__says_so_and_keeps_the_proof(acme: Tenant, me: UUID) -> None:
    a_busy_hour(me, [budget(acme, "month", 9000)])
    out = StringIO()

    call_command("ledger", "verify", stdout=out)

    assert ": 0 differ" in out.getvalue()
    assert LedgerProof.objects.get().difference_count == 0


def test_ledger_verify__a_counter_differs__names_it_and_fails(acme: Tenant, me: UUID) -> None:
    a_busy_hour(me, [budget(acme, "month", 9000)])
    Account.objects.update(outstanding_nusd=1)
    out = StringIO()

    with pytest.raises(CommandError):
        call_command("ledger", "verify", stdout=out)

    assert "outstanding is 1" in out.getvalue()


def test_prove__many_proofs__keeps_the_newest(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controlplane.budgets.actions.ledger.KEEP_PROOFS", 2)
    for day in (1, 2, 3):
        prove(now=datetime(2026, 11, day, tzinfo=UTC))

    assert [each.at.day for each in LedgerProof.objects.all()] == [3, 2]

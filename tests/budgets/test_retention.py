"""What is folded and forgotten, and that nothing is lost by it: no total, no refusal, no proof."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection, connections
from django.db.models import QuerySet

from controlplane.budgets.accuracy import accuracy
from controlplane.budgets.actions.folding import fold_leases, is_proved
from controlplane.budgets.actions.forgetting import end_clients, forget_periods, forget_slots
from controlplane.budgets.actions.ledger import prove, rebuild
from controlplane.budgets.actions.ledger_folding import carry_forward
from controlplane.budgets.actions.ledger_keeping import make_partitions
from controlplane.budgets.models import Account, AccountSlot, Budget, Lease, LeaseFloor, LedgerEntry
from controlplane.budgets.tasks import retain
from controlplane.domain.carry import CarryRule
from controlplane.domain.excess import MOST_CLAIM_NUSD
from controlplane.domain.taking_back import REST
from controlplane.fleet.models import EndedInstance, Instance
from controlplane.tenancy.actions.keys import create_key
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import SYSTEM
from tests.budgets.test_leases import NOW, account_of, acme, budget, me, report, sync

__all__ = ["acme", "me"]
pytestmark = pytest.mark.django_db(transaction=True)
KEEP = timedelta(days=35)
DAY = timedelta(days=1)
LATER = NOW + timedelta(days=40)
TOTAL: Any = {"kind": "total"}
DAILY: Any = {"kind": "rolling", "days": 1}
YEAR: Any = {"kind": "calendar", "unit": "year", "timezone": "UTC"}
DATE: Any = {"kind": "calendar", "unit": "day", "timezone": "UTC"}
HOUR: Any = {"kind": "calendar", "unit": "hour", "timezone": "UTC"}


def spent(me: UUID, path: list[Budget], number: int = 1, now: datetime = NOW) -> None:
    """A lease that opens, spends 300 of 500, has 20 corrected and 4 calls denied, and closes."""
    sync(report(me, path, number=number, want=500, min_useful=10), now=now)
    sync(report(me, path, number=number, seq=2, want=500, settled=300, returned=50), now=now)
    sync(report(me, path, number=number, seq=3, settled=300, returned=50, corrected=20, denied=4, final=True), now=now)


def totals() -> list[Any]:
    return list(
        Account.objects.order_by("pk").values_list(
            "outstanding_nusd", "settled_nusd", "denied_calls", "false_denied_calls", "presumed_nusd", "overage_nusd",
            "corrected_nusd",
        )
    )  # fmt: skip


def leases() -> QuerySet[Lease]:
    """The leases of clients: what folded ones leave behind is none of theirs."""
    return Lease.objects.exclude(number=REST)


def even() -> bool:
    return rebuild().differences == []


@pytest.fixture
def partitions() -> Iterator[None]:
    """Partitions of the days around the tests'; none of them outlives its test."""
    for day in range(0, 24, 3):
        make_partitions(today=(NOW + day * DAY).date())
    yield
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'budgets_ledgerentry'::regclass"
        )
        for (name,) in cursor.fetchall():
            if not name.endswith("strays"):
                cursor.execute(f"DROP TABLE {name}")


def test_fold__a_closed_lease_of_long_ago__is_gone_and_all_counters_stay(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "day", 5000, DAILY), budget(acme, "month", 9000), budget(None, "all", 9000, TOTAL)]
    spent(me, path)
    before = totals()

    done = fold_leases(now=LATER, keep=KEEP)

    assert done == (0, 1)
    assert not leases().exists()
    assert totals() == before
    entry = LedgerEntry.objects.get(kind="fold")
    assert (entry.settled_nusd, entry.corrected_nusd, entry.denied_calls, entry.path) == (
        -300,
        -20,
        -4,
        [account_of(each).pk for each in path],
    )
    found = rebuild()
    assert (found.differences, found.leases) == ([], 1)
    assert fold_leases(now=LATER, keep=KEEP) == (0, 0)


@pytest.mark.parametrize("numbers", [(3,), (1, 2, 3)])
def test_fold__whoever_speaks_of_a_folded_lease__is_told_that_it_is_closed_and_changes_nothing(
    acme: Tenant, me: UUID, numbers: tuple[int, ...]
) -> None:
    path = [budget(acme, "all", 9000, TOTAL)]
    for number in numbers:
        spent(me, path, number)
    fold_leases(now=LATER, keep=KEEP)
    before = totals()

    (again,) = sync(report(me, path, number=3, seq=9, want=500, min_useful=1, settled=900), now=LATER)
    (last,) = sync(report(me, path, number=3, seq=10, settled=300, final=True), now=LATER)
    (wild,) = sync(report(me, path, number=3, seq=11, settled=2 * MOST_CLAIM_NUSD), now=LATER)

    assert (again.granted, again.cap, again.closed, again.denied) == (0, 0, True, "closed")
    assert (last.closed, last.denied) == (True, None)
    assert (wild.closed, wild.denied) == (False, "excessive")
    assert totals() == before
    assert not leases().exists()
    assert even()


def test_fold__a_new_lease_of_the_same_client__is_opened(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "all", 9000, TOTAL)]
    spent(me, path, 3)
    fold_leases(now=LATER, keep=KEEP)

    (new,) = sync(report(me, path, number=4, want=500, min_useful=10), now=LATER)

    assert (new.granted, new.denied) == (500, None)
    assert LeaseFloor.objects.get().number == 3
    assert even()


@pytest.mark.parametrize(
    ("period", "after", "gone"),
    [
        (YEAR, timedelta(days=36), False),  # the year is not over
        (YEAR, timedelta(days=37), True),
        ({"kind": "rolling", "days": 60}, timedelta(days=59), False),
        ({"kind": "rolling", "days": 60}, timedelta(days=61), True),
        (TOTAL, timedelta(days=34), False),
        (TOTAL, timedelta(days=36), True),
    ],
)
def test_fold__before_its_periods_and_windows_are_over__never(
    acme: Tenant, me: UUID, period: Any, after: timedelta, gone: bool
) -> None:
    spent(me, [budget(acme, "leaf", 5000, DAILY), budget(acme, "root", 9000, period)])

    done = fold_leases(now=NOW + after, keep=KEEP)

    assert (done.folded == 1, leases().exists()) == (gone, not gone)


def test_fold__an_open_lease_whose_holder_is_heard_of__stays(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "all", 9000, TOTAL)]
    sync(report(me, path, want=500, min_useful=10))
    sync(report(me, path, seq=2, want=500, settled=10), now=LATER - DAY)

    assert fold_leases(now=LATER, keep=KEEP) == (0, 0)
    assert account_of(path[0]).outstanding_nusd == 500


def test_fold__a_holder_that_was_lost_as_long_ago__what_it_had_left_is_presumed_spent(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "month", 9000), budget(None, "all", 9000, TOTAL)]
    sync(report(me, path, want=500, min_useful=10))
    sync(report(me, path, seq=2, want=400, settled=100))
    exposed = [outstanding + settled for outstanding, settled, *_ in totals()]

    done = fold_leases(now=LATER, keep=KEEP)

    assert done == (1, 1)
    assert [(row[0], row[1], row[4]) for row in totals()] == [(0, 500, 400)] * 2
    assert [outstanding + settled for outstanding, settled, *_ in totals()] == exposed
    assert even()


def test_fold__a_lost_holder_may_finish_its_lease_without_a_period_to_end_it__is_left_alone(
    acme: Tenant, me: UUID
) -> None:
    path = [budget(acme, "all", 9000, TOTAL, on_disconnect="finish_lease")]
    sync(report(me, path, want=500, min_useful=10))

    assert fold_leases(now=LATER, keep=KEEP) == (0, 0)
    assert account_of(path[0]).outstanding_nusd == 500


def test_fold__more_than_a_batch_and_some_that_stay__all_that_can_go_go(
    acme: Tenant, me: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlplane.budgets.actions.folding.BATCH", 3)
    path, long = [budget(acme, "all", 9000, TOTAL)], [budget(acme, "ninety", 9000, {"kind": "rolling", "days": 90})]
    sync(*[report(me, long, number=number, settled=1, final=True) for number in range(1, 5)])
    sync(*[report(me, path, number=number, settled=1, final=True) for number in range(5, 13)], now=NOW + DAY)

    done = fold_leases(now=LATER, keep=KEEP)

    assert done.folded == 8
    assert set(leases().values_list("number", flat=True)) == {1, 2, 3, 4}
    assert even()


def test_fold__a_lease_that_a_sync_holds__waits_for_the_next_run(acme: Tenant, me: UUID) -> None:
    spent(me, [budget(acme, "all", 9000, TOTAL)])
    other = connections["default"].copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN; SELECT * FROM budgets_lease FOR UPDATE")

        assert fold_leases(now=LATER, keep=KEEP) == (0, 0)
    finally:
        other.close()

    assert fold_leases(now=LATER, keep=KEEP) == (0, 1)


def test_accuracy__leases_of_long_ago_are_folded__says_the_same(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "day", 5000, DAILY), budget(acme, "all", 9000, TOTAL)]
    spent(me, path)
    spent(uuid4(), path, now=LATER)
    before = accuracy(SYSTEM, LATER)

    fold_leases(now=LATER, keep=KEEP)

    assert accuracy(SYSTEM, LATER) == before


@pytest.mark.usefixtures("partitions")
def test_carry_forward__old_days__are_a_few_entries_that_come_to_the_same(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "day", 9000, DAILY), budget(acme, "month", 90_000), budget(None, "all", 90_000, TOTAL)]
    other = uuid4()
    for day in range(6):
        spent(me, path, 1 + day, NOW + day * DAY)
        for minute in range(10):
            seq = 1 + 10 * day + minute
            sync(
                report(other, path, seq=seq, settled=10 * seq, want=100),
                now=NOW + day * DAY + timedelta(minutes=minute),
            )
    fold_leases(now=LATER, keep=KEEP)
    before, entries = totals(), LedgerEntry.objects.count()

    done = carry_forward(now=LATER, keep_days=37)

    assert [day.day for day in done] == [25, 26, 27]
    assert totals() == before
    assert even()
    assert LedgerEntry.objects.count() < entries - 20
    assert LedgerEntry.objects.filter(kind="carry", incarnation=other).count() == 3
    assert not LedgerEntry.objects.filter(kind="carry", incarnation=me).exists()
    assert carry_forward(now=LATER, keep_days=37) == []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT to_regclass('budgets_ledgerentry_20261125'), to_regclass('budgets_ledgerentry_20261128')"
        )
        assert cursor.fetchone() == (None, "budgets_ledgerentry_20261128")


@pytest.mark.usefixtures("partitions")
def test_carry_forward__again_and_again__everything_stays_even_and_nothing_grows(acme: Tenant, me: UUID) -> None:
    path = [
        budget(acme, "day", 90_000, DAILY),
        budget(acme, "date", 900_000, DATE),
        budget(None, "all", 900_000, TOTAL),
    ]
    steady, counts = uuid4(), []
    for day in range(20):
        now = NOW + day * DAY
        spent(me, path, 1 + day, now)
        sync(report(steady, path, seq=1 + day, settled=10 * day, corrected=day, want=100, min_useful=1), now=now)
        fold_leases(now=now, keep=3 * DAY)
        forget_slots(now=now)
        forget_periods(now=now, keep=3 * DAY)
        carry_forward(now=now, keep_days=4)
        if day % 4 == 3:
            assert even()
            counts.append([rows.objects.count() for rows in (Lease, LedgerEntry, AccountSlot, Account)])
    sync(report(steady, path, seq=99, settled=400, corrected=100, final=True), now=now)

    assert even()
    assert counts[3] == counts[4]
    assert account_of(path[2]).settled_nusd == 20 * 280 + 300


def test_carry_forward__entries_of_days_without_a_partition__are_carried_too(acme: Tenant, me: UUID) -> None:
    spent(me, [budget(acme, "all", 9000, TOTAL)])
    before = totals()

    done = carry_forward(now=LATER, keep_days=35)

    assert done == [NOW.date()]
    assert set(LedgerEntry.objects.values_list("kind", flat=True)) == {"carry"}
    assert (totals(), even()) == (before, True)


@pytest.mark.usefixtures("partitions")
def test_carry_forward__somebody_reads_an_old_day__waits_for_the_next_run(
    acme: Tenant, me: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlplane.budgets.actions.ledger_folding.PATIENCE", "10ms")
    spent(me, [budget(acme, "all", 9000, TOTAL)])
    other = connections["default"].copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN; SELECT count(*) FROM budgets_ledgerentry")

        assert carry_forward(now=LATER, keep_days=35) == []
    finally:
        other.close()

    assert carry_forward(now=LATER, keep_days=35) == [NOW.date()]
    assert even()


def test_forget_slots__those_that_left_the_window__go_and_the_proof_stays_even(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "day", 9000, DAILY)]
    sync(report(me, path, want=500, settled=100))
    sync(report(me, path, seq=2, want=500, settled=150), now=LATER)

    assert forget_slots(now=LATER) == 1
    assert even()
    sync(report(me, path, seq=3, want=500, settled=150, corrected=120), now=LATER)

    assert list(AccountSlot.objects.order_by("starts_at").values_list("settled_nusd", flat=True)) == [-120, 50]
    assert account_of(path[0]).settled_nusd == 30
    assert even()
    assert forget_slots(now=LATER) == 1


def test_forget_periods__those_long_past__go_but_the_last_and_those_with_leases(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "hour", 9000, HOUR, carry=CarryRule(5000, True))]
    for hour in range(5):
        spent(me, path, 1 + hour, NOW + timedelta(hours=hour))
    Lease.objects.exclude(number=2).delete()
    (kept,) = Lease.objects.get().path

    gone = forget_periods(now=LATER, keep=KEEP)

    last = Account.objects.order_by("-ends_at").values_list("pk", flat=True)[0]
    assert gone == 3
    assert set(Account.objects.values_list("pk", flat=True)) == {kept, last}


def test_is_proved__no_proof_yet_or_one_with_a_difference__is_not_so(acme: Tenant, me: UUID) -> None:
    assert not is_proved()
    spent(me, [budget(acme, "all", 9000, TOTAL)])
    prove(now=NOW)
    assert is_proved()
    Account.objects.update(settled_nusd=1)
    prove(now=NOW + DAY)

    assert not is_proved()


def client(me: UUID, tenant: Tenant, seen_at: datetime) -> Instance:
    key, _ = create_key(by=SYSTEM, name=f"key {me}", tenant=tenant)
    return Instance.objects.create(
        incarnation=me, key=key, scope=tenant, app="app", host="host", pid=1, sdk="test", seen_at=seen_at
    )


def test_end_clients__silent_for_long_without_leases__only_their_names_are_left(acme: Tenant, me: UUID) -> None:
    holds, lives = uuid4(), uuid4()
    path = [budget(acme, "all", 9000, TOTAL)]
    spent(me, path)
    fold_leases(now=LATER, keep=KEEP)
    spent(holds, path)
    client(me, acme, NOW)
    client(holds, acme, NOW)
    client(lives, acme, LATER)

    assert end_clients(now=LATER, keep=KEEP) == 1

    assert set(Instance.objects.values_list("incarnation", flat=True)) == {holds, lives}
    assert EndedInstance.objects.get().incarnation == me
    assert not LeaseFloor.objects.exists()


def test_retain__after_a_clean_proof__folds_carries_and_forgets(acme: Tenant, me: UUID) -> None:
    past = datetime.now(UTC) - timedelta(days=100)
    spent(me, [budget(acme, "all", 9000, TOTAL)], now=past)
    client(me, acme, past)

    retain()
    assert Lease.objects.count() == 1
    prove(now=datetime.now(UTC))
    retain()

    assert not leases().exists()
    assert EndedInstance.objects.get().incarnation == me
    assert not LedgerEntry.objects.filter(at__lt=past + DAY).exists()
    assert even()

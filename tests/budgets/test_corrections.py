"""What was charged by mistake is taken back, from every budget that was charged with it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from controlplane.budgets.actions.corrections import take_back
from controlplane.budgets.actions.folding import fold_leases
from controlplane.budgets.actions.lease_acts import resolve_lease
from controlplane.budgets.actions.ledger import rebuild
from controlplane.budgets.actions.ledger_folding import carry_forward
from controlplane.budgets.models import Account, Budget, Lease, LedgerEntry
from controlplane.budgets.queries import standing_of
from controlplane.domain.taking_back import REST
from controlplane.problems import Forbidden, Invalid
from controlplane.tenancy.models import AuditEntry, Role, Tenant
from controlplane.tenancy.queries import SYSTEM, Asker
from tests.budgets.test_leases import MONTH, NOW, account_of, acme, budget, me, report, sync

__all__ = ["acme", "me"]
pytestmark = pytest.mark.django_db(transaction=True)
DAILY = {"kind": "rolling", "days": 1}


def back(item: Budget, nusd: int, **more: Any) -> list[int]:
    named: dict[str, Any] = {"by": SYSTEM, "reason": "counted twice", "now": NOW, **more}
    return [entry.corrected for entry in take_back(budget=item, amount_nusd=nusd, **named)]


def test_take_back__part_of_what_one_client_spent__makes_room_on_the_whole_path(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "all", 1000), budget(None, "everything", 2000)]
    sync(report(me, path, want=1000, min_useful=1000, waiting=1000))
    sync(report(me, path, seq=2, settled=1000, want=0))

    back(path[0], 300)
    (answer,) = sync(report(me, path, seq=3, settled=1000, want=300, min_useful=300, waiting=300))

    assert (answer.granted, answer.denied) == (1300, None)
    assert [(account_of(item).settled_nusd, account_of(item).corrected_nusd) for item in path] == [(700, 300)] * 2
    entry = LedgerEntry.objects.get(kind="correct")
    assert (entry.corrected_nusd, entry.by, entry.reason) == (300, "system", "counted twice")
    assert rebuild().differences == []
    assert AuditEntry.objects.get(action="budget.taken_back").reason == "counted twice"


def test_take_back__more_than_one_lease_has_spent__from_the_last_opened_first(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "all", 1000)]
    sync(report(me, path, settled=100))
    sync(report(me, path, number=2, settled=50), now=NOW + timedelta(seconds=1))

    assert sorted(back(path[0], 80)) == [30, 50]
    assert account_of(path[0]).settled_nusd == 70
    assert rebuild().differences == []


def test_take_back__rolling_window__what_is_in_it_is_less(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "day", 1000, DAILY)]
    sync(report(me, path, want=500, min_useful=500, waiting=500))
    sync(report(me, path, seq=2, settled=400))

    back(path[0], 150)

    assert standing_of(path[0], NOW).spent_nusd == 250
    assert rebuild().differences == []


@pytest.mark.parametrize(
    ("nusd", "more", "field"),
    [(101, {}, "amount_usd"), (0, {}, "amount_usd"), (-5, {}, "amount_usd"), (5, {"reason": " "}, "reason")],
)
def test_take_back__what_was_not_charged__is_refused_by_name(
    acme: Tenant, me: UUID, nusd: int, more: Any, field: str
) -> None:
    path = [budget(acme, "all", 1000)]
    sync(report(me, path, settled=100))

    with pytest.raises(Invalid) as raised:
        back(path[0], nusd, **more)

    assert list(raised.value.errors) == [field]
    assert account_of(path[0]).settled_nusd == 100


LATER = NOW + timedelta(days=40)
TOTAL: Any = {"kind": "total"}


def fold(now: datetime = LATER) -> None:
    fold_leases(now=now, keep=timedelta(days=35))


def test_take_back__what_was_charged_has_been_folded__makes_room_where_it_still_counts(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "month", 1000), budget(acme, "all", 1000, TOTAL), budget(None, "everything", 2000, TOTAL)]
    sync(report(me, path, settled=100, corrected=10, final=True), report(me, path, number=2, settled=50, final=True))
    sync(report(me, path[1:2], number=3, settled=7, final=True))
    fold()

    back(path[2], 120, now=LATER)

    assert [account_of(item).settled_nusd for item in path] == [140, 27, 20]
    assert [account_of(item).corrected_nusd for item in path] == [10, 130, 130]
    assert rebuild().differences == []
    with pytest.raises(Invalid, match="So much"):
        back(path[2], 21, now=LATER)


def test_take_back__a_lost_holder_has_been_folded__what_was_presumed_comes_back_and_its_word_changes_nothing(
    acme: Tenant, me: UUID
) -> None:
    path = [budget(acme, "all", 1000, TOTAL)]
    sync(report(me, path, want=500, min_useful=500, waiting=500))
    sync(report(me, path, seq=2, want=400, settled=100))
    fold()

    back(path[0], 400, now=LATER)
    (late,) = sync(report(me, path, seq=3, settled=450, want=500, min_useful=1), now=LATER)

    account = account_of(path[0])
    assert (account.settled_nusd, account.presumed_nusd, account.corrected_nusd) == (100, 0, 0)
    assert (late.denied, late.granted, late.closed) == ("closed", 0, True)
    assert rebuild().differences == []


def test_take_back__folded_leases_of_one_budget_time_and_again__leave_one_rest(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "all", 10_000, TOTAL)]
    for day in range(4):
        sync(report(me, path, number=1 + day, settled=100, final=True), now=NOW + timedelta(days=day))
        fold(LATER + timedelta(days=day))

    back(path[0], 350, now=LATER)
    fold(LATER + timedelta(days=400))

    (rest,) = Lease.objects.all()
    assert (rest.number, rest.settled_nusd, rest.corrected_nusd) == (REST, 400, 350)
    assert account_of(path[0]).settled_nusd == 50
    assert rebuild().differences == []


def test_take_back__a_rest_is_carried_forward_with_the_ledger__still_adds_up(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "all", 1000, TOTAL)]
    sync(report(me, path, settled=100, final=True))
    fold()
    back(path[0], 30, now=LATER)

    carry_forward(now=LATER + timedelta(days=40), keep_days=35)

    assert rebuild().differences == []
    back(path[0], 70, now=LATER)
    assert account_of(path[0]).settled_nusd == 0
    assert rebuild().differences == []


def test_take_back__a_lost_holder_that_comes_back__pays_what_it_spent(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "all", 1000)]
    sync(report(me, path, want=500, min_useful=500, waiting=500))
    sync(report(me, path, seq=2, want=400, settled=100))
    resolve_lease(by=SYSTEM, incarnation=me, number=1, reason="burned", now=NOW + timedelta(hours=1))

    back(path[0], 300)
    stood = account_of(path[0]).settled_nusd
    sync(report(me, path, seq=3, settled=350, final=True))

    assert (stood, account_of(path[0]).settled_nusd) == (200, 350)
    assert rebuild().differences == []


def test_take_back__nothing_was_ever_charged__is_refused(acme: Tenant) -> None:
    with pytest.raises(Invalid):
        back(budget(acme, "all", 1000, MONTH), 1)


def test_take_back__budgets_above_the_askers_were_charged_too__is_not_theirs_to_do(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "all", 1000), budget(None, "everything", 2000)]
    sync(report(me, path, settled=100))

    with pytest.raises(Forbidden):
        back(path[0], 50, by=Asker(name="otto", role=Role.OPERATOR, tenant=acme))
    with pytest.raises(Forbidden):
        back(path[0], 50, by=Asker(name="vera", role=Role.VIEWER))

    assert set(Account.objects.values_list("settled_nusd", flat=True)) == {100}


def test_take_back__its_client_corrects_the_same_lease__counts_as_far_as_that_is_more(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "all", 1000)]
    sync(report(me, path, want=1000, min_useful=1000, waiting=1000))
    sync(report(me, path, seq=2, settled=1000))
    back(path[0], 300)

    charged = []
    for seq, corrected in ((3, 200), (4, 400), (5, 400)):
        sync(report(me, path, seq=seq, settled=1000, corrected=corrected))
        charged.append(account_of(path[0]).settled_nusd)

    assert charged == [700, 600, 600]
    assert rebuild().differences == []

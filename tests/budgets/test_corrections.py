"""What was charged by mistake is taken back, from every budget that was charged with it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from controlplane.budgets.actions.corrections import take_back
from controlplane.budgets.actions.folding import fold_leases
from controlplane.budgets.actions.ledger import rebuild
from controlplane.budgets.models import Account, Budget, LedgerEntry
from controlplane.budgets.queries import standing_of
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


def test_take_back__what_was_charged_has_been_folded__is_refused_and_says_so(acme: Tenant, me: UUID) -> None:
    path = [budget(acme, "all", 1000, {"kind": "total"})]
    sync(report(me, path, settled=100, final=True))
    fold_leases(now=NOW + timedelta(days=40), keep=timedelta(days=35))

    with pytest.raises(Invalid) as raised:
        back(path[0], 50, now=NOW + timedelta(days=40))

    assert raised.value.errors["amount_usd"].endswith("in this period on leases that are not folded yet")
    assert account_of(path[0]).settled_nusd == 100


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

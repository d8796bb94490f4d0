"""Whatever any number of clients say, every counter of an account fits into 64 bits, and who is honest is counted whole."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.budgets.schemas import LeaseReport
from controlplane.domain.excess import MOST_CLAIM_NUSD, drop_excessive
from controlplane.domain.grants import Account, Counters
from controlplane.domain.leases import (
    MOST_NUSD,
    BudgetTerms,
    LeaseKey,
    OpenAccount,
    OpenLease,
    Stood,
    merge_report,
)
from controlplane.domain.periods import PeriodRule

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
MOST_COUNTED = 2**63 - 1
AMOUNTS = st.sampled_from([0, 1, 1000, MOST_CLAIM_NUSD - 1, MOST_CLAIM_NUSD, MOST_NUSD - 1, MOST_NUSD])
LIES = st.fixed_dictionaries(
    dict.fromkeys(("settled", "returned", "corrected", "held", "want", "min_useful"), AMOUNTS)
    | {"denied": st.sampled_from([0, 1, 2**53]), "final": st.booleans()}
)


def opened(number: int, *, amount: int, blocks: bool, kind: str) -> OpenAccount:
    budget = BudgetTerms(
        number, f"/b{number}", None, PeriodRule(kind, days=1 if kind == "rolling" else None), archived=False
    )
    return OpenAccount(number, budget, None, Account(amount, 0, 0, blocks))


def said(number: int, seq: int, **counters: Any) -> LeaseReport:
    return LeaseReport(incarnation=UUID(int=number), seq=seq, number=1, budgets=(1, 2), **counters)


@settings(deadline=None)
@given(
    lies=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 4), LIES), max_size=12),
    amounts=st.lists(AMOUNTS, min_size=2, max_size=2),
    blocks=st.lists(st.booleans(), min_size=2, max_size=2),
    kind=st.sampled_from(["total", "rolling"]),
    near=st.sampled_from([0, MOST_NUSD // 2, MOST_NUSD - 1000]),
)
def test_merge_report__any_lies_of_many__every_sum_fits(
    lies: list[tuple[int, int, dict[str, int]]], amounts: list[int], blocks: list[bool], kind: str, near: int
) -> None:
    accounts = {
        number: opened(number, amount=amount, blocks=hard, kind=kind)
        for number, amount, hard in zip((1, 2), amounts, blocks, strict=True)
    }
    for account in accounts.values():
        account.stood = Stood(3 * near, near, near, near)
    leases: dict[LeaseKey, OpenLease] = {}
    for turn in range(2):
        for liar, times, lie in lies:
            for again in range(times):
                report = said(liar + 1000 * (turn * 50 + again), turn, **lie)
                key = (report.incarnation, 1)
                known = {key: leases.get(key) or OpenLease(key, [1, 2], opened_at=NOW)}
                if drop_excessive([report], known):
                    continue
                leases[key] = known[key]
                merge_report(report, leases[key], accounts, now=NOW, ttl_ms=15000)
    for account in accounts.values():
        counted = (
            account.outstanding,
            account.settled,
            account.denied,
            account.overage,
            account.corrected,
            account.presumed,
        )
        assert max(map(abs, counted)) + 3 * near <= MOST_COUNTED
        assert max(account.overage, account.corrected, account.denied) + near <= MOST_NUSD
        gross = sum(lease.counters.settled for lease in leases.values())
        assert gross <= MOST_COUNTED
        assert account.settled == sum(lease.charged for lease in leases.values())
        assert account.outstanding == sum(lease.outstanding for lease in leases.values())
        assert account.denied == sum(lease.denied for lease in leases.values())


def test_merge_report__an_account_that_has_taken_all_claims__counts_what_was_leased_and_no_more() -> None:
    account = opened(1, amount=1000, blocks=True, kind="total")
    account.overage = MOST_NUSD - 5
    lease = OpenLease((UUID(int=1), 1), [1], Counters(granted=100), opened_at=NOW)

    merge_report(said(1, 1, settled=120), lease, {1: account}, now=NOW, ttl_ms=15000)

    assert lease.counters.settled == 105
    assert account.overage == MOST_NUSD
    merge_report(said(1, 2, settled=130, final=True), lease, {1: account}, now=NOW, ttl_ms=15000)
    assert lease.closed
    assert lease.counters.settled == 105

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.grants import Account, Ask, Counters, cap, decide

MONEY = st.integers(0, 10**12)
COUNTERS = st.builds(Counters, MONEY, MONEY, MONEY, MONEY).map(
    lambda it: it._replace(corrected=min(it.corrected, it.settled))
)
ASKS = st.builds(Ask, MONEY, MONEY, MONEY)
PATHS = st.lists(st.builds(Account, MONEY, MONEY, MONEY, st.booleans()), min_size=1, max_size=5)


@given(COUNTERS, ASKS, PATHS)
def test_decide__any_report__exposes_no_account_beyond_its_amount(
    lease: Counters, ask: Ask, path: list[Account]
) -> None:
    grant = decide(lease, ask, path)

    after = lease._replace(granted=lease.granted + grant.amount).outstanding - lease.outstanding
    assert grant.amount >= 0
    if grant.amount:
        assert all(account.room >= after for account in path if account.blocks)


@given(COUNTERS, ASKS, PATHS)
def test_decide__asked_again_after_its_answer_was_lost__raises_the_same_level(
    lease: Counters, ask: Ask, path: list[Account]
) -> None:
    plenty = [account._replace(amount=10**14) for account in path]

    granted = lease._replace(granted=lease.granted + decide(lease, ask, plenty).amount)

    assert granted.outstanding >= min(ask.want, lease.outstanding)
    assert decide(granted, ask, plenty).amount == 0


@given(COUNTERS, ASKS, PATHS)
def test_decide__a_grant__is_enough_for_the_next_call(lease: Counters, ask: Ask, path: list[Account]) -> None:
    grant = decide(lease, ask, path)

    after = lease._replace(granted=lease.granted + grant.amount).outstanding
    if grant.amount and ask.want >= ask.held + ask.min_useful:
        assert after - ask.held >= ask.min_useful or after >= ask.want


def test_decide__no_room__names_the_tightest_account() -> None:
    path = [Account(100, 0, 0), Account(50, 20, 25), Account(10, 0, 10, blocks=False)]

    grant = decide(Counters(), Ask(want=30, min_useful=10, held=0), path)

    assert grant == (0, 1)


def test_decide__the_last_of_an_account__goes_out_in_slices_and_then_whole() -> None:
    path = [Account(1000, 0, 0)]

    assert decide(Counters(), Ask(1000, 10, 0), path).amount == 250
    assert decide(Counters(), Ask(1000, 10, 0), [Account(1000, 980, 0)]).amount == 10


@given(COUNTERS, MONEY, MONEY, MONEY, MONEY)
def test_merge__in_any_order__is_the_same(lease: Counters, one: int, two: int, three: int, four: int) -> None:
    first = {"settled": one, "returned": two, "corrected": min(one, three)}
    second = {"settled": one + four, "returned": two + three, "corrected": min(one, three)}

    assert lease.merge(**first).merge(**second) == lease.merge(**second).merge(**first)
    assert lease.merge(**second).merge(**second) == lease.merge(**second)


@given(ASKS, PATHS)
def test_cap__an_account_over_its_amount__takes_back_everything(ask: Ask, path: list[Account]) -> None:
    over = [*path, Account(amount=0, outstanding=1, settled=0)]

    assert cap(ask, over) == 0

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.grants import GRANT_PART, Account, Ask, Counters, cap, decide

MONEY = st.integers(0, 10**12)
COUNTERS = st.builds(Counters, MONEY, MONEY, MONEY, MONEY).map(
    lambda it: it._replace(corrected=min(it.corrected, it.settled))
)
ASKS = st.builds(Ask, MONEY, MONEY, MONEY, st.none() | MONEY)
HOLDERS = st.integers(0, 10_000)
ACCOUNTS = st.builds(
    Account, MONEY, MONEY, MONEY, st.booleans(), st.booleans(), wanting=HOLDERS, live=HOLDERS, scarce=st.booleans()
)
PATHS = st.lists(ACCOUNTS, min_size=1, max_size=5)


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
    plenty = [account._replace(amount=10**14, wanting=1, live=1) for account in path]

    granted = lease._replace(granted=lease.granted + decide(lease, ask, plenty).amount)

    assert granted.outstanding >= lease.outstanding
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


@given(st.integers(1, 60), st.integers(1, 10**9), st.integers(0, 10**12), st.integers(0, 10**12), st.data())
def test_decide__everybody_waits_for_a_call__each_gets_one_before_anybody_gets_the_room_of_two(
    holders: int, call: int, greed: int, spare: int, data: st.DataObject
) -> None:
    """However much the others want, and in whatever order they come."""
    account = Account(holders * call + spare, 0, 0, live=holders)
    for place in range(holders):
        more = data.draw(st.integers(0, greed // call), label="calls beyond the first")
        ask = Ask((1 + more) * call, call, 0, (1 + more) * call)
        got = decide(Counters(), ask, [account._replace(wanting=holders - place)]).amount

        assert got >= call
        account = account.moved(outstanding=got, settled=0)
    assert account.room >= 0


@given(st.integers(1, 100), st.integers(1, 10**9), st.integers(1, 10**6))
def test_decide__no_more_than_a_call_for_each__grants_exactly_one(holders: int, call: int, more: int) -> None:
    account = Account(holders * call, 0, 0, wanting=holders, live=holders)
    ask = Ask((1 + more) * call, call, 0, (1 + more) * call)

    assert decide(Counters(), ask, [account]).amount == call


@given(st.integers(0, 10**9), st.integers(1, 10**6), st.integers(1, 1000), st.integers(1, 1000))
def test_decide__what_no_call_waits_for__is_a_small_part_and_shrinks_with_the_room(
    room: int, call: int, live: int, wanting: int
) -> None:
    spent = Counters(granted=1, settled=1)
    ask = Ask(10**12, call, 0, 0)

    got = decide(spent, ask, [Account(room, 0, 0, live=live, wanting=wanting)]).amount

    assert got <= room // (GRANT_PART * live)
    assert got % call == 0
    assert decide(Counters(), ask, [Account(room, 0, 0)]).amount == 0


@given(ASKS, PATHS)
def test_cap__an_account_denies_others__leaves_what_calls_wait_for(ask: Ask, path: list[Account]) -> None:
    calm = [account._replace(amount=10**14, archived=False, scarce=False) for account in path]
    denying = [*calm, Account(10**14, 0, 0, scarce=True)]

    assert cap(ask, calm) >= ask.want
    assert cap(ask, denying) == (cap(ask, calm) if ask.waiting is None else ask.waiting)


@given(COUNTERS, ASKS, PATHS)
def test_decide__less_than_is_wanted__is_whole_calls_beyond_what_the_next_one_lacks(
    lease: Counters, ask: Ask, path: list[Account]
) -> None:
    ask = ask._replace(waiting=None if ask.waiting is None else 0)

    grant = decide(lease, ask, path)

    raised = lease._replace(granted=lease.granted + grant.amount).outstanding - lease.outstanding
    lacking = max(0, ask.min_useful - (lease.outstanding - ask.held))
    if grant.amount and lease.outstanding + raised < ask.want:
        assert (raised - lacking) % max(1, ask.min_useful) == 0

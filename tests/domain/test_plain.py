"""Reports that are merged plainly come to what they come to one by one."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from controlplane.budgets.actions.lease_reads import opened
from controlplane.budgets.schemas import LeaseReport
from controlplane.domain.crowds import gather
from controlplane.domain.grants import Account
from controlplane.domain.leases import BudgetTerms, Crowd, OpenAccount, merge_report
from controlplane.domain.ledger import entry_of, stand_of
from controlplane.domain.periods import PeriodRule
from controlplane.domain.plain import LeaseRow, Path, merge_plainly

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
small = st.integers(0, 60)
seldom = st.sampled_from([False] * 9 + [True])


@st.composite
def accounts(draw: st.DrawFn) -> dict[int, OpenAccount]:
    def account(key: int) -> OpenAccount:
        kind, ends_in = (
            draw(st.sampled_from(["total", "calendar", "rolling"])),
            draw(st.sampled_from([None, 0, 5, 900])),
        )
        rule = PeriodRule(kind, "day", "UTC", 7 if kind == "rolling" else None)
        owner = draw(st.sampled_from([None, "acme", "umbrella"]))
        state = Account(draw(st.sampled_from([0, 100, 10_000, 10**9])), draw(small), draw(small), not draw(seldom), draw(seldom),
                        scarce=draw(seldom))  # fmt: skip
        return OpenAccount(
            key,
            BudgetTerms(key, f"/{key}", owner, rule, state.archived),
            None if ends_in is None else NOW + timedelta(seconds=ends_in),
            state,
            crowd=Crowd(draw(st.integers(0, 5)), draw(st.integers(0, 5))),
            counted_at=NOW,
        )

    return {key: account(key) for key in (1, 2, 3)}


@st.composite
def told(draw: st.DrawFn) -> list[tuple[LeaseReport, LeaseRow]]:
    paths = st.sampled_from([[1], [2], [2, 1], [3, 1]])
    found = []
    for place in range(draw(st.integers(1, 6))):
        settled, returned = draw(small), draw(small)
        over = draw(seldom)
        granted = max(0, settled + returned + draw(small) - 60 * over)
        row = (place + 1, place + 100, draw(paths), granted, settled, returned, 0, draw(small), draw(st.integers(0, 2)),
               draw(st.integers(0, 4)), draw(seldom), NOW, 0, 0, 0, draw(seldom), draw(small))  # fmt: skip
        report = LeaseReport(
            incarnation=UUID(int=place),
            seq=draw(st.integers(3, 6)),
            allowed=draw(st.sampled_from([None, None, frozenset({"acme"})])),
            number=1,
            budgets=(1,),
            settled=draw(small),
            returned=draw(small),
            held=draw(small),
            want=draw(small),
            min_useful=draw(small),
            denied=draw(st.sampled_from([0, 0, 0, 3])),
            waiting=draw(st.sampled_from([None, 0, 5])),
            final=draw(seldom),
        )
        found.append((report, row))
    return found


@given(accounts(), told())
def test_plain__whatever_is_reported__as_one_by_one(
    before: dict[int, OpenAccount], reports: list[tuple[LeaseReport, LeaseRow]]
) -> None:
    plainly, singly = deepcopy(before), deepcopy(before)
    paths = merge_plainly(((report, report.seq, report.allowed, row) for report, row in reports), plainly, NOW)
    places = {moved.place for path in paths for moved in path.moved}
    merged = [(report, row) for report, row in reports if row[0] in places]
    leases = {(report.incarnation, 1): opened(row, report) for report, row in merged}
    gather([report for report, _ in merged], leases, singly)

    for path in paths:
        for moved in path.moved:
            report, row = reports[moved.place - 1]
            lease = leases[report.incarnation, 1]
            stood = stand_of(lease)
            answer = merge_report(report, lease, singly, now=NOW, ttl_ms=1)
            entry = entry_of(lease, stood, now=NOW)
            assert (answer.granted, answer.cap, answer.period_ms) == (moved.granted, moved.cap, path.period_ms)
            assert (answer.closed, answer.denied, answer.blocked_by) == (False, None, None)
            assert lease.counters == (moved.granted, moved.settled, moved.returned, 0)
            assert (lease.held, lease.seq, lease.short, lease.row) == (moved.held, moved.seq, moved.short, moved.row)
            assert entry is None or entry.is_plain
            said = ("none", 0, 0, 0) if entry is None else (entry.kind, entry.granted, entry.settled, entry.returned)
            assert said == (moved.kind, moved.more, moved.spent, moved.given_back)
            assert report.allowed is None or all(_owner(singly, key) in {None, *report.allowed} for key in row[2])
    for key, account in plainly.items():
        assert account.state[:5] == singly[key].state[:5]
        assert (account.outstanding, account.settled) == (singly[key].outstanding, singly[key].settled)
        assert account.here == singly[key].here


def _owner(accounts: dict[int, OpenAccount], key: int) -> str | None:
    return accounts[key].budget.tenant


def path_of(amount: int, denied: int = 0) -> list[Path]:
    budget = BudgetTerms(1, "/one", None, PeriodRule("total", "", "UTC", None), archived=False)
    account = OpenAccount(1, budget, None, Account(amount, 50, 10))
    report = LeaseReport(
        incarnation=UUID(int=1), seq=2, number=1, budgets=(1,), settled=30, want=100, min_useful=5, denied=denied
    )
    row = (1, 7, [1], 60, 10, 0, 0, 0, 0, 1, False, NOW, 0, 0, 0, False, 0)
    return merge_plainly([(report, 2, None, row)], {1: account}, NOW)


def test_plain__room_for_all_many_times__merged() -> None:
    (path,) = path_of(10_000)
    assert path.moved[0][:8] == (1, 150, 7, 130, 30, 0, 0, 2)
    assert (path.outstanding, path.settled) == (50, 20)


def test_plain__the_last_of_an_account__left_to_a_closer_look() -> None:
    assert path_of(1_000) == []


def test_plain__calls_were_denied__left_to_a_closer_look() -> None:
    assert path_of(10_000, denied=1) == []

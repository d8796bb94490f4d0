"""Leases: whatever is lost, repeated or reordered, no more is spent than was granted, and what is left comes back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tidegate.core import budget
from tidegate.core.budget import Lease, Pace

money = st.integers(0, 10**15)
bounds = st.integers(1, 1000)


class OneLease(RuleBasedStateMachine):
    """A lease, its calls, and a server that grants up to an amount and hears reports in any order, or not at all."""

    AMOUNT = 5000

    def __init__(self) -> None:
        super().__init__()
        self.lease = Lease()
        self.calls: list[int] = []
        self.reports: list[Lease] = []
        self.answers: list[int] = []
        self.granted = self.settled = self.returned = 0
        self.spent = 0

    @rule(bound=bounds)
    def admit(self, bound: int) -> None:
        held = budget.hold(self.lease, bound)
        if held is not None:
            self.lease = held
            self.calls.append(bound)

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        if self.calls:
            bound = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
            cost = data.draw(st.integers(0, bound))
            self.spent += cost
            self.lease = budget.settle(self.lease, bound=bound, cost=cost)

    @rule(idle=st.integers(0, 500))
    def give_back(self, idle: int) -> None:
        before = self.lease.room
        self.lease = budget.keep_at_most(self.lease, idle)
        assert self.lease.room == min(before, idle)

    @rule()
    def send(self) -> None:
        self.reports.append(self.lease)

    @rule(data=st.data(), want=st.integers(0, 3000))
    def arrive(self, data: st.DataObject, want: int) -> None:
        """Any report that was ever sent arrives (again); the answer is on its way."""
        if self.reports:
            report = data.draw(st.sampled_from(self.reports))
            self.settled, self.returned = max(self.settled, report.settled), max(self.returned, report.returned)
            outstanding = self.granted - self.settled - self.returned
            room = self.AMOUNT - self.settled - outstanding
            self.granted += max(0, min(want - outstanding, room))
            self.answers.append(self.granted)

    @rule(data=st.data())
    def hear(self, data: st.DataObject) -> None:
        if self.answers:
            self.lease = budget.merge_grant(self.lease, data.draw(st.sampled_from(self.answers)))

    @invariant()
    def never_over(self) -> None:
        assert self.spent + sum(self.calls) <= self.AMOUNT
        assert self.lease.room >= 0
        assert self.lease.held == sum(self.calls)
        assert self.lease.settled == self.spent


TestOneLease = OneLease.TestCase
TestOneLease.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(granted=money, held=money, bound=bounds)
def test_hold__no_room__nothing_changes(granted: int, held: int, bound: int) -> None:
    lease = Lease(granted=granted, held=held)

    taken = budget.hold(lease, bound)

    assert (taken is not None) == (granted - held >= bound)
    assert taken is None or taken.room == lease.room - bound


def test_settle__dearer_than_the_bound__counted_in_full_and_owed() -> None:
    lease = budget.settle(Lease(granted=100, held=100), bound=100, cost=150)

    assert (lease.settled, lease.room) == (150, -50)
    assert budget.hold(lease, 1) is None


@given(spend=st.lists(st.integers(0, 10**9), min_size=1, max_size=30))
def test_paced__any_spending__never_above_the_fastest_second(spend: list[int]) -> None:
    pace, settled = budget.paced(Pace(), settled=0, now=0.0), 0

    for second, cost in enumerate(spend, start=1):
        settled += cost
        pace = budget.paced(pace, settled=settled, now=float(second))

    assert 0 <= pace.per_s <= max(spend) * (1 + 1e-9)


def test_paced__spending_begins__rises_at_once() -> None:
    pace = budget.paced(Pace(0.0, 0.0, 0), settled=500, now=1.0)

    assert pace.per_s == 500
    assert budget.wanted(per_s=pace.per_s, interval_s=1.0, held=10, denied=5, typical=100) == 1615


def test_paced__two_syncs_in_an_instant__measured_together_with_what_follows() -> None:
    pace = budget.paced(Pace(0.0, 0.0, 0), settled=500, now=0.01)

    assert budget.paced(pace, settled=600, now=1.0).per_s == 600

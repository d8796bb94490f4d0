"""Dividing limits: fair, whole, and never more in force than there is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain.shares import Claim, Holding, fair, give, grant, parts_meant, proportional, whole_slots

claims = st.lists(st.builds(Claim, st.floats(0, 1000), st.integers(1, 10).map(float)), min_size=1, max_size=12)


@given(capacity=st.floats(1, 1000), asked=claims)
def test_fair__any_claims__nobody_gets_more_than_wanted_or_less_than_an_even_part(
    capacity: float, asked: list[Claim]
) -> None:
    parts = fair(capacity, asked)

    weights = sum(claim.weight for claim in asked)
    for part, claim in zip(parts, asked, strict=True):
        assert -1e-9 <= part <= claim.wants + 1e-9
        assert part >= min(claim.wants, capacity * claim.weight / weights) - 1e-6
    assert sum(parts) == pytest.approx(min(capacity, sum(claim.wants for claim in asked)))


@given(capacity=st.floats(1, 1000), asked=claims)
def test_proportional__any_claims__all_of_it_and_no_more(capacity: float, asked: list[Claim]) -> None:
    parts = proportional(capacity, asked)

    assert sum(parts) == pytest.approx(min(capacity, sum(claim.wants for claim in asked)))
    assert all(part <= claim.wants + 1e-6 for part, claim in zip(parts, asked, strict=True))


@given(capacity=st.floats(0.001, 1000) | st.just(0.0), demands=st.lists(st.floats(0, 1000), min_size=1, max_size=12))
def test_parts__any_demand__add_up_to_one_and_leave_nobody_without(capacity: float, demands: list[float]) -> None:
    parts = parts_meant(capacity, demands)

    assert sum(parts) == pytest.approx(1.0)
    assert min(parts) >= 0.1 / len(demands) - 1e-9


def test_parts__one_asks_for_far_too_much__the_others_have_what_they_ask_for() -> None:
    assert parts_meant(100, [1000, 20, 30]) == pytest.approx([0.5, 0.2, 0.3])


@given(capacity=st.integers(1, 200), demands=st.lists(st.floats(0, 1000), min_size=1, max_size=12))
def test_slots__any_parts__whole_and_all_of_them(capacity: int, demands: list[float]) -> None:
    slots = whole_slots(capacity, parts_meant(capacity, demands))

    assert sum(slots) == capacity
    assert min(slots) >= 0


def test_grant__others_still_hold_what_they_had__only_what_is_free() -> None:
    asked = [Claim(60, has=60), Claim(75), Claim(10)]

    assert grant("proportional_share", 120, asked[:2], 1) == 60
    assert grant("proportional_share", 120, [asked[0], Claim(75, has=60), asked[2]], 2) == 0
    assert grant("none", 0, asked, 1) == 75
    assert grant("static_per_client", 50, asked, 1) == 50


class Fleet:
    """Instances that use the share they received last, and a server that answers them."""

    def __init__(self, size: int, capacity: float, *, whole: bool) -> None:
        self.holdings = [Holding(0.0) for _ in range(size)]
        self.used = [0.0] * size
        self.capacity = capacity
        self.whole = whole

    def sync(self, index: int, demand: float, *, lost: bool) -> None:
        said = self.holdings[index].acknowledged(self.used[index])
        self.holdings[index] = said._replace(demand=demand)
        self.holdings[index] = give(self.holdings, index, capacity=self.capacity, whole=self.whole)
        if not lost:
            self.used[index] = self.holdings[index].promised


syncs = st.lists(st.tuples(st.integers(0, 4), st.floats(0, 100), st.booleans()), max_size=60)


@settings(max_examples=300)
@given(history=syncs, capacity=st.integers(1, 40), whole=st.booleans())
def test_give__answers_are_lost_and_demand_moves__never_more_in_force_than_the_whole(
    history: list[tuple[int, float, bool]], capacity: int, whole: bool
) -> None:
    fleet = Fleet(5, capacity, whole=whole)

    for index, demand, lost in history:
        fleet.sync(index, demand, lost=lost)
        assert sum(fleet.used) <= 1 + 1e-9
        assert sum(holding.in_force for holding in fleet.holdings) <= 1 + 1e-9


@given(demands=st.lists(st.floats(0, 100), min_size=3, max_size=3), capacity=st.integers(1, 40), whole=st.booleans())
def test_give__nothing_is_lost__all_of_it_is_used_after_three_rounds(
    demands: list[float], capacity: int, whole: bool
) -> None:
    fleet = Fleet(3, capacity, whole=whole)

    for index in [0, 1, 2] * 3:
        fleet.sync(index, demands[index], lost=False)

    assert sum(fleet.used) == pytest.approx(1.0)

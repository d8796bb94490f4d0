from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.slo import BURNS, Burn, Count, budget_left, burn_rate, burns, can_fire, exhausted_in_s

objectives = st.floats(0.5, 0.9999)
counts = st.integers(0, 10**6).flatmap(lambda total: st.builds(Count, st.just(total), st.integers(0, total)))


@given(counts, objectives)
def test_burn_rate__and_budget_left__are_two_sides_of_one(count: Count, objective: float) -> None:
    rate, left = burn_rate(count, objective), budget_left(count, objective)

    if not count.total:
        assert rate is left is None
    else:
        assert rate is not None
        assert left is not None
        assert left == pytest.approx(1 - rate, abs=1e-6)


@pytest.mark.parametrize("burn", BURNS)
def test_burns__factors__spend_the_part_of_thirty_days_that_the_workbook_says(burn: Burn) -> None:
    spent = {14.4: 0.02, 6.0: 0.05, 3.0: 0.1, 1.0: 0.1}

    part = burn.factor * burn.long_s / (30 * 86_400)

    assert part == pytest.approx(spent[burn.factor])


def test_burns__only_one_of_two_windows__does_not_fire() -> None:
    assert burns({3_600: 20.0, 300: 1.0}, 0.99) is None
    assert burns({3_600: 20.0, 300: None}, 0.99) is None
    assert burns({3_600: 20.0, 300: 15.0}, 0.99) == BURNS[0]
    assert burns({3_600: 7.0, 300: 7.0, 21_600: 7.0, 1_800: 6.5}, 0.99) == BURNS[1]


def test_can_fire__a_low_objective__can_not_reach_the_steepest() -> None:
    assert [can_fire(burn, 0.9) for burn in BURNS] == [False, True, True, True]
    assert burns({3_600: 15.0, 300: 15.0}, 0.9) is None


def test_exhausted_in__burning_at_twice_the_pace__is_gone_in_half_the_time() -> None:
    assert exhausted_in_s(1.0, 2.0, 86_400) == 43_200
    assert exhausted_in_s(-0.1, 2.0, 86_400) == 0
    assert exhausted_in_s(0.5, 0.0, 86_400) is None


def test_exhausted_in__burning_no_faster_than_allowed__lasts_whatever_is_left() -> None:
    assert exhausted_in_s(0.01, 1.0, 86_400) is None
    assert exhausted_in_s(0.0, 0.5, 86_400) == 0

"""What calls used to put out bounds the next one: never below what it says it is."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.outputs import ANEW, GENERATION, LEAST, Outputs

counts = st.lists(st.integers(0, 10**6), min_size=LEAST, max_size=300)


def learned(tokens: list[int]) -> Outputs:
    outputs = Outputs()
    for each in tokens:
        outputs.learn(each)
    return outputs


def test_bound__too_few_calls__unknown() -> None:
    assert learned([5] * (LEAST - 1)).bound() is None
    assert learned([5] * LEAST).bound() == 5


@given(tokens=counts)
def test_bound__any_calls__ninety_nine_of_a_hundred_stay_below_it(tokens: list[int]) -> None:
    bound = learned(tokens).bound()

    assert bound is not None
    exact = sorted(tokens)[math.ceil(0.99 * len(tokens)) - 1]
    assert exact <= bound <= max(1, exact * 1.011 + 1)


def test_bound__one_call_in_a_thousand_is_huge__does_not_count() -> None:
    bound = learned([100] * 999 + [100_000]).bound()

    assert bound is not None
    assert bound < 105


def test_bound__calls_change__the_old_ones_are_forgotten() -> None:
    outputs = learned([10_000] * 100)
    for _ in range(2 * GENERATION + 1):
        outputs.learn(10)

    bound = outputs.bound()

    assert bound is not None
    assert bound <= 11


def test_bound__few_more_calls__as_it_was_and_then_anew() -> None:
    outputs = learned([10] * LEAST)
    first = outputs.bound()
    for _ in range(ANEW - 1):
        outputs.learn(1000)
    before = outputs.bound()
    outputs.learn(1000)

    assert first == before
    assert outputs.bound() != first

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.window import Distribution, check, quantile

VALUES = st.lists(st.integers(0, 10**15), max_size=200)


def of(values: list[int]) -> Distribution:
    made = Distribution()
    for value in values:
        made.add(value)
    return made


@given(VALUES, VALUES)
def test_merge__two_halves__equals_the_whole(left: list[int], right: list[int]) -> None:
    merged = of(left)

    merged.merge(of(right))

    assert merged.packed() == of(left + right).packed()


@given(VALUES.filter(bool), st.floats(0, 1))
def test_quantile__any_rank__is_within_six_permille_of_the_exact_one(values: list[int], q: float) -> None:
    exact = sorted(values)[max(1, math.ceil(q * len(values))) - 1]

    estimate = quantile(of(values).packed(), q)

    assert abs(estimate - exact) <= 1 + 0.006 * exact


@given(VALUES)
def test_packed__any__is_sound_and_comes_back(values: list[int]) -> None:
    packed = of(values).packed()

    assert check(packed) is None
    assert Distribution.from_packed(packed).packed() == packed


def test_check__buckets_that_do_not_add_up__says_so() -> None:
    packed = of([1, 2, 3]).packed()
    packed[0] = 4

    fault = check(packed)

    assert fault is not None
    assert "add up" in fault

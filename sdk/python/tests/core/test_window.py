from __future__ import annotations

import math
import random
from collections import Counter

import pytest
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


@pytest.mark.parametrize("spread", [1e-9, 1e-6, 1e-3, 1.0, 100.0])
def test_add_seconds__many_durations__each_in_its_bucket(spread: float) -> None:
    chance = random.Random(7)
    times = [chance.choice([1e-7, 1e-6, 0.25, 1.0]) + chance.random() * spread for _ in range(1000)]

    found = Distribution()
    found.add_seconds(times[:400])
    found.add_seconds(times[400:])

    micros = [took * 1_000_000 for took in times]
    expected = Counter(max(0, math.ceil(64 * math.log2(each))) for each in micros)
    assert found.buckets == expected
    assert (found.count, found.least, found.greatest) == (1000, int(min(micros)), int(max(micros)))
    assert abs(found.total - sum(micros)) <= 1000
    assert check(found.packed()) is None


def test_add_seconds__a_clock_that_stood_still__counts_as_nothing() -> None:
    found = Distribution()

    found.add_seconds([0.0, -0.5, 0.000002])

    assert found.packed()[:4] == [3, 2, 0, 2]

"""Token buckets: the average holds, whatever is taken, owed and corrected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core import bucket

steps = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 50)), max_size=60)


@given(steps=steps, rate=st.floats(0.1, 100), burst=st.floats(1, 100))
def test_take__any_sequence__never_more_than_burst_and_rate_allow(
    steps: list[tuple[float, float]], rate: float, burst: float
) -> None:
    state, now, taken, largest = bucket.full(burst, 0.0), 0.0, 0.0, 0.0

    for pause, amount in steps:
        now += pause
        state, wait = bucket.take(state, now=now, rate=rate, burst=burst, amount=amount)
        if not wait:
            taken += amount
            largest = max(largest, amount)

    assert taken <= burst + now * rate + max(0.0, largest - burst) + 1e-3


@given(amount=st.floats(1, 500), rate=st.floats(0.1, 100), burst=st.floats(1, 100))
def test_take__refused__goes_well_after_the_wait_it_names(amount: float, rate: float, burst: float) -> None:
    empty, _ = bucket.take(bucket.full(burst, 0.0), now=0.0, rate=rate, burst=burst, amount=burst)
    _, wait = bucket.take(empty, now=0.0, rate=rate, burst=burst, amount=amount)

    assert wait > 0
    assert bucket.take(empty, now=wait * 0.9, rate=rate, burst=burst, amount=amount)[1] > 0
    assert bucket.take(empty, now=wait + 1e-6, rate=rate, burst=burst, amount=amount)[1] == 0


def test_take__more_than_the_burst__taken_from_a_full_bucket_which_then_owes() -> None:
    state, wait = bucket.take(bucket.full(10, 0.0), now=0.0, rate=1, burst=10, amount=25)

    assert wait == 0
    assert state.tokens == -15
    assert bucket.take(state, now=15.0, rate=1, burst=10)[1] == pytest.approx(1.0)


def test_take__clock_steps_back__nothing_is_added_or_lost_and_time_goes_on_from_there() -> None:
    state, _ = bucket.take(bucket.full(10, 100.0), now=100.0, rate=1, burst=10, amount=4)

    state = bucket.filled(state, now=40.0, rate=1, burst=10)

    assert state.tokens == 6
    assert bucket.filled(state, now=42.0, rate=1, burst=10).tokens == 8


def test_take__strict__more_than_the_burst_is_never_taken_and_costs_nothing() -> None:
    state, wait = bucket.take(bucket.full(10, 0.0), now=0.0, rate=1, burst=10, amount=11, strict=True)

    assert wait == float("inf")
    assert state.tokens == 10


def test_reserve__one_after_the_other__each_when_there_is_enough_for_it() -> None:
    state, first = bucket.reserve(bucket.full(2, 0.0), now=0.0, rate=10, burst=2, amount=2)
    state, second = bucket.reserve(state, now=0.0, rate=10, burst=2, amount=2)
    state, third = bucket.reserve(state, now=0.0, rate=10, burst=2, amount=1, max_wait=0.25)

    assert first is not None
    assert second is not None
    assert (first.at, second.at, third) == (0.0, pytest.approx(0.2), None)


@given(amounts=st.lists(st.floats(0.1, 5), min_size=1, max_size=20), rate=st.floats(0.1, 100))
def test_cancel__the_last_reservation__as_if_it_had_never_been(amounts: list[float], rate: float) -> None:
    state, kept = bucket.full(5, 0.0), None
    for amount in amounts:
        before = state
        state, kept = bucket.reserve(state, now=0.0, rate=rate, burst=5, amount=amount)
    assert kept is not None

    undone = bucket.cancel(state, kept, now=0.0, rate=rate, burst=5)

    assert undone.tokens == pytest.approx(before.tokens)


def test_cancel__after_it_could_act__changes_nothing() -> None:
    state, reservation = bucket.reserve(bucket.full(2, 0.0), now=0.0, rate=10, burst=2, amount=2)
    assert reservation is not None

    assert bucket.cancel(state, reservation, now=0.1, rate=10, burst=2) == state


def test_cancel__the_last_and_then_the_one_before__gives_both_back_whole() -> None:
    """Nobody is promised anything on top of the first once the second is gone (Go's x/time/rate keeps a part)."""
    full = bucket.full(10, 0.0)
    state, first = bucket.reserve(full, now=0.0, rate=2, burst=10, amount=7)
    state, second = bucket.reserve(state, now=0.0, rate=2, burst=10, amount=4)
    assert first is not None
    assert second is not None

    state = bucket.cancel(state, second, now=0.0, rate=2, burst=10)
    state = bucket.cancel(state, first, now=0.0, rate=2, burst=10)

    assert state.tokens == 10


@pytest.mark.parametrize(("rate", "burst"), [(0.0, 0.0), (1.0, 0.0)])
def test_take__nothing_allowed__refused_for_good(rate: float, burst: float) -> None:
    assert bucket.take(bucket.full(burst, 0.0), now=1e9, rate=rate, burst=burst)[1] == float("inf")


@given(estimated=st.floats(0, 100), actual=st.floats(0, 100))
def test_correct__any_estimate__same_as_if_the_truth_had_been_known(estimated: float, actual: float) -> None:
    state, _ = bucket.take(bucket.full(100, 0.0), now=0.0, rate=1, burst=100, amount=estimated)

    corrected = bucket.correct(state, estimated=estimated, actual=actual, burst=100)

    assert corrected.tokens == pytest.approx(100 - actual)

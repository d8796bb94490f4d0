"""Delays and retry budgets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.backoff import BUDGET_CAP, RetryBudget, delay_s, earned, fits, spent
from tidegate.core.policy import RetryRule

RULE = RetryRule(max_attempts=5, base_ms=200, max_ms=8000, jitter="none", budget_ratio=0.2)


def test_delay__without_jitter__doubles_up_to_the_most() -> None:
    delays = [delay_s(RULE, retry=retry, uniform=0.5) for retry in range(1, 9)]

    assert delays == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 8.0, 8.0]


@pytest.mark.parametrize(("jitter", "least", "most"), [("full", 0.0, 0.8), ("equal", 0.4, 0.8), ("none", 0.8, 0.8)])
@pytest.mark.parametrize("uniform", [0.0, 0.5, 0.999999])
def test_delay__jitter__stays_in_its_range(jitter: str, least: float, most: float, uniform: float) -> None:
    delay = delay_s(RULE._replace(jitter=jitter), retry=3, uniform=uniform)

    assert least <= delay <= most
    assert jitter == "none" or delay == pytest.approx(least + (most - least) * uniform)


@given(retry=st.integers(1, 10**6), asked=st.floats(0, 1e6), uniform=st.floats(0, 1, exclude_max=True))
def test_delay__provider_asked_for_time__never_sooner(retry: int, asked: float, uniform: float) -> None:
    delay = delay_s(RULE._replace(jitter="full"), retry=retry, uniform=uniform, retry_after_s=asked)

    assert max(asked + 0.2, 8.0) >= delay >= asked


@given(retries=st.integers(1, 30), draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=30, max_size=30))
def test_delay__decorrelated__from_the_base_to_three_times_the_one_before(retries: int, draws: list[float]) -> None:
    rule, before = RULE._replace(jitter="decorrelated"), 0.0

    for retry in range(1, retries + 1):
        delay = delay_s(rule, retry=retry, uniform=draws[retry - 1], previous_s=before)
        assert 0.2 <= delay <= min(8.0, max(0.2, 3 * before)) + 1e-9
        before = delay


def test_delay__provider_names_a_moment__not_everybody_comes_at_once() -> None:
    delays = {delay_s(RULE._replace(jitter="full"), retry=1, uniform=u, retry_after_s=60) for u in (0.0, 0.5, 0.9)}

    assert delays == {60.0, 60.1, 60.18}


@pytest.mark.parametrize(
    ("delay", "left", "fit"), [(4.9, 5.0, True), (5.0, 5.0, False), (120.0, None, True), (121.0, None, False)]
)
def test_fits__deadline_or_none__an_attempt_begins_before_it(delay: float, left: float | None, fit: bool) -> None:
    assert fits(delay, left_s=left) is fit


@given(calls=st.integers(0, 500), ratio=st.floats(0.01, 1))
def test_budget__any_number_of_calls__retries_are_a_fraction_of_them(calls: int, ratio: float) -> None:
    budget, retries = RetryBudget(), 0

    for _ in range(calls):
        budget = earned(budget, ratio)
        while (left := spent(budget, ratio)) is not None:
            budget, retries = left, retries + 1

    assert retries <= BUDGET_CAP + calls * ratio + 1e-6


def test_budget__no_ratio__no_retries() -> None:
    assert spent(RetryBudget(), 0.0) is None


def test_delay__retry_before_the_first__refused() -> None:
    with pytest.raises(ValueError, match="number 1"):
        delay_s(RULE, retry=0, uniform=0.5)


@pytest.mark.parametrize(("changes", "delay"), [({"base_ms": 0}, 0.0), ({"factor": 10.0}, 8.0), ({"factor": 1.0}, 0.2)])
def test_delay_s__very_many_retries__stays_a_number(changes: dict[str, float], delay: float) -> None:
    assert delay_s(RULE._replace(**changes), retry=100_000, uniform=0.5) == delay

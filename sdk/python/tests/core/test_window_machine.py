"""Any history of distributions against lists of all values."""

from __future__ import annotations

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, rule

from tidegate.core.window import Distribution, check, quantile

VALUES = st.one_of(st.integers(0, 5), st.integers(0, 10**6), st.integers(0, 10**15))
MISSED = 0.006


class Pair:
    """A distribution, and what was added to it."""

    def __init__(self) -> None:
        self.made = Distribution()
        self.values: list[int] = []


class DistributionMachine(RuleBasedStateMachine):
    pairs = Bundle("pairs")

    @rule(target=pairs)
    def begin(self) -> Pair:
        return Pair()

    @rule(pair=pairs, value=VALUES)
    def add(self, pair: Pair, value: int) -> None:
        pair.made.add(value)
        pair.values.append(value)

    @rule(pair=pairs, values=st.lists(VALUES, max_size=20))
    def add_many(self, pair: Pair, values: list[int]) -> None:
        pair.made.add_all(values)
        pair.values += values

    @rule(pair=pairs, value=VALUES, times=st.integers(0, 9))
    def add_the_same(self, pair: Pair, value: int, times: int) -> None:
        pair.made.add_same(value, times)
        pair.values += [value] * times

    @rule(pair=pairs, other=pairs)
    def merge(self, pair: Pair, other: Pair) -> None:
        if pair is not other and len(pair.values) + len(other.values) < 5000:
            pair.made.merge(other.made)
            pair.values += other.values

    @rule(target=pairs, pair=pairs)
    def send(self, pair: Pair) -> Pair:
        arrived = Pair()
        arrived.made = Distribution.from_packed(pair.made.packed())
        arrived.values = list(pair.values)
        return arrived

    @rule(pair=pairs, q=st.floats(0, 1))
    def look(self, pair: Pair, q: float) -> None:
        packed = pair.made.packed()
        assert check(packed) is None
        if not pair.values:
            assert packed == []
            assert quantile(packed, q) == 0
            return
        assert packed[:4] == [len(pair.values), sum(pair.values), min(pair.values), max(pair.values)]
        true = sorted(pair.values)[max(1, math.ceil(q * len(pair.values))) - 1]
        assert abs(quantile(packed, q) - true) <= MISSED * true + 1


TestDistributionMachine = DistributionMachine.TestCase
TestDistributionMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)

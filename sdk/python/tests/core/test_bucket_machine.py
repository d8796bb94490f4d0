"""Any history of a bucket against exact arithmetic: fractions, and a list of everything that was ever taken."""

from __future__ import annotations

import math
from fractions import Fraction

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tidegate.core import bucket
from tidegate.core.bucket import Reservation

# Eighths and powers of two: sums and products of these are exact in floats, so that nothing hides behind a tolerance.
EIGHTHS = st.integers(0, 64).map(lambda number: number / 8)
RATES = st.sampled_from([0.0, 0.5, 1.0, 2.0, 8.0])
BURSTS = st.sampled_from([1.0, 4.0, 10.0])


class BucketMachine(RuleBasedStateMachine):
    @initialize(rate=RATES, burst=BURSTS)
    def begin(self, rate: float, burst: float) -> None:
        self.now = 1000.0
        self.rate, self.burst = rate, burst
        self.bucket = bucket.full(burst, self.now)
        self.tokens = Fraction(burst)
        self.earned = Fraction(burst)  # all that ever flowed in, at most
        self.used = Fraction(0)
        self.held: list[Reservation] = []

    @rule(seconds=EIGHTHS)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.tokens = min(Fraction(self.burst), self.tokens + Fraction(seconds) * Fraction(self.rate))
        self.earned += Fraction(seconds) * Fraction(self.rate)

    @rule(seconds=EIGHTHS)
    def the_clock_steps_back(self, seconds: float) -> None:
        self.bucket = bucket.filled(self.bucket, now=self.now, rate=self.rate, burst=self.burst)
        self.held.clear()  # what was promised for a time is not to be held against another
        self.now -= seconds
        self.bucket = bucket.filled(self.bucket, now=self.now, rate=self.rate, burst=self.burst)

    @rule(amount=EIGHTHS)
    def take(self, amount: float) -> None:
        needed = min(Fraction(amount), Fraction(self.burst))

        self.bucket, wait = bucket.take(self.bucket, now=self.now, rate=self.rate, burst=self.burst, amount=amount)

        if self.tokens >= needed:
            assert wait == 0.0
            self.tokens -= Fraction(amount)
            self.used += Fraction(amount)
        else:
            assert wait == (float((needed - self.tokens) / Fraction(self.rate)) if self.rate else math.inf)

    @rule(amount=EIGHTHS)
    def take_strictly(self, amount: float) -> None:
        before = self.bucket

        self.bucket, wait = bucket.take(
            self.bucket, now=self.now, rate=self.rate, burst=self.burst, amount=amount, strict=True
        )

        if wait == 0.0:
            assert amount <= self.burst
            self.tokens -= Fraction(amount)
            self.used += Fraction(amount)
        else:
            assert self.bucket == before
            assert (wait == math.inf) is (amount > self.burst or not self.rate)

    @rule(amount=EIGHTHS, max_wait=EIGHTHS)
    def reserve(self, amount: float, max_wait: float) -> None:
        missing = max(Fraction(0), Fraction(amount) - self.tokens)
        late = missing > Fraction(max_wait) * Fraction(self.rate) if missing else False

        self.bucket, made = bucket.reserve(
            self.bucket, now=self.now, rate=self.rate, burst=self.burst, amount=amount, max_wait=max_wait
        )

        assert (made is None) is (amount > self.burst or late)
        if made is not None:
            assert made.at == (self.now + float(missing / Fraction(self.rate)) if missing else self.now)
            self.tokens -= Fraction(amount)
            self.used += Fraction(amount)
            self.held = [*self.held, made]

    @precondition(lambda self: self.held)
    @rule()
    def cancel_the_last(self) -> None:
        """Nobody was promised anything on top of the last reservation: all of it comes back, unless it acts already."""
        last = self.held.pop()
        acts = last.at < self.now

        self.bucket = bucket.cancel(self.bucket, last, now=self.now, rate=self.rate, burst=self.burst)

        if not acts:
            self.tokens = min(Fraction(self.burst), self.tokens + Fraction(last.amount))
            self.used -= Fraction(last.amount)

    @rule(estimated=EIGHTHS, actual=EIGHTHS)
    def correct(self, estimated: float, actual: float) -> None:
        """What was taken on an estimate turns out otherwise."""
        self.bucket = bucket.filled(self.bucket, now=self.now, rate=self.rate, burst=self.burst)

        self.bucket = bucket.correct(self.bucket, estimated=estimated, actual=actual, burst=self.burst)

        self.tokens = min(Fraction(self.burst), self.tokens + Fraction(estimated) - Fraction(actual))
        self.used += Fraction(actual) - Fraction(estimated)
        self.held.clear()

    @rule(rate=RATES, burst=BURSTS)
    def the_limit_changes(self, rate: float, burst: float) -> None:
        self.bucket = bucket.filled(self.bucket, now=self.now, rate=self.rate, burst=self.burst)
        self.rate, self.burst = rate, burst
        self.bucket = bucket.filled(self.bucket, now=self.now, rate=rate, burst=burst)
        self.tokens = min(Fraction(burst), self.tokens)
        self.held.clear()

    @invariant()
    def it_has_what_arithmetic_says(self) -> None:
        seen = bucket.filled(self.bucket, now=self.now, rate=self.rate, burst=self.burst)
        assert Fraction(seen.tokens) == self.tokens
        assert self.used + self.tokens <= self.earned


TestBucketMachine = BucketMachine.TestCase
TestBucketMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)

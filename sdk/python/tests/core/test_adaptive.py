"""Adaptive limits: where they settle, what they must not learn from, and that they recover."""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.adaptive import Adaptive

MOST = 200


class Provider:
    """Calls that fill the limit, one after the other, to somebody who answers ``bears`` at once and has the others wait."""

    def __init__(self, limit: int = MOST, *, noise: Callable[[], float] = lambda: 1.0) -> None:
        self.limit = Adaptive(limit)
        self.most = limit
        self.noise = noise
        self.now = 0.0
        for _ in range(30):
            self.call(0.5, running=1)

    def call(self, seconds: float, *, running: int) -> None:
        self.now += 1
        self.limit.gradient("first", seconds, running=running, started=self.now, now=self.now + 0.5)

    def serve(self, *, bears: int, rounds: int, best_s: float = 0.5) -> float:
        """Return how many ran on average."""
        ran = []
        for _ in range(rounds):
            running = self.limit.bounded(1, self.most)
            ran.append(running)
            self.call(best_s * max(1.0, running / bears) * self.noise(), running=running)
        return sum(ran) / len(ran)


def test_gradient__provider_bears_twenty__settles_around_it_and_stays() -> None:
    provider = Provider()

    assert 20 <= provider.serve(bears=20, rounds=2000) <= 60
    assert 20 <= provider.serve(bears=20, rounds=10_000) <= 50


def test_gradient__times_vary_widely__settles_all_the_same() -> None:
    chance = random.Random(7)
    provider = Provider(noise=lambda: chance.lognormvariate(0, 0.5))
    provider.serve(bears=20, rounds=2000)

    assert 20 <= provider.serve(bears=20, rounds=10_000) <= 60


def test_gradient__times_vary_and_nobody_waits__stays_high() -> None:
    chance = random.Random(7)
    provider = Provider(50, noise=lambda: chance.lognormvariate(0, 0.8))

    assert provider.serve(bears=1000, rounds=5000) > 40


def test_gradient__provider_recovers__the_limit_does_too() -> None:
    provider = Provider(100)
    assert provider.serve(bears=10, rounds=1000) < 40

    provider.serve(bears=1000, rounds=200)

    assert provider.limit.bounded(1, 100) == 100


def test_gradient__slow_for_reasons_of_its_own__found_normal_by_a_probe() -> None:
    provider = Provider(50)
    provider.serve(bears=1000, rounds=40, best_s=5.0)
    assert provider.limit.whole < 30

    provider.serve(bears=1000, rounds=2000, best_s=5.0)

    assert provider.limit.bounded(1, 50) == 50


def test_gradient__probing__calls_that_began_among_many_do_not_count() -> None:
    provider = Provider(50)
    limit = provider.limit
    for _ in range(1000):
        if limit.bounded(1, 50) < limit.whole:
            break
        provider.call(5.0, running=limit.bounded(1, 50))
    provider.call(5.0, running=1)

    for _ in range(50):
        limit.gradient("first", 5.0, running=1, started=0.0, now=provider.now)

    assert limit.bounded(1, 50) < limit.whole


def test_gradient__limit_does_not_bind__says_nothing() -> None:
    limit = Adaptive(50)

    for at in range(100):
        limit.gradient("whole", 1.0 + at, running=10, started=0.0, now=0.0)

    assert limit.whole == 50


def test_gradient__signals_of_different_kinds__each_held_against_its_own_past() -> None:
    limit = Adaptive(50)

    for _ in range(50):
        limit.gradient("first", 0.5, running=50, started=0.0, now=0.0)
        limit.gradient("whole", 30.0, running=50, started=0.0, now=0.0)
        limit.bounded(1, 50)

    assert limit.whole == 50


def test_dropped__many_of_one_round__one_cut() -> None:
    limit = Adaptive(100)

    for _ in range(20):
        limit.dropped(started=1.0, now=2.0)
    assert limit.whole == 90
    limit.dropped(started=2.5, now=3.0)

    assert limit.whole == 81


def test_bounded__pushed_beyond__comes_back_at_once() -> None:
    limit = Adaptive(10)
    for _ in range(100):
        limit.aimd(running=10_000)

    assert limit.bounded(1, 16) == 16
    limit.dropped(started=0.0, now=1.0)
    assert limit.bounded(1, 16) == 14


@given(samples=st.lists(st.tuples(st.floats(0, 1e4), st.integers(1, 500), st.booleans()), max_size=100))
def test_adaptive__any_samples__stays_within_its_bounds(samples: list[tuple[float, int, bool]]) -> None:
    limit = Adaptive(16)

    for at, (seconds, running, dropped) in enumerate(samples):
        if dropped:
            limit.dropped(started=float(at), now=float(at))
        else:
            limit.gradient("token", seconds, running=running, started=float(at), now=float(at))
        assert 2 <= limit.bounded(2, 64) <= 64

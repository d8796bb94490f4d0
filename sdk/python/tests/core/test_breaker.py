"""Breakers: when they open, how they probe, and what must not close, open or block them."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core import breaker
from tidegate.core.breaker import Breaker, Permit
from tidegate.core.policy import BreakerRule

RULE = BreakerRule(
    window_s=10, min_calls=4, failure_rate=0.5, slow_call_ms=1000, slow_call_rate=0.75, open_s=5, half_open_calls=2,
    mode="auto",
)  # fmt: skip


class World:
    """A breaker with a clock."""

    def __init__(self, rule: BreakerRule = RULE) -> None:
        self.rule = rule
        self.state = Breaker()
        self.now = 100.0

    def ask(self) -> Permit | None:
        self.state, permit, self.retry_after_s = breaker.ask(self.state, self.rule, self.now)
        return permit

    def finish(
        self, permit: Permit, outcome: breaker.Outcome = "success", took_ms: float = 10.0, why: str = ""
    ) -> None:
        self.state = breaker.finish(
            self.state, self.rule, permit, now=self.now, outcome=outcome, took_ms=took_ms, why=why
        )

    def call(self, outcome: breaker.Outcome = "success", times: int = 1, **told: Any) -> None:
        for _ in range(times):
            permit = self.ask()
            assert permit is not None
            self.finish(permit, outcome, **told)

    def opened(self) -> World:
        self.call("failure", times=4, why="timeout")
        assert self.state.phase == "open"
        return self


def test_breaker__half_of_the_calls_fail__opens_and_says_why() -> None:
    world = World()

    world.call(times=2)
    world.call("failure", times=2, why="timeout")

    assert world.state.phase == "open"
    assert world.state.cause == "2 of 4 calls failed (timeout)"
    assert world.ask() is None
    assert world.retry_after_s == 5


def test_breaker__fewer_calls_than_it_takes__stays_closed() -> None:
    world = World()

    world.call("failure", times=3)

    assert world.state.phase == "closed"


def test_breaker__failures_older_than_the_window__forgotten() -> None:
    world = World()

    world.call("failure", times=3)
    world.now += 10.1
    world.call(times=3)
    world.call("failure")

    assert world.state.phase == "closed"


def test_breaker__slow_calls__opens() -> None:
    world = World()

    world.call(times=1)
    world.call(times=3, took_ms=1001.0)

    assert world.state.phase == "open"
    assert world.state.cause == "3 of 4 calls took longer than 1000 ms"


def test_half_open__thousand_at_once__as_many_probes_as_the_rule_says() -> None:
    world = World().opened()
    world.now += 5

    permits = [world.ask() for _ in range(1000)]

    assert sum(permit is not None for permit in permits) == 2


def test_half_open__probes_go_well__closes_with_a_clean_window() -> None:
    world = World().opened()
    world.now += 5

    world.call(times=2)

    assert world.state.phase == "closed"
    assert breaker.tally(world.state, RULE, world.now).calls == 0


def test_half_open__as_many_probes_fail_as_the_rate_says__opens_again_for_as_long() -> None:
    world = World().opened()
    world.now += 5

    world.call("success")
    world.call("failure", why="server")

    assert world.state.phase == "open"
    assert world.state.cause == "when probed, 1 of 2 calls failed (server)"
    assert world.ask() is None
    assert world.retry_after_s == 5


def test_breaker__enough_calls_with_a_success_as_the_last__judged_all_the_same() -> None:
    world = World()

    world.call("failure", times=3)
    world.call("success")

    assert world.state.phase == "open"


def test_half_open__probes_never_come_back__new_ones_after_a_while() -> None:
    world = World().opened()
    world.now += 5
    lost = [world.ask(), world.ask()]

    world.now += 5
    world.call(times=2)

    assert world.state.phase == "closed"
    world.finish(lost[0] or Permit(0), "failure")
    assert breaker.tally(world.state, RULE, world.now).calls == 0


def test_half_open__probe_refused_by_a_later_gate__given_to_another() -> None:
    world = World().opened()
    world.now += 5
    permit = world.ask()
    assert permit is not None
    assert world.ask() is not None
    assert world.ask() is None

    world.state = breaker.release(world.state, permit)

    assert world.ask() is not None


def test_finish__result_from_before_the_trip__counts_for_nothing() -> None:
    world = World()
    early = world.ask()
    assert early is not None
    world.opened()
    world.now += 5

    world.finish(early, "success")

    assert world.state.phase == "open"


def test_finish__neutral__neither_success_nor_failure() -> None:
    world = World().opened()
    world.now += 5

    world.call("neutral", times=10)

    assert world.state.phase == "half_open"
    assert world.state.probes == 0


def test_modes__operators_word__outranks_the_evidence() -> None:
    world = World().opened()

    world.rule = RULE._replace(mode="forced_closed")
    assert world.ask() is not None
    world.rule = RULE._replace(mode="metrics_only")
    assert world.ask() is not None
    world.rule = RULE._replace(mode="forced_open")
    assert world.ask() is None
    assert world.retry_after_s is None


def test_metrics_only__everything_fails__counts_and_stays_closed() -> None:
    world = World(RULE._replace(mode="metrics_only"))

    world.call("failure", times=10)

    assert world.state.phase == "closed"
    assert breaker.tally(world.state, world.rule, world.now).failures == 10


def test_reset__open__closed_and_early_results_are_ignored() -> None:
    world = World()
    early = world.ask()
    assert early is not None
    world.opened()

    world.state = breaker.reset(world.state, now=world.now, resets=1)
    world.finish(early, "failure")

    assert world.state.phase == "closed"
    assert breaker.tally(world.state, RULE, world.now).calls == 0


@settings(max_examples=200)
@given(
    steps=st.lists(
        st.tuples(st.floats(0, 4), st.sampled_from(["ask", "success", "failure", "neutral", "release"])), max_size=80
    )
)
def test_breaker__any_history__probes_are_bounded_and_it_never_stays_shut_for_ever(
    steps: list[tuple[float, str]],
) -> None:
    world = World()
    out: list[Permit] = []

    for pause, step in steps:
        world.now += pause
        if step == "ask":
            permit = world.ask()
            out.extend([permit] if permit else [])
        elif out and step == "release":
            world.state = breaker.release(world.state, out.pop())
        elif out:
            world.finish(out.pop(), step)  # type: ignore[arg-type]  # one of the outcomes
        assert 0 <= world.state.probes <= RULE.half_open_calls

    world.now += 2 * RULE.open_s
    assert world.ask() is not None

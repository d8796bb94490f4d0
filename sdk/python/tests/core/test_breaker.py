"""Breakers: when they open, how they probe, and what must not close, open or block them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.breaker import Breaker, Outcome, Permit
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
        return self.state.ask(self.rule, self.now)

    @property
    def retry_after_s(self) -> float | None:
        return self.state.retry_after_s(self.rule, self.now)

    def finish(self, permit: Permit, outcome: Outcome = "success", took_ms: float = 10.0, **told: Any) -> None:
        self.state.finish(permit, self.rule, now=self.now, outcome=outcome, took_ms=took_ms, **told)

    @property
    def calls(self) -> int:
        return self.state.view(self.rule, self.now).calls

    def call(self, outcome: Outcome = "success", times: int = 1, **told: Any) -> None:
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
    assert world.calls == 0


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
    world = World(RULE._replace(slow_call_ms=None)).opened()
    world.now += 5
    lost = [world.ask(), world.ask()]

    world.now += 5
    world.call(times=2)

    assert world.state.phase == "closed"
    world.finish(lost[0] or Permit(0), "failure")
    assert world.calls == 0


def test_half_open__probe_refused_by_a_later_gate__given_to_another() -> None:
    world = World().opened()
    world.now += 5
    permit = world.ask()
    assert permit is not None
    assert world.ask() is not None
    assert world.ask() is None

    world.state.release(permit)

    assert world.ask() is not None


def test_finish__result_from_before_the_trip__counts_for_nothing() -> None:
    world = World()
    early = world.ask()
    assert early is not None
    world.opened()
    world.now += 5

    world.finish(early, "success")

    assert world.state.phase == "open"


def test_window__tumbling__begins_with_its_first_call_and_forgets_all_at_once() -> None:
    world = World(RULE._replace(window="tumbling", min_calls=5))
    world.call("failure", times=2)
    world.now += 9.5
    world.call()
    assert world.calls == 3

    world.now += 0.5
    assert world.calls == 0
    world.now += 1
    world.call("failure")
    world.now += 9.5
    assert world.calls == 1


def test_finish__neutral__neither_success_nor_failure() -> None:
    world = World().opened()
    world.now += 5

    world.call("neutral", times=10)

    assert world.state.phase == "half_open"
    assert world.state.view(RULE, world.now).neutral == 10


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
    assert world.state.recent.failures == 10


def test_reset__open__closed_and_early_results_are_ignored() -> None:
    world = World()
    early = world.ask()
    assert early is not None
    world.opened()

    world.state.reset(now=world.now, resets=1)
    world.finish(early, "failure")

    assert world.state.phase == "closed"
    assert world.calls == 0


def test_window_of_calls__older_ones__forgotten_whatever_the_time() -> None:
    world = World(RULE._replace(window_calls=4, failure_rate=1.0))

    world.call("failure", times=3)
    world.call()
    world.now += 1000
    world.call("failure", times=3)
    assert world.state.phase == "closed"
    world.call("failure")

    assert world.state.phase == "open"


def test_window__changes_its_length__what_was_counted_stays() -> None:
    world = World()
    world.call("failure", times=3)

    world.rule = RULE._replace(window_s=60)
    world.now += 20
    world.call("failure")

    assert world.state.phase == "open"


def test_window__changes_its_kind__begins_anew() -> None:
    world = World()
    world.call("failure", times=3)

    world.rule = RULE._replace(window_calls=10)
    world.call("failure")

    assert world.state.phase == "closed"
    assert world.calls == 1


def test_clock__steps_back__counts_stay_whole() -> None:
    world = World()
    world.call("failure", times=2)
    world.now -= 50
    world.call("failure")

    assert world.calls == 3


def test_hang__calls_in_flight_too_long__opens_before_any_ends() -> None:
    world = World()
    hanging = [world.ask() for _ in range(4)]
    world.now += 1.001

    assert world.ask() is None

    assert world.state.cause == "4 of 4 calls took longer than 1000 ms, 4 of them still hang"
    assert world.state.view(RULE, world.now).slow == 4
    world.finish(hanging[0] or Permit(0), "success")
    assert world.state.phase == "open"


def test_hang__waited_before_it_went_out__counts_from_then() -> None:
    world = World()
    permits = [permit for _ in range(4) if (permit := world.ask())]
    world.now += 5
    for permit in permits:
        world.state.started(permit, world.now)
    world.now += 1

    assert world.ask() is not None


def test_hang__ends_at_last__counted_once() -> None:
    world = World()
    permit = world.ask()
    assert permit is not None
    world.now += 2
    assert world.state.view(RULE, world.now).hung == 1

    world.finish(permit, took_ms=2000.0)

    view = world.state.view(RULE, world.now)
    assert (view.calls, view.slow, view.hung) == (1, 1, 0)


def test_hang__probes_hang__opens_again() -> None:
    world = World().opened()
    world.now += 5
    assert world.ask() is not None
    assert world.ask() is not None

    world.now += 1.5

    assert world.ask() is None
    assert world.state.phase == "open"
    assert world.state.cause.startswith("when probed, 2 of 2 calls took longer")


def test_half_open__probes_slower_than_the_open_time__still_close_it() -> None:
    world = World(RULE._replace(slow_call_ms=None)).opened()
    world.now += 5
    slow = [world.ask(), world.ask()]
    world.now += 6
    assert world.ask() is not None  # their permits have expired

    for permit in slow:
        world.finish(permit or Permit(0))

    assert world.state.phase == "closed"


def test_half_open__strict_and_a_probe_fails__opens_at_once() -> None:
    world = World(RULE._replace(probing="strict", half_open_calls=5)).opened()
    world.now += 5

    world.call(times=2)
    world.call("failure", why="server")

    assert world.state.phase == "open"
    assert world.state.cause == "when probed, a probe failed (server)"


@pytest.mark.parametrize(("asked", "stays"), [(2.0, 5.0), (30.0, 30.0), (86_400.0, 300.0)])
def test_open__provider_said_when_to_come_back__not_before_and_within_reason(asked: float, stays: float) -> None:
    world = World()

    world.call("failure", times=4, retry_after_s=asked)

    assert world.retry_after_s == stays


def test_open__looked_at_after_its_time__half_open_without_a_call() -> None:
    world = World().opened()
    world.now += 5

    assert world.state.view(RULE, world.now).phase == "half_open"


def test_refuses__would_be_let_through__takes_no_permit() -> None:
    world = World(RULE._replace(half_open_calls=1)).opened()
    assert world.state.refuses(RULE, world.now)
    world.now += 5

    assert not world.state.refuses(world.rule, world.now)
    assert not world.state.refuses(world.rule, world.now)
    assert world.ask() is not None
    assert world.state.refuses(world.rule, world.now)


def test_refused__counted_until_the_phase_changes() -> None:
    world = World().opened()
    world.ask()
    world.ask()
    assert world.state.view(RULE, world.now).refused == 2

    world.now += 5

    assert world.state.view(RULE, world.now).refused == 0


def test_metrics_only__rates_exceeded__says_that_it_would_be_open() -> None:
    world = World(RULE._replace(mode="metrics_only"))
    world.call("failure", times=4)
    assert world.state.cause == "would be open: 4 of 4 calls failed"

    world.call(times=5)

    assert world.state.cause == ""


def test_force__half_open_from_closed__refused() -> None:
    world = World()

    with pytest.raises(ValueError, match="closed"):
        world.state.force("half_open", world.now)

    world.state.force("open", world.now)
    assert world.ask() is None
    world.state.force("half_open", world.now)
    assert world.ask() is not None
    world.state.force("closed", world.now)
    assert world.calls == 0


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
            world.state.release(out.pop())
        elif out:
            world.finish(out.pop(), step)  # type: ignore[arg-type]  # one of the outcomes
        held = sum(1 for permit in out if permit.generation == world.state.generation)
        if world.state.phase == "half_open":
            assert len(world.state._probes) <= min(held, RULE.half_open_calls)

    world.now += 2 * RULE.open_s
    if world.ask() is None:  # calls that hang have just opened it
        world.now += RULE.open_s
        assert world.ask() is not None

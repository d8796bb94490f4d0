"""Breakers: when they open, for how long, and whose word they heed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdk.python.tests.core.tripping import RULE, World
from tidegate.core.breaker import Permit


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


def test_breaker__slow_calls__opens() -> None:
    world = World()

    world.call(times=1)
    world.call(times=3, took_ms=1001.0)

    assert world.state.phase == "open"
    assert world.state.cause == "3 of 4 calls took longer than 1000 ms"


def test_breaker__enough_calls_with_a_success_as_the_last__judged_all_the_same() -> None:
    world = World()

    world.call("failure", times=3)
    world.call("success")

    assert world.state.phase == "open"


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

"""Breakers that are half open: how they probe, and what must not close, open or block them."""

from __future__ import annotations

from sdk.python.tests.core.tripping import RULE, World
from tidegate.core.breaker import Permit


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


def test_finish__neutral__neither_success_nor_failure() -> None:
    world = World().opened()
    world.now += 5

    world.call("neutral", times=10)

    assert world.state.phase == "half_open"
    assert world.state.view(RULE, world.now).neutral == 10


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

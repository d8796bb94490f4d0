"""What a breaker counts: windows of time and of calls, and calls that hang."""

from __future__ import annotations

from sdk.python.tests.core.tripping import RULE, World
from tidegate.core.breaker import Permit


def test_breaker__failures_older_than_the_window__forgotten() -> None:
    world = World()

    world.call("failure", times=3)
    world.now += 10.1
    world.call(times=3)
    world.call("failure")

    assert world.state.phase == "closed"


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

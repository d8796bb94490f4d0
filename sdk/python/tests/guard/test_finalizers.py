"""Calls that the garbage collector ends: wherever it runs, in whoever's midst, nobody waits for ever and nothing is lost."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from contextvars import copy_context
from typing import Any

import pytest

from sdk.python.tests.bench import Bench
from sdk.python.tests.guard.spending import BOUND, COST, PRICED
from tidegate.call import Call
from tidegate.integrations.guarding import Stream
from tidegate.sampling import Sampler, Sampling

PATIENCE_S = 20.0


@pytest.fixture
def funded(bench: Bench) -> Bench:
    bench.budget("all")
    bench.fund(10 * BOUND, **PRICED)
    return bench


class _Unsaid:
    """A meter of a stream of which it is known what it used."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def finish(self, *, complete: bool) -> None:
        assert not complete
        self._call.record_usage({"input": 400, "output": 100})


def leave_generator(bench: Bench) -> None:
    def chunks() -> Iterator[int]:
        with bench.call(**PRICED) as call:
            call.record(input_tokens=400, output_tokens=100)
            yield 1

    left: list[Any] = [chunks()]
    copy_context().run(next, left[0])  # the call stays the current one there
    left.append(left)  # only the collector finds it


def leave_stream(bench: Bench) -> None:
    call = bench.call(**PRICED)
    call.admit()
    left: list[Any] = [Stream(iter(()), call, _Unsaid(call), lambda _: True)]  # type: ignore[arg-type]
    left.append(left)


def leave_finished_stream(bench: Bench) -> None:
    call = bench.call(**PRICED)
    call.admit()
    call.record(input_tokens=400, output_tokens=100)
    call.settle(None, last=False)

    class Left:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            call.end()

    Left()


def collect_under(lock: Any) -> bool:
    """Collect garbage while ``lock`` is held; whether that came to its end."""

    def collect() -> None:
        with lock:
            gc.collect()

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return not thread.is_alive()


@pytest.fixture
def by_hand() -> Iterator[None]:
    """Have the collector run when a test says so, and not before."""
    with ExitStack() as stack:
        if gc.isenabled():
            stack.callback(gc.enable)
            gc.disable()
        gc.collect()
        yield


@pytest.mark.usefixtures("by_hand")
@pytest.mark.parametrize("leave", [leave_generator, leave_stream, leave_finished_stream])
def test_collector__in_the_midst_of_the_books__puts_the_end_off_until_they_are_free(
    funded: Bench, leave: Callable[[Bench], None]
) -> None:
    leave(funded)

    assert collect_under(funded.guard.lock)
    assert funded.guard.lock.acquire(blocking=False)
    assert funded.row().calls == 0
    funded.guard.lock.release()

    request, _ = funded.sync()
    assert request["leases"][0]["settled"] == COST
    assert request["windows"][0]["rows"][0]["calls"] == 1
    assert funded.guard.in_flight == 0


@pytest.mark.usefixtures("by_hand")
def test_collector__in_the_midst_of_sifting__ends_the_call(funded: Bench) -> None:
    sampler = Sampler(Sampling(share=0.0))
    funded.tracer.sampler = sampler
    leave_generator(funded)

    assert collect_under(sampler._lock)
    request, _ = funded.sync()
    assert request["leases"][0]["settled"] == COST


@pytest.mark.usefixtures("by_hand")
def test_call__after_one_was_put_off__finds_its_place_free(bench: Bench) -> None:
    bench.policy({"queue": {"max_concurrent": 1, "max_waiting": 0}})

    def chunks() -> Iterator[int]:
        with bench.call():
            yield 1

    left: list[Any] = [chunks()]
    copy_context().run(next, left[0])
    left.append(left)
    del left
    assert collect_under(bench.guard.lock)

    with bench.call():
        assert bench.guard.in_flight == 1

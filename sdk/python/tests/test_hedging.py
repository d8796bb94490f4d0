"""A second attempt beside a slow one: who wins, what it costs, and what it must not pass by."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from sdk.python.tests.bench import Bench
from tidegate.around import current
from tidegate.call import Call
from tidegate.running import arun, run

HEDGED = {"retry": {"max_attempts": 1, "hedge_ms": 1}}
COST = {"cost_usd": "0.10"}


class Provider:
    """Attempts in order of arrival; each answers, or raises, when it is told to."""

    def __init__(self, *answers: str | BaseException | None) -> None:
        self.answers = answers  # ``None``: never, until it is cancelled or let go
        self.calls: list[Call] = []
        self.lock = threading.Lock()
        self.let_go = threading.Event()
        self.ended = threading.Event()
        self.cancelled = 0

    def _arrive(self, call: Call) -> str | BaseException | None:
        assert current() is call
        with self.lock:
            self.calls.append(call)
            return self.answers[len(self.calls) - 1]

    def __call__(self, call: Call) -> str:
        answer = self._arrive(call)
        if answer is None:
            self.let_go.wait(10)
            self.ended.set()
            return "late"
        call.record(cost_usd="0.03")
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def later(self, call: Call) -> str:
        answer = self._arrive(call)
        if answer is None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        call.record(cost_usd="0.03")
        if isinstance(answer, BaseException):
            raise answer
        return str(answer)


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if holds():
            return
        await asyncio.sleep(0.001)
    pytest.fail("it never happened")


Runner = Callable[[Bench, Provider], str]


@pytest.fixture(params=["thread", "loop"])
def runner(request: pytest.FixtureRequest) -> Runner:
    def in_thread(bench: Bench, provider: Provider) -> str:
        return run(bench.plan(**COST), "chat", provider)

    def in_loop(bench: Bench, provider: Provider) -> str:
        return asyncio.run(arun(bench.plan(**COST), "chat", provider.later))

    return in_thread if request.param == "thread" else in_loop


def test_hedge__answers_in_time__no_second_attempt(bench: Bench, runner: Runner) -> None:
    bench.policy({"retry": {"max_attempts": 1, "hedge_ms": 3_600_000}})
    provider = Provider("first")

    assert runner(bench, provider) == "first"

    assert len(provider.calls) == 1
    assert bench.row().kinds == {}


def test_hedge__first_is_slow__the_second_answers_and_both_are_paid(bench: Bench) -> None:
    bench.budget("all")
    bench.policy(HEDGED)
    bench.fund(10**9, **COST)
    provider = Provider(None, "second")

    assert asyncio.run(arun(bench.plan(**COST), "chat", provider.later)) == "second"

    request, _ = bench.sync()
    row = request["windows"][0]["rows"][0]
    assert provider.cancelled == 1
    assert (row["calls"], row["errors"], row["retries"]) == (1, 0, 0)
    assert row["kinds"] == {"hedged": 1, "hedge_won": 1}
    assert request["leases"][0]["settled"] == row["cost_nusd"] == 130_000_000  # what was cancelled settles at its bound
    assert row["call_cost_nusd"][:2] == [1, 130_000_000]
    assert not bench.guard.running


def test_hedge__first_is_slow_in_a_thread__settled_when_it_ends(bench: Bench) -> None:
    bench.budget("all")
    bench.policy(HEDGED)
    bench.fund(10**9, **COST)
    provider = Provider(None, "second")

    assert run(bench.plan(**COST), "chat", provider) == "second"

    assert len(bench.guard.running) == 1
    request, _ = bench.sync()
    assert request["leases"][0]["settled"] == 30_000_000
    assert request["windows"][0]["rows"][0]["calls"] == 1
    provider.let_go.set()
    for thread in threading.enumerate():
        if thread.name == "tidegate chat":
            thread.join(10)
    assert not bench.guard.running
    assert bench.sync()[0]["leases"][0]["settled"] == 130_000_000


def test_hedge__the_budget_has_no_room_for_it__the_first_goes_on_alone(bench: Bench) -> None:
    bench.budget("all")
    bench.policy(HEDGED)
    bench.fund(100_000_000, **COST)
    provider = Provider(None, "never")

    async def scenario() -> str:
        task = asyncio.ensure_future(arun(bench.plan(**COST), "chat", provider.later))
        await until(lambda: bool(bench.guard.waiting))
        bench.sync(grant=0, denied="exhausted", blocked_by="acme/all")
        for _ in range(20):
            await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return "cancelled"

    assert asyncio.run(scenario()) == "cancelled"

    assert len(provider.calls) == 1
    assert bench.row().kinds.get("hedge_refused") == 1
    assert bench.row().refused == 0
    assert not bench.guard.running


def test_hedge__both_fail__the_first_ones_error(bench: Bench, runner: Runner) -> None:
    bench.policy({"retry": {"max_attempts": 1, "hedge_ms": 1}})
    provider = Provider(None, TimeoutError("second"))
    provider.let_go.set()
    if runner.__name__ == "in_thread":
        assert runner(bench, provider) == "late"
    else:

        async def first_fails() -> None:
            with pytest.raises(RuntimeError, match="first"):
                await arun(bench.plan(**COST), "chat", failing)

        both = asyncio.Event()

        async def failing(call: Call) -> str:
            provider.calls.append(call)
            if len(provider.calls) == 1:
                await both.wait()
                raise RuntimeError("first")
            both.set()
            raise TimeoutError("second")

        asyncio.run(first_fails())
        assert (bench.row().calls, bench.row().errors) == (1, 1)
    assert not bench.guard.running


def test_hedge__retry_budget_is_used_up__no_second_attempt(bench: Bench) -> None:
    bench.policy({"retry": {"max_attempts": 1, "hedge_ms": 1, "budget_ratio": 0.0}})
    started = asyncio.Event()

    async def slow(call: Call) -> str:
        started.set()
        await asyncio.sleep(0.02)
        return "first"

    assert asyncio.run(arun(bench.plan(**COST), "chat", slow)) == "first"

    assert bench.row().kinds == {}


def test_hedge__breaker_is_open__the_second_is_refused(bench: Bench) -> None:
    bench.policy(HEDGED)
    answer = asyncio.Event()

    async def slow(call: Call) -> str:
        bench.policy({**HEDGED, "breaker": {"mode": "forced_open"}})
        await answer.wait()
        return "first"

    async def scenario() -> str:
        task = asyncio.ensure_future(arun(bench.plan(), "chat", slow))
        await until(lambda: bool(bench.row().kinds.get("hedge_refused")))
        answer.set()
        return await task

    assert asyncio.run(scenario()) == "first"

    assert bench.row().calls == 1


def test_hedge__cancelled_from_outside__both_are_and_nothing_is_held(bench: Bench) -> None:
    bench.budget("all")
    bench.policy({**HEDGED, "queue": {"max_concurrent": 2}})
    bench.fund(10**9, **COST)
    provider = Provider(None, None)

    async def scenario() -> None:
        task = asyncio.ensure_future(arun(bench.plan(**COST), "chat", provider.later))
        await until(lambda: len(provider.calls) == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())

    assert provider.cancelled == 2
    request, _ = bench.sync()
    assert (request["leases"][0]["held"], request["leases"][0]["settled"]) == (0, 200_000_000)
    assert bench.guard.lane("acme", "chat").line.running == 0


def test_hedge__deadline_passes__both_are_cancelled(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.policy({**HEDGED, "timeout_ms": 60_000})
    monkeypatch.setattr(type(bench.clock), "patience", lambda _clock, _until: 0.05)
    provider = Provider(None, None)

    with pytest.raises(TimeoutError):
        asyncio.run(arun(bench.plan(), "chat", provider.later))

    assert provider.cancelled == len(provider.calls)
    assert bench.row().kinds["error.timeout"] == 1
    assert not bench.guard.running

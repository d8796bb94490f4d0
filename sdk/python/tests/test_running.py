"""Retries, timeouts and fallbacks around a function, in threads and in event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import tidegate
from sdk.python.tests.bench import Bench
from tidegate.call import Call
from tidegate.running import arun, run

RETRY = {"max_attempts": 3, "base_ms": 0, "max_ms": 0}


class Turned(Exception):
    def __init__(self, status_code: int, retry_after_s: float | None = None) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code
        self.retry_after_s = retry_after_s


class Provider:
    """Fails with what it is told, then answers."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.routes: list[str] = []

    def __call__(self, call: Call) -> str:
        self.routes.append(call.route)
        if self.errors:
            raise self.errors.pop(0)
        return f"answer of {call.route}"

    async def later(self, call: Call) -> str:
        await asyncio.sleep(0)
        return self(call)


Runner = Callable[..., str]


@pytest.fixture(params=["thread", "loop"])
def runner(request: pytest.FixtureRequest) -> Runner:
    """``run``, or ``arun`` in an event loop of its own."""

    def in_thread(bench: Bench, provider: Provider, **options: Any) -> str:
        return run(bench.plan(**options), "chat", provider)

    def in_loop(bench: Bench, provider: Provider, **options: Any) -> str:
        return asyncio.run(arun(bench.plan(**options), "chat", provider.later))

    return in_thread if request.param == "thread" else in_loop


def test_run__passing_errors__tried_again_as_one_call(bench: Bench, runner: Runner) -> None:
    bench.policy({"retry": RETRY})
    provider = Provider(TimeoutError(), Turned(503))

    assert runner(bench, provider) == "answer of chat"

    row = bench.row()
    assert (row.calls, row.retries, row.errors) == (1, 2, 0)
    assert row.latency_us.count == 1


def test_run__attempts_used_up__the_last_error(bench: Bench, runner: Runner) -> None:
    bench.policy({"retry": RETRY})

    with pytest.raises(Turned, match="502"):
        runner(bench, Provider(TimeoutError(), TimeoutError(), Turned(502), TimeoutError()))

    row = bench.row()
    assert (row.calls, row.retries, row.errors, row.kinds) == (1, 2, 1, {"error.server": 1})


@pytest.mark.parametrize("error", [Turned(400), Turned(401), ValueError(), TypeError(), KeyError()], ids=repr)
def test_run__would_fail_again__not_tried_again(bench: Bench, runner: Runner, error: Exception) -> None:
    bench.policy({"retry": RETRY, "fallbacks": [{"value": "busy"}]})
    provider = Provider(error)

    with pytest.raises(type(error)):
        runner(bench, provider)

    assert len(provider.routes) == 1


def test_run__own_judgement__decides_what_is_tried_again(bench: Bench, runner: Runner) -> None:
    bench.policy({"retry": RETRY})

    answer = runner(bench, Provider(ValueError(), ValueError()), retry_on=lambda error: isinstance(error, ValueError))

    assert answer == "answer of chat"


def test_run__body_says_no_retry__not_tried_again(bench: Bench) -> None:
    def body(call: Call) -> str:
        call.no_retry()
        raise TimeoutError

    bench.policy({"retry": RETRY})

    with pytest.raises(TimeoutError):
        run(bench.plan(), "chat", body)

    assert bench.row().retries == 0


def test_run__each_attempt__held_and_settled_by_itself(bench: Bench, runner: Runner) -> None:
    bench.budget("all")
    bench.policy({"retry": RETRY})
    bench.fund(10**9, cost_usd="0.10")

    runner(bench, Provider(TimeoutError(), Turned(429)), cost_usd="0.10")

    request, _ = bench.sync()
    assert request["leases"][0]["settled"] == request["windows"][0]["rows"][0]["cost_nusd"] == 200_000_000
    assert request["windows"][0]["rows"][0]["call_cost_nusd"][:2] == [1, 200_000_000]


def test_run__provider_asks_for_more_time_than_there_is__gives_up(bench: Bench, runner: Runner) -> None:
    bench.policy({"retry": RETRY, "timeout_ms": 5000})
    provider = Provider(Turned(429, retry_after_s=6.0))

    with pytest.raises(Turned):
        runner(bench, provider)

    assert len(provider.routes) == 1


def test_run__retries_of_all_calls__bounded_by_the_budget(bench: Bench, runner: Runner) -> None:
    bench.policy({"retry": {**RETRY, "budget_ratio": 0.1}})

    for _ in range(30):
        with pytest.raises(TimeoutError):
            runner(bench, Provider(*[TimeoutError() for _ in range(3)]))

    assert bench.row().calls == 30
    assert 10 <= bench.row().retries <= 13


def test_run__breaker_opens_between_attempts__the_providers_error_with_a_note(bench: Bench, runner: Runner) -> None:
    bench.policy({"retry": RETRY, "breaker": {"min_calls": 2}})
    provider = Provider(*[TimeoutError() for _ in range(3)])

    with pytest.raises(TimeoutError) as raised:
        runner(bench, provider)

    assert "breaker of chat is open" in raised.value.__notes__[0]
    assert len(provider.routes) == 2
    row = bench.row()
    assert (row.calls, row.errors, row.refused, row.retries) == (1, 1, 0, 1)


def test_run__fallback_route__answers_under_its_own_policy(bench: Bench, runner: Runner) -> None:
    bench.policy({"fallbacks": [{"route": "small"}, {"value": "busy"}]})
    provider = Provider(TimeoutError())

    assert runner(bench, provider) == "answer of small"

    assert bench.row(route="chat").fallbacks == 1
    assert (bench.row(route="chat").errors, bench.row(route="small").calls) == (1, 1)


def test_run__refused_everywhere__the_value(bench: Bench, runner: Runner) -> None:
    document = {"breaker": {"mode": "forced_open"}, "fallbacks": [{"route": "small"}, {"value": {"text": "busy"}}]}
    bench.policy(document)
    provider = Provider()

    first = runner(bench, provider)
    first["text"] = "changed by the caller"  # type: ignore[index]  # the value is an object

    assert runner(bench, provider) == {"text": "busy"}
    assert provider.routes == []
    assert bench.row(route="chat").fallbacks == 2


def test_run__no_fallback__the_refusal(bench: Bench, runner: Runner) -> None:
    bench.policy({"breaker": {"mode": "forced_open"}, "retry": RETRY})

    with pytest.raises(tidegate.BreakerOpen):
        runner(bench, Provider())

    assert (bench.row().calls, bench.row().refused) == (0, 1)


def test_run__fallback_has_a_bug__it_is_not_hidden(bench: Bench, runner: Runner) -> None:
    bench.policy({"fallbacks": [{"route": "small"}, {"value": "busy"}]})

    with pytest.raises(TypeError):
        runner(bench, Provider(TimeoutError(), TypeError()))


def test_run__interrupted__settled_and_not_tried_again(bench: Bench) -> None:
    bench.policy({"retry": RETRY, "fallbacks": [{"value": "busy"}]})

    with pytest.raises(KeyboardInterrupt):
        run(bench.plan(), "chat", Provider(KeyboardInterrupt()))

    assert bench.row().kinds == {"cancelled": 1}
    assert not bench.guard.running


async def test_arun__cancelled_while_it_waits_in_line__gives_everything_back(bench: Bench) -> None:
    limits = [{"unit": "requests", "amount": 2, "scope": "instance"}]
    bench.policy({"queue": {"max_concurrent": 1, "max_wait_ms": 1000}, "limits": limits})
    running = bench.call()
    running.admit()
    task = asyncio.create_task(arun(bench.plan(), "chat", Provider().later))
    await asyncio.sleep(0)
    assert bench.guard.waiting

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not bench.guard.waiting
    assert bench.guard.lane("acme", "chat").line.waiting == 0
    running.settle(None, last=True)
    assert await arun(bench.plan(), "chat", Provider().later) == "answer of chat"


async def test_arun__cancelled_in_the_body__settled_as_unknown(bench: Bench) -> None:
    async def body(call: Call) -> None:
        await asyncio.Event().wait()

    bench.budget("all")
    bench.policy({"retry": RETRY})
    bench.fund(1000, cost_usd="0.000001")
    task = asyncio.create_task(arun(bench.plan(cost_usd="0.000001"), "chat", body))
    await asyncio.sleep(0)
    assert bench.guard.running

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert bench.row().kinds == {"cancelled": 1}
    assert bench.row().cost_nusd == 1000
    assert bench.sync()[0]["leases"][0]["held"] == 0


async def test_arun__slot_granted_as_the_task_is_cancelled__passed_on(bench: Bench) -> None:
    bench.policy({"queue": {"max_concurrent": 1, "max_wait_ms": 1000}})
    running = bench.call()
    running.admit()
    task = asyncio.create_task(arun(bench.plan(), "chat", Provider().later))
    await asyncio.sleep(0)
    assert bench.guard.waiting

    running.settle(None, last=True)  # the slot is the task's now
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert bench.guard.lane("acme", "chat").line.running == 0

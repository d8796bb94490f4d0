"""A gate and a control plane over real HTTP, when all is well: what is spent, held and reported adds up."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest

import tidegate
from sdk.python.tests.end_to_end.calling import BOUND_NUSD, CALL, COST_NUSD, spend
from tidegate.testing import FakeControlPlane


def test_calls__with_a_budget__windows_and_leases_say_the_same_to_the_last_nano_dollar(plane: FakeControlPlane) -> None:
    plane.put_budget("all", "1.00")
    gate = plane.connect()

    for _ in range(100):
        spend(gate)
    gate.close()

    assert plane.total("calls") == 100
    assert plane.total("cost_nusd") == plane.settled_nusd("all") == 100 * COST_NUSD
    assert all(lease.closed for lease in plane.leases.values())


def test_calls__budget_used_up__refused_and_never_overspent(plane: FakeControlPlane) -> None:
    plane.put_budget("small", "0.001")
    gate = plane.connect()

    def spend_all() -> None:
        while True:
            spend(gate)

    with pytest.raises(tidegate.BudgetExhausted) as refused:
        spend_all()
    gate.close()

    assert refused.value.blocked_by == "acme/small"
    assert 1_000_000 - BOUND_NUSD < plane.settled_nusd("small") <= 1_000_000
    assert plane.kinds()["refused.budget_exhausted"] == 1


def test_threads_and_tasks__more_than_the_budget_allows__never_a_nano_dollar_over(plane: FakeControlPlane) -> None:
    plane.put_budget("all", "0.05")
    plane.put_budget("users", "0.02", match={"user": "u-1"})
    plane.put_policy({"queue": {"max_concurrent": 6, "max_waiting": 100, "max_wait_ms": 5000}})
    gate = plane.connect()

    def in_thread(number: int) -> None:
        for _ in range(40):
            with contextlib.suppress(tidegate.Refused):
                spend(gate, user=f"u-{number % 2}", priority=number)

    async def in_task(number: int) -> None:
        for _ in range(40):
            with contextlib.suppress(tidegate.Refused):
                async with gate.call("chat", user=f"u-{number % 2}", **CALL) as call:
                    await asyncio.sleep(0)
                    call.record(input_tokens=400, output_tokens=100)

    async def in_loop() -> None:
        await asyncio.gather(*(in_task(number) for number in range(8)))

    threads = [threading.Thread(target=in_thread, args=(number,)) for number in range(8)]
    threads.append(threading.Thread(target=lambda: asyncio.run(in_loop())))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gate.close()

    assert plane.settled_nusd("all") <= 50_000_000
    assert plane.settled_nusd("users") <= 20_000_000
    assert plane.total("cost_nusd") == plane.settled_nusd("all") == plane.total("calls") * COST_NUSD
    assert plane.total("calls") + plane.total("refused") == 16 * 40
    assert all(lease.closed for lease in plane.leases.values())
    assert gate.status()["in_flight"] == gate.status()["waiting"] == 0


async def test_async__waits_for_funding_and_a_slot__the_loop_goes_on(plane: FakeControlPlane) -> None:
    plane.put_budget("all", "1.00")
    plane.put_policy({"queue": {"max_concurrent": 1, "max_wait_ms": 5000}})
    gate = plane.connect()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    async def call() -> None:
        async with gate.call("chat", **CALL) as guarded:
            await asyncio.sleep(0.01)
            guarded.record(input_tokens=400, output_tokens=100)

    ticking = asyncio.create_task(tick())
    await asyncio.gather(*(call() for _ in range(5)))
    ticking.cancel()
    gate.close()

    assert ticks > 20
    assert plane.settled_nusd("all") == 5 * COST_NUSD


async def test_async__deadline_passes__the_body_is_cancelled_and_settled_as_a_timeout(plane: FakeControlPlane) -> None:
    plane.put_policy({"timeout_ms": 30})
    gate = plane.connect()

    async def hang() -> None:
        async with gate.call("chat"):
            await asyncio.Event().wait()

    async def hang_too(call: tidegate.Call) -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError) as late:
        await hang()
    with pytest.raises(TimeoutError):
        await gate.arun("chat", hang_too)
    gate.close()

    assert "timeout of 30 ms" in late.value.__notes__[0]
    assert plane.kinds() == {"error.timeout": 2}


def test_policy__operator_changes_it__callers_follow_within_a_poll(plane: FakeControlPlane) -> None:
    gate = plane.connect()
    spend(gate)

    plane.put_policy({"breaker": {"mode": "forced_open"}})

    revision = plane.revision
    assert plane.wait_for(lambda _: gate.status()["config"]["revision"] == revision)
    with pytest.raises(tidegate.BreakerOpen):
        spend(gate)
    gate.close()


def test_prices__operator_changes_them__the_next_call_costs_that(plane: FakeControlPlane) -> None:
    gate = plane.connect()
    spend(gate)

    plane.put_prices({"gpt-4o-mini": {"input": 1_000_000, "output": 1_000_000}})

    revision = plane.revision
    assert plane.wait_for(lambda _: gate.status()["config"]["revision"] == revision)
    spend(gate)
    gate.close()
    assert plane.total("cost_nusd") == COST_NUSD + 500


def test_can_afford__asks_when_it_must__and_holds_nothing(plane: FakeControlPlane) -> None:
    plane.put_budget("all", "1.00")
    gate = plane.connect()

    assert gate.can_afford("chat", cost_usd="0.50")
    assert not gate.can_afford("chat", cost_usd="1.01")
    assert not gate.can_afford("chat", cost_usd="1.01")
    assert gate.status()["leases"][0]["held"] == 0
    gate.close()

    assert plane.kinds() == {}
    assert plane.settled_nusd("all") == 0


def test_guarded__def_and_async_def__run_as_calls(plane: FakeControlPlane) -> None:
    plane.put_policy({"retry": {"max_attempts": 2, "base_ms": 0}})
    gate = plane.connect()
    failures = [TimeoutError()]

    @gate.guarded("chat", model="gpt-4o-mini")
    def answer(question: str, *, call: tidegate.Call) -> str:
        """Answers."""
        if failures:
            raise failures.pop()
        call.record(input_tokens=400, output_tokens=100)
        return question.upper()

    @gate.guarded("chat")
    async def answer_later(question: str) -> str:
        return question.upper()

    assert answer("why") == "WHY"
    assert answer.__doc__ == "Answers."
    assert asyncio.run(answer_later("how")) == "HOW"
    gate.close()

    assert (plane.total("calls"), plane.total("retries"), plane.total("cost_nusd")) == (2, 1, COST_NUSD)


def test_traces__calls_refusals_and_attempts__spans_that_belong_together(plane: FakeControlPlane) -> None:
    plane.put_policy({"retry": {"max_attempts": 2, "base_ms": 0}})
    plane.put_policy({"breaker": {"mode": "forced_open"}}, route="shut")
    gate = plane.connect()
    failures = [TimeoutError()]

    def body(call: tidegate.Call) -> None:
        if failures:
            raise failures.pop()
        with gate.call("inner", user="u-1", session="s-1", category="support", **CALL) as inner:
            inner.record(input_tokens=400, output_tokens=100)

    gate.run("outer", body, traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    with pytest.raises(tidegate.BreakerOpen):
        gate.run("shut", body)
    gate.close()

    spans = {span["name"]: span for span in plane.spans}
    outer, inner = spans["outer"], spans["inner gpt-4o-mini"]
    attributes = {item["key"]: next(iter(item["value"].values())) for item in inner["attributes"]}
    assert {span["traceId"] for name, span in spans.items() if name != "shut"} == {"0af7651916cd43dd8448eb211c80319c"}
    assert outer["parentSpanId"] == "b7ad6b7169203331"
    assert inner["parentSpanId"] == outer["spanId"]
    assert [spans[f"outer attempt {n}"]["parentSpanId"] for n in (1, 2)] == [outer["spanId"]] * 2
    assert [spans[f"outer attempt {n}"]["status"]["code"] for n in (1, 2)] == [2, 1]
    assert attributes == {
        "tidegate.tenant": "acme", "tidegate.route": "inner", "tidegate.category": "support", "tidegate.cost_nusd": str(COST_NUSD),
        "tidegate.retries": "0", "gen_ai.usage.input_tokens": "400", "gen_ai.usage.output_tokens": "100",
        "gen_ai.request.model": "gpt-4o-mini", "session.id": "s-1", "user.id": "u-1",
    }  # fmt: skip
    assert spans["shut"]["status"]["code"] == 2
    assert spans["shut"]["events"][0]["name"] == "tidegate.refused"

"""Meshes of agents: order, spans, money."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import tidegate
from sdk.python.tests.patterns.meshes import CALL_NUSD, ask, charged, run_away
from tidegate.patterns import (
    Agent,
    Mesh,
    Step,
    StepFailed,
    Work,
)
from tidegate.patterns.work import in_order
from tidegate.testing import FakeControlPlane


async def test_steps__that_wait_for_each_other__run_side_by_side_where_they_may(gate: tidegate.Gate) -> None:
    both = asyncio.Barrier(2)

    async def research(work: Work) -> str:
        await both.wait()  # passes only when two are at work at the same time
        return f"found {work.input}"

    async def build(work: Work) -> dict[str, Any]:
        return dict(work.results)

    async def coordinate(work: Work) -> Any:
        results = await work.steps(
            Step("report", "builder", after=("tides", "moon")),
            Step("tides", "research", "tides"),
            Step("moon", "research", "moon"),
        )
        return results["report"]

    mesh = Mesh(gate, "m", [Agent("coordinator", coordinate), Agent("research", research), Agent("builder", build)])

    assert await mesh.run("r", "coordinator") == {"tides": "found tides", "moon": "found moon"}


async def test_steps__one_at_once__take_turns(gate: tidegate.Gate) -> None:
    at_work = most = 0

    async def research(work: Work) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await ask(work)
        at_work -= 1

    async def coordinate(work: Work) -> None:
        await work.steps(*(Step(f"s{n}", "research") for n in range(4)))

    await Mesh(gate, "m", [Agent("coordinator", coordinate), Agent("research", research, at_once=1)]).run(
        "r", "coordinator"
    )

    assert most == 1


@pytest.mark.parametrize(
    "steps",
    [
        [Step("a", "x"), Step("a", "x")],
        [Step("a", "x", after=("b",))],
        [Step("a", "x", after=("b",)), Step("b", "x", after=("a",))],
    ],
)
def test_in_order__steps_that_can_not_be_ordered__says_so(steps: list[Step]) -> None:
    with pytest.raises(ValueError, match="step"):
        in_order(steps)


async def test_handoff__to_the_same_agent_twice__needs_names(gate: tidegate.Gate) -> None:
    async def coordinate(work: Work) -> list[Any]:
        with_names = [await work.handoff("echo", n, name=f"echo-{n}") for n in range(2)]
        with pytest.raises(ValueError, match="names of their own"):
            await work.handoff("echo", 3, name="echo-1")
        return with_names

    async def echo(work: Work) -> Any:
        return work.input

    assert await Mesh(gate, "m", [Agent("c", coordinate), Agent("echo", echo)]).run("r", "c") == [0, 1]


async def test_run__traced__is_a_tree_of_workflow_agents_tools_and_calls(
    plane: FakeControlPlane, gate: tidegate.Gate
) -> None:
    async def search(_: str) -> str:
        return "found"

    async def coordinate(work: Work) -> None:
        await ask(work)
        await work.handoff("research")

    async def research(work: Work) -> None:
        await work.tool("search", search, "tides")
        await ask(work)

    await Mesh(gate, "reports", [Agent("coordinator", coordinate), Agent("research", research)], tenant="acme").run(
        "r", "coordinator"
    )
    gate.close()

    names = {span["spanId"]: span["name"] for span in plane.spans}
    edges = Counter((names.get(span.get("parentSpanId", ""), ""), span["name"]) for span in plane.spans)
    assert edges == {
        ("", "invoke_workflow reports"): 1,
        ("invoke_workflow reports", "invoke_agent coordinator"): 1,
        ("invoke_agent coordinator", "agent gpt-4o-mini"): 1,
        ("invoke_agent coordinator", "invoke_agent research"): 1,
        ("invoke_agent research", "execute_tool search"): 1,
        ("invoke_agent research", "agent gpt-4o-mini"): 1,
    }
    assert len({span["traceId"] for span in plane.spans}) == 1
    sessions = {
        each["value"]["stringValue"]
        for span in plane.spans
        for each in span["attributes"]
        if each["key"] == "session.id"
    }
    assert sessions == {"r"}


async def test_run__runaway_agent__is_stopped_before_the_call_that_does_not_fit(
    plane: FakeControlPlane, gate: tidegate.Gate
) -> None:
    mesh = Mesh(gate, "m", [Agent("loop", run_away)])

    with pytest.raises(tidegate.BudgetExhausted) as refused:
        await mesh.run("r", "loop", usd="0.00200")  # four calls and a bit

    assert refused.value.blocked_by == "run r"
    gate.close()
    assert (plane.total("calls"), charged(plane)) == (4, 4 * CALL_NUSD)


async def test_run__runaways_side_by_side_that_swallow_refusals__share_one_budget(
    plane: FakeControlPlane, gate: tidegate.Gate
) -> None:
    async def stubborn(work: Work) -> None:
        for _ in range(20):
            try:
                await ask(work)
            except tidegate.BudgetExhausted:
                continue

    async def coordinate(work: Work) -> None:
        await work.steps(*(Step(f"s{n}", "stubborn") for n in range(3)))

    await Mesh(gate, "m", [Agent("c", coordinate), Agent("stubborn", stubborn)]).run("r", "c", usd="0.00460")

    gate.close()
    assert (plane.total("calls"), charged(plane)) == (10, 10 * CALL_NUSD)


async def test_run__agent_beyond_its_own_limits__is_stopped_and_others_go_on(gate: tidegate.Gate) -> None:
    blocked = []

    async def coordinate(work: Work) -> str:
        for name in ("poor", "brief"):
            try:
                await work.handoff(name)
            except tidegate.BudgetExhausted as refusal:
                blocked.append(refusal.blocked_by)
        await ask(work)
        return "done"

    agents = [Agent("c", coordinate), Agent("poor", run_away, usd="0.001"), Agent("brief", run_away, calls=3)]

    assert await Mesh(gate, "m", agents).run("r", "c", usd="1", calls=10) == "done"

    assert blocked == ["run r/c/poor", "run r/c/brief"]


async def test_run__unpriced_calls_that_say_nothing__are_stopped_by_their_number(
    plane: FakeControlPlane, gate: tidegate.Gate
) -> None:
    async def loop(work: Work) -> None:
        async def model(call: tidegate.Call) -> None:
            call.record(cost_usd="0")

        while True:
            await work.call("agent", model)

    with pytest.raises(tidegate.BudgetExhausted):
        await Mesh(gate, "m", [Agent("loop", loop)]).run("r", "loop", calls=7)

    gate.close()
    assert plane.total("calls") == 7


async def test_run__a_runaway_is_stopped_while_others_wait_for_replies__the_run_says_what_its_calls_were_charged(
    plane: FakeControlPlane, gate: tidegate.Gate
) -> None:
    in_flight: dict[str, tidegate.Call] = {}
    both = asyncio.Event()
    plane.put_budget("all", "100")

    async def waits(work: Work) -> None:
        async def model(call: tidegate.Call) -> None:
            in_flight[work.path] = call
            if len(in_flight) == 2:
                both.set()
            await asyncio.Event().wait()

        await work.call("agent", model, model="gpt-4o-mini", input_tokens=1000, max_output_tokens=500)

    async def coordinate(work: Work) -> None:
        try:
            await work.steps(Step("slow", "waits"), Step("slower", "waits"), Step("loop", "loop"))
        finally:  # the replies come when those who waited for them are gone: one is dear, one is cheap
            in_flight["c/slow"].record(input_tokens=1000, output_tokens=900)
            in_flight["c/slower"].record(input_tokens=10, output_tokens=5)

    async def loop(work: Work) -> None:
        await both.wait()
        await run_away(work)

    mesh = Mesh(gate, "m", [Agent("c", coordinate), Agent("waits", waits), Agent("loop", loop)])
    with pytest.raises(tidegate.BudgetExhausted):
        await mesh.run("r", "c", usd="0.00460")

    steps = await mesh.board("r").steps()
    gate.close()
    assert steps["c/slow"].spent_nusd == 1000 * 150 + 900 * 600
    assert steps["c/slower"].spent_nusd == 10 * 150 + 5 * 600
    corrected = plane.kinds()["late.corrected_nusd"]
    spent = sum(step.presumed_nusd for step in steps.values())
    assert spent == charged(plane) - corrected == plane.settled_nusd("all") - corrected


def losing(calls: list[tidegate.Call]) -> Callable[[Work], Awaitable[None]]:
    """Return an agent whose call is noted and answered by nobody."""

    async def model(call: tidegate.Call) -> None:
        calls.append(call)
        raise ConnectionError

    async def loses(work: Work) -> None:
        await work.call("agent", model, model="gpt-4o-mini", input_tokens=1000, max_output_tokens=500)

    return loses


@pytest.mark.parametrize(("said", "cost"), [((1000, 900), 1000 * 150 + 900 * 600), ((10, 5), 10 * 150 + 5 * 600)])
async def test_run__usage_is_recorded_when_it_is_over__whoever_resumes_it_has_so_much_less_or_more(
    plane: FakeControlPlane, gate: tidegate.Gate, said: tuple[int, int], cost: int
) -> None:
    calls: list[tidegate.Call] = []
    plane.put_budget("all", "100")

    mesh = Mesh(gate, "m", [Agent("a", losing(calls))])
    board = mesh.board("r")
    with pytest.raises(StepFailed):
        await mesh.run("r", "a", usd="0.002")
    before = (await board.steps())["a"].presumed_nusd

    await asyncio.to_thread(calls[0].record, input_tokens=said[0], output_tokens=said[1])
    async with asyncio.timeout(10):
        while (await board.steps())["a"].presumed_nusd == before:
            pass
    with pytest.raises(StepFailed):
        await mesh.run("r", "a", usd=f"{(cost + 2 * CALL_NUSD - 1) / 1e9:.9f}")
    with pytest.raises(tidegate.BudgetExhausted):
        await mesh.run("r", "a", usd=f"{(cost + 2 * CALL_NUSD - 1) / 1e9:.9f}")

    step = (await board.steps())["a"]
    assert before == CALL_NUSD
    assert (step.presumed_nusd, step.late_nusd) == (cost + CALL_NUSD, cost - CALL_NUSD)


async def test_run__usage_is_recorded_when_another_process_has_taken_it_up__its_records_are_left_alone(
    plane: FakeControlPlane, gate: tidegate.Gate, other: tidegate.Gate
) -> None:
    calls: list[tidegate.Call] = []
    plane.put_budget("all", "100")

    async def finds(work: Work) -> str:
        calls[0].record(input_tokens=1000, output_tokens=900)
        async with asyncio.timeout(10):
            while not (await work.board.steps())["a"].late_nusd:
                pass
        await ask(work)
        return "found"

    with pytest.raises(StepFailed):
        await Mesh(gate, "m", [Agent("a", losing(calls))]).run("r", "a")
    found = await Mesh(other, "m", [Agent("a", finds)]).run("r", "a")

    step = (await Mesh(other, "m", []).board("r").steps())["a"]
    assert (found, step.status, step.calls) == ("found", "done", 2)
    assert step.presumed_nusd == 1000 * 150 + 900 * 600 + CALL_NUSD

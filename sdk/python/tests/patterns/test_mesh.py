"""Meshes of agents: order, money, deadlines, cancellation, resuming, effects, and agents in other processes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import tidegate
from tidegate.patterns import (
    Agent,
    AlreadyRunning,
    EffectUncertain,
    Errand,
    Mesh,
    RunCancelled,
    RunLate,
    Step,
    StepFailed,
    Work,
)
from tidegate.patterns.board import Record
from tidegate.patterns.work import in_order
from tidegate.testing import FakeControlPlane

CALL_NUSD = 1000 * 150 + 500 * 600  # what ``ask`` costs by the fake's prices: $0.00045


async def ask(work: Work, **more: Any) -> None:
    async def model(call: tidegate.Call) -> None:
        call.record(input_tokens=1000, output_tokens=500)

    options: dict[str, Any] = {"model": "gpt-4o-mini", "input_tokens": 1000, "max_output_tokens": 500, **more}
    await work.call("agent", model, **options)


async def run_away(work: Work) -> None:
    while True:
        await ask(work)


def says(answer: Any, done: Counter[str] | None = None) -> Callable[[Work], Awaitable[Any]]:
    async def work(work: Work) -> Any:
        if done is not None:
            done[work.path] += 1
        await ask(work)
        return answer

    return work


def charged(plane: FakeControlPlane) -> int:
    """What calls did cost, as the gate counts them; closed gates have said everything."""
    return plane.total("cost_nusd")


# Order


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


# Spans


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


# Money


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


# Resuming


async def test_run__again_after_a_failure__does_only_what_is_left_and_counts_what_was_spent(
    plane: FakeControlPlane, gate: tidegate.Gate, other: tidegate.Gate
) -> None:
    done: Counter[str] = Counter()
    broken = True

    async def validate(work: Work) -> bool:
        done[work.path] += 1
        await ask(work)
        if broken:
            raise OSError("the validator is away")
        return True

    async def coordinate(work: Work) -> dict[str, Any]:
        return await work.steps(
            Step("a", "research"), Step("b", "research"), Step("check", "validator", after=("a", "b"))
        )

    def mesh(gate: tidegate.Gate) -> Mesh:
        return Mesh(
            gate, "m", [Agent("c", coordinate), Agent("research", says("found", done)), Agent("validator", validate)]
        )

    with pytest.raises(StepFailed, match="the validator is away"):
        await mesh(gate).run("r", "c", usd="0.00180")
    broken = False
    found = await mesh(other).run("r", "c", usd="0.00180")  # exactly four calls

    assert found == {"a": "found", "b": "found", "check": True}
    assert done == {"c/a": 1, "c/b": 1, "c/check": 2}
    steps = await mesh(gate).board("r").steps()
    assert sum(step.spent_nusd for step in steps.values()) == 4 * CALL_NUSD
    with pytest.raises(tidegate.BudgetExhausted):
        await Mesh(other, "m", [Agent("loop", run_away)]).run("r", "loop", usd="0.00180")


async def test_run__process_killed_in_a_call__what_it_held_counts_as_spent(
    plane: FakeControlPlane, gate: tidegate.Gate, other: tidegate.Gate
) -> None:
    mesh = Mesh(gate, "m", [Agent("loop", run_away)])
    board = mesh.board("r")
    await board.put_step("loop", Record("loop", 1, "running", spent_nusd=CALL_NUSD, held_nusd=CALL_NUSD, calls=2))

    with pytest.raises(tidegate.BudgetExhausted):
        await Mesh(other, "m", [Agent("loop", run_away)]).run("r", "loop", usd="0.00180")

    other.close()
    assert plane.total("calls") == 2


async def test_agent__with_tries__resumes_from_its_finished_steps(gate: tidegate.Gate) -> None:
    done: Counter[str] = Counter()

    async def builder(work: Work) -> str:
        done["builder"] += 1
        part = await work.handoff("research")
        if done["builder"] < 3:
            raise OSError("not yet")
        return f"built of {part}"

    agents = [Agent("builder", builder, tries=3), Agent("research", says("stone", done))]

    assert await Mesh(gate, "m", agents).run("r", "builder") == "built of stone"

    assert done == {"builder": 3, "builder/research": 1}


async def test_run__at_work_elsewhere__is_not_begun_twice(gate: tidegate.Gate, other: tidegate.Gate) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(work: Work) -> str:
        begun.set()
        await go_on.wait()
        return "done"

    first = asyncio.create_task(Mesh(gate, "m", [Agent("w", wait)]).run("r", "w"))
    await begun.wait()
    with pytest.raises(AlreadyRunning):
        await Mesh(other, "m", [Agent("w", wait)]).run("r", "w")
    go_on.set()

    assert await first == "done"
    assert await Mesh(other, "m", [Agent("w", wait)]).run("r", "w") == "done"


# Effects


async def test_once__tried_again__the_effect_happens_once(gate: tidegate.Gate, other: tidegate.Gate) -> None:
    sent: list[str] = []
    tries = 0

    async def send(key: str) -> str:
        sent.append(key)
        return "sent"

    async def mailer(work: Work) -> str:
        nonlocal tries
        tries += 1
        said = await work.once("mail", send)
        if tries < 3:
            raise OSError("after the effect")
        return said

    with pytest.raises(StepFailed):
        await Mesh(gate, "m", [Agent("mailer", mailer, tries=2)]).run("r", "mailer")
    assert await Mesh(other, "m", [Agent("mailer", mailer)]).run("r", "mailer") == "sent"

    assert (tries, sent) == (3, ["r/mail"])


async def test_once__nobody_knows_whether_it_happened__is_not_repeated_until_somebody_says(
    gate: tidegate.Gate,
) -> None:
    sent: list[str] = []

    async def send(key: str) -> None:
        sent.append(key)
        raise TimeoutError("no answer")

    async def mailer(work: Work) -> Any:
        return await work.once("mail", send)

    mesh = Mesh(gate, "m", [Agent("mailer", mailer, tries=3)])
    with pytest.raises(EffectUncertain):
        await mesh.run("r", "mailer")
    assert len(sent) == 1

    await mesh.board("r").resolve("mail", happened=True, result="it did")

    assert await mesh.run("r", "mailer") == "it did"
    assert len(sent) == 1


# Ending


async def test_run__cancelled_from_elsewhere__ends_the_whole_tree(gate: tidegate.Gate, other: tidegate.Gate) -> None:
    begun, ended = asyncio.Event(), list[str]()

    async def sleeper(work: Work) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(work.path)

    async def coordinate(work: Work) -> None:
        await work.steps(Step("a", "sleeper"), Step("b", "sleeper"))

    running = asyncio.create_task(Mesh(gate, "m", [Agent("c", coordinate), Agent("sleeper", sleeper)]).run("r", "c"))
    await begun.wait()
    await Mesh(other, "m", []).cancel("r", "nobody needs it")

    with pytest.raises(RunCancelled, match="nobody needs it"):
        await running
    assert sorted(ended) == ["c/a", "c/b"]


async def test_run__beyond_its_deadline__ends_and_frees_the_run(gate: tidegate.Gate) -> None:
    async def sleeper(work: Work) -> str:
        if await work.board.note("rested"):
            return "awake"
        await work.board.put_note("rested", True)
        await asyncio.Event().wait()
        return ""

    mesh = Mesh(gate, "m", [Agent("sleeper", sleeper)])

    with pytest.raises(RunLate):
        await mesh.run("r", "sleeper", timeout_s=0.3)

    assert await mesh.run("r", "sleeper") == "awake"


async def test_agent__slower_than_it_may_be__is_tried_again(gate: tidegate.Gate) -> None:
    tries = 0

    async def slow(work: Work) -> int:
        nonlocal tries
        tries += 1
        if tries == 1:
            await asyncio.Event().wait()
        return tries

    assert await Mesh(gate, "m", [Agent("slow", slow, tries=2, timeout_s=0.2)]).run("r", "slow") == 2


# Elsewhere


def elsewhere(
    gate: tidegate.Gate, agent: Agent
) -> tuple[Mesh, list[asyncio.Task[None]], Callable[[Errand], Awaitable[None]]]:
    """A mesh of another process, and a queue that brings every errand there twice."""
    mesh, tasks = Mesh(gate, "m", [agent]), list[asyncio.Task[None]]()

    async def send(errand: Errand) -> None:
        tasks.extend(asyncio.create_task(mesh.perform(errand)) for _ in range(2))

    return mesh, tasks, send


async def test_agent__elsewhere__is_given_its_input_and_answers_once(
    plane: FakeControlPlane, gate: tidegate.Gate, other: tidegate.Gate
) -> None:
    done: Counter[str] = Counter()
    _, tasks, send = elsewhere(other, Agent("validator", says("valid", done)))

    async def coordinate(work: Work) -> Any:
        await ask(work)
        return await work.handoff("validator", {"text": "tides"})

    mesh = Mesh(gate, "m", [Agent("c", coordinate), Agent("validator", send=send, usd="0.001")])
    assert await mesh.run("r", "c", usd="0.01") == "valid"

    await asyncio.gather(*tasks)
    assert done == {"c/validator": 1}
    gate.close()
    other.close()
    names = {span["spanId"]: span["name"] for span in plane.spans}
    validator = next(span for span in plane.spans if span["name"] == "invoke_agent validator")
    assert names[validator["parentSpanId"]] == "invoke_agent c"


async def test_agent__elsewhere_and_running_away__spends_no_more_than_it_took_along(
    plane: FakeControlPlane, gate: tidegate.Gate, other: tidegate.Gate
) -> None:
    _, tasks, send = elsewhere(other, Agent("loop", run_away))

    async def coordinate(work: Work) -> tuple[int | None, int | None]:
        with pytest.raises(StepFailed, match="BudgetExhausted"):
            await work.handoff("loop")
        return work.purse.left()

    mesh = Mesh(gate, "m", [Agent("c", coordinate), Agent("loop", send=send, usd="0.001")])
    left = await mesh.run("r", "c", usd="0.00200", calls=50)

    await asyncio.gather(*tasks)
    other.close()
    assert (plane.total("calls"), charged(plane)) == (2, 2 * CALL_NUSD)
    assert left == (2_000_000 - 2 * CALL_NUSD, 48)


async def test_agent__elsewhere_and_nobody_came_for_it__has_spent_nothing_and_is_not_begun_later(
    gate: tidegate.Gate, other: tidegate.Gate
) -> None:
    lost: list[Errand] = []
    done: Counter[str] = Counter()

    async def lose(errand: Errand) -> None:
        """A queue that brings what it is given when it is too late."""
        lost.append(errand)

    async def coordinate(work: Work) -> int | None:
        with pytest.raises(StepFailed):
            await work.handoff("lost")
        return work.purse.left()[0]

    mesh = Mesh(gate, "m", [Agent("c", coordinate), Agent("lost", send=lose, usd="0.001", timeout_s=0.1)])

    assert await mesh.run("r", "c", usd="0.00200") == 2_000_000
    await Mesh(other, "m", [Agent("lost", says("too late", done))]).perform(lost[0])
    assert done == {}
    assert sum(step.presumed_nusd for step in (await mesh.board("r").steps()).values()) == 0


async def test_agent__elsewhere_and_dead_in_a_call__is_tried_again_with_what_that_call_leaves(
    gate: tidegate.Gate, other: tidegate.Gate
) -> None:
    """The first process dies while it asks a model: nobody hears of it again."""
    asking, attempts = asyncio.Event(), list[int]()

    async def validate(work: Work) -> int:
        attempts.append(work.record.attempt)
        await ask(work)
        return work.purse.limit_nusd or 0

    async def hang(call: tidegate.Call) -> None:
        asking.set()
        await asyncio.Event().wait()

    async def die(work: Work) -> None:
        await work.call("agent", hang, model="gpt-4o-mini", input_tokens=1000, max_output_tokens=500)

    dying = Mesh(other, "m", [Agent("validator", die)])
    working = Mesh(other, "m", [Agent("validator", validate)])
    tasks: list[asyncio.Task[None]] = []

    async def send(errand: Errand) -> None:
        if errand["attempt"] > 1:
            tasks.append(asyncio.create_task(working.perform(errand)))
            return
        tasks.append(asyncio.create_task(dying.perform(errand)))
        await asking.wait()
        board.put_step = _nothing  # type: ignore[method-assign]  # a dead process says nothing
        tasks.pop().cancel()

    board = dying.board("r")
    dying.board = lambda run: board  # type: ignore[method-assign]
    mesh = Mesh(gate, "m", [Agent("validator", send=send, usd="0.001", tries=2, timeout_s=2)])

    assert await mesh.run("r", "validator", usd="0.01") == 1_000_000 - CALL_NUSD
    await asyncio.gather(*tasks)
    assert attempts == [2]
    assert sum(step.presumed_nusd for step in (await mesh.board("r").steps()).values()) == 2 * CALL_NUSD


async def _nothing(path: str, record: Record) -> None: ...


async def test_steps__one_fails_here__the_one_elsewhere_is_called_back(
    gate: tidegate.Gate, other: tidegate.Gate
) -> None:
    begun = asyncio.Event()

    async def sleeper(work: Work) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def fails(work: Work) -> None:
        await begun.wait()
        raise OSError("not this time")

    async def coordinate(work: Work) -> None:
        await work.steps(Step("here", "fails"), Step("there", "sleeper"))

    _, tasks, send = elsewhere(other, Agent("sleeper", sleeper))
    agents = [Agent("c", coordinate), Agent("fails", fails), Agent("sleeper", send=send, usd="0.001")]

    with pytest.raises(StepFailed, match="not this time"):
        await Mesh(gate, "m", agents).run("r", "c", usd="1")

    await asyncio.wait_for(asyncio.gather(*tasks), 5)


async def test_agent__elsewhere_and_failing__is_tried_again_with_what_is_left(
    gate: tidegate.Gate, other: tidegate.Gate
) -> None:
    attempts: list[int] = []

    async def validate(work: Work) -> int:
        attempts.append(work.record.attempt)
        await ask(work)
        if len(attempts) == 1:
            raise OSError("not yet")
        return work.purse.limit_nusd or 0

    _, tasks, send = elsewhere(other, Agent("validator", validate))
    mesh = Mesh(gate, "m", [Agent("validator", send=send, usd="0.001", tries=2)])

    assert await mesh.run("r", "validator", usd="0.01") == 1_000_000 - CALL_NUSD
    await asyncio.gather(*tasks)
    assert attempts == [1, 2]
    assert sum(step.spent_nusd for step in (await mesh.board("r").steps()).values()) == 2 * CALL_NUSD


async def test_agent__elsewhere__is_cancelled_with_the_run(gate: tidegate.Gate, other: tidegate.Gate) -> None:
    begun = asyncio.Event()

    async def sleeper(work: Work) -> None:
        begun.set()
        await asyncio.Event().wait()

    there, tasks, send = elsewhere(other, Agent("sleeper", sleeper))
    running = asyncio.create_task(
        Mesh(gate, "m", [Agent("sleeper", send=send, usd="0.001")]).run("r", "sleeper", usd="1")
    )
    await begun.wait()

    await there.cancel("r", "enough")

    with pytest.raises(RunCancelled, match="enough"):
        await running
    await asyncio.wait_for(asyncio.gather(*tasks), 5)


def test_agent__elsewhere_without_an_amount__is_no_agent() -> None:
    async def send(errand: Errand) -> None: ...

    with pytest.raises(ValueError, match="usd"):
        Agent("a", send=send)

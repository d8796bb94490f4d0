"""Meshes with agents in other processes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import tidegate
from sdk.python.tests.patterns.meshes import CALL_NUSD, ask, charged, run_away, says
from tidegate.patterns import (
    Agent,
    Errand,
    Mesh,
    RunCancelled,
    Step,
    StepFailed,
    Work,
)
from tidegate.patterns.board import Record
from tidegate.testing import FakeControlPlane


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

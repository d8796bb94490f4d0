"""Meshes that are resumed, cancelled or late, and effects that happen once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

import tidegate
from sdk.python.tests.patterns.meshes import CALL_NUSD, ask, run_away, says
from tidegate.patterns import (
    Agent,
    AlreadyRunning,
    EffectUncertain,
    Mesh,
    RunCancelled,
    RunLate,
    Step,
    StepFailed,
    Work,
)
from tidegate.patterns.board import Record
from tidegate.testing import FakeControlPlane


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
        await asyncio.Event().wait()
        return ""

    mesh = Mesh(gate, "m", [Agent("sleeper", sleeper)])

    with pytest.raises(RunLate):
        await mesh.run("r", "sleeper", timeout_s=0.3)
    await mesh.board("r").put_note("rested", True)

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

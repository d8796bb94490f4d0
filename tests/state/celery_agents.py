"""Agents that work in a Celery worker, and the coordinator that hands them steps: ``celery -A tests.state.celery_agents worker``."""

from __future__ import annotations

import asyncio
import os
from functools import cache
from pathlib import Path
from typing import Any

from celery import Celery

import tidegate
from tidegate.patterns import Agent, Errand, Mesh, Step, Work

app = Celery("agents", broker=os.environ.get("CELERY_BROKER_URL", "redis://127.0.0.1:6379/0"))
app.conf.update(task_ignore_result=True, task_default_queue="agents", task_acks_late=True)

ATTEMPT_S = 5.0  # of a step that a killed worker had; there are tries enough for as long as the next one takes to start
CALL_USD, CALL_NUSD = "0.0004", 400_000


@cache
def gate() -> tidegate.Gate:
    return tidegate.connect(app="agents")


@app.task(name="agents.perform")  # type: ignore[untyped-decorator]
def perform(errand: dict[str, Any]) -> None:
    asyncio.run(mesh_of(gate()).perform(errand))  # type: ignore[arg-type]  # what an Errand is as JSON


def mesh_of(gate: tidegate.Gate) -> Mesh:
    """The mesh as the worker has it."""
    works = {"research": research, "builder": build, "validator": validate, "spender": spend, "sleeper": sleep}
    return Mesh(gate, "m", [Agent("subtask", subtask), *(Agent(name, work) for name, work in works.items())])


def sending_mesh_of(gate: tidegate.Gate, broker: str) -> Mesh:
    """The mesh as the coordinator has it: all but itself is elsewhere."""
    connection = app.connection_for_write(broker)

    async def send(errand: Errand) -> None:
        await asyncio.to_thread(perform.apply_async, (dict(errand),), connection=connection)

    def away(name: str, **more: Any) -> Agent:
        return Agent(name, send=send, usd="0.002", **more)

    return Mesh(
        gate,
        "m",
        [
            Agent("coordinator", coordinate),
            away("research"),
            away("builder", tries=12, timeout_s=ATTEMPT_S),
            away("validator"),
            Agent("spending", share),
            away("spender"),
            away("sleeper"),
        ],
    )


async def ask(work: Work) -> None:
    async def model(call: tidegate.Call) -> None:
        call.record(cost_usd=CALL_USD)

    await work.call("agent", model, cost_usd=CALL_USD)


async def coordinate(work: Work) -> dict[str, Any]:
    await ask(work)
    done = await work.steps(
        Step("tides", "research", "tides"),
        Step("moon", "research", "moon"),
        Step("report", "builder", work.input, after=("tides", "moon")),
        Step("check", "validator", after=("report",)),
    )
    return {**done, "coordinator": os.getpid()}


async def research(work: Work) -> dict[str, Any]:
    await ask(work)
    return {"found": work.input, "pid": os.getpid()}


async def build(work: Work) -> dict[str, Any]:
    """Do a step of its own and an effect, each once; then die, when it is told to, as long as the file is there that says so."""
    part = await work.handoff("subtask", work.input)
    mail = await work.once("mail", Mailer(Path(work.input["folder"]) / "mails"))
    flag = Path(work.input["folder"]) / "die"
    if flag.exists():
        (Path(work.input["folder"]) / "pid").write_text(str(os.getpid()))
        await asyncio.Event().wait()
    return {"part": part, "mail": mail, "of": sorted(work.results), "attempt": work.record.attempt, "pid": os.getpid()}


async def subtask(work: Work) -> str:
    await ask(work)
    note(Path(work.input["folder"]) / "subtasks", str(os.getpid()))
    return "a part"


async def validate(work: Work) -> dict[str, Any]:
    await work.tool("measure", asyncio.sleep, 0)
    await ask(work)
    return {"valid": "report" in work.results, "pid": os.getpid()}


async def share(work: Work) -> None:
    await work.steps(Step("one", "spender"), Step("two", "spender"), Step("three", "spender"))


async def spend(work: Work) -> None:
    while True:
        await ask(work)


async def sleep(work: Work) -> None:
    note(Path(work.input), "begun")
    try:
        await asyncio.Event().wait()
    finally:
        note(Path(work.input), "ended")


class Mailer:
    """An effect that can be counted afterwards: a line in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    async def __call__(self, key: str) -> str:
        note(self.file, key)
        return "sent"


def note(file: Path, line: str) -> None:
    with file.open("a") as open_file:
        open_file.write(line + "\n")

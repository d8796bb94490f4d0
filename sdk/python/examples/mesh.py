"""A mesh: a coordinator with research, builder and validator, on one budget and one deadline. docs/patterns/mesh.md

With ``--celery`` the validator works in a worker of ``mesh_worker.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
from typing import Any

from talking import ERRORS, MODEL, MOST_OUT, complete, main, tenant_of, weigh

import tidegate
from tidegate.patterns import Agent, Errand, Mesh, RunError, Step, Work

TOPICS = ("spring tides", "tidal power", "salt marshes", "storm surges", "moon and sea")
PLACES = ("archive", "measurements", "press")
ME = os.getpid()


async def think(work: Work, text: str) -> str:
    return await work.call(
        "agent", lambda call: complete(call, text), category="agents", model=MODEL, input_tokens=weigh(text), max_output_tokens=MOST_OUT,
    )  # fmt: skip


async def coordinate(work: Work) -> dict[str, Any]:
    await think(work, f"Plan a report on {work.input}.")
    done = await work.steps(
        *(Step(place, "research", {"topic": work.input, "place": place}) for place in PLACES),
        Step("draft", "builder", work.input, after=PLACES),
        Step("check", "validator", work.input, after=("draft",), usd="0.005"),
    )
    if not done["check"]["valid"]:
        done["draft"] = await work.handoff("builder", work.input, name="second-draft")
    return {"report": done["draft"], "published": await work.once("publish", publish)}


async def research(work: Work) -> str:
    found = await work.tool(f"search_{work.input['place']}", search, work.input["topic"])
    notes = await think(work, f"Sum up what {work.input['place']} says of {work.input['topic']}: {found}")
    await work.board.put_note(work.input["place"], notes[:2000])
    return notes[:2000]


async def build(work: Work) -> str:
    parts = "\n".join(str(found) for found in work.results.values())
    return (await think(work, f"Write a report on {work.input} from these notes.\n{parts}"))[:4000]


async def validate(work: Work) -> dict[str, Any]:
    words = await think(work, f"Is this a sound report on {work.input}? {work.results.get('draft', '')}")
    return {"valid": random.random() < 0.8, "why": words[:200]}


async def search(topic: str) -> str:
    await asyncio.sleep(random.uniform(0.05, 0.3))
    return f"three pages on {topic}"


async def publish(idempotency_key: str) -> str:
    """Whoever publishes would be told the key, so that a second time is noticed there too."""
    return f"published as {idempotency_key}"


def mesh_of(gate: tidegate.Gate, tenant: str | None, *, celery: bool) -> Mesh:
    async def send(errand: Errand) -> None:
        from mesh_worker import perform

        await asyncio.to_thread(perform.delay, dict(errand), tenant)

    return Mesh(
        gate,
        "reports",
        [
            Agent("coordinator", coordinate, tries=2),
            Agent("research", research, usd="0.005", calls=5, at_once=6, tries=2),
            Agent("builder", build, usd="0.01"),
            Agent("validator", validate, usd="0.005", timeout_s=45, tries=2, send=send if celery else None),
        ],
        tenant=tenant,
        keep_s=86400,
    )


async def act(gate: tidegate.Gate, said: argparse.Namespace, number: int) -> str:
    """Run a report; one that ended early is resumed, and does only what is left."""
    run, topic = f"report-{ME}-{number}", TOPICS[number % len(TOPICS)]
    mesh = mesh_of(gate, tenant_of(said, number), celery=said.celery)
    for left in (1, 0):
        try:
            await mesh.run(run, "coordinator", topic, usd=said.usd, timeout_s=120)
            break
        except (RunError, *ERRORS) as error:
            if not left:
                return f"{run} on {topic} ended: {type(error).__name__}: {error}"
            await asyncio.sleep(1.0)
    steps = await mesh.board(run).steps()
    cost = sum(step.spent_nusd for step in steps.values()) / 1e9
    return f"{run} on {topic}: {len(steps)} steps, {sum(step.calls for step in steps.values())} calls, ${cost:.5f}"


if __name__ == "__main__":
    main(act)

"""One service of the demo world: calls the provider for its tenants, through the real SDK, at the pace of real traffic.

Run as ``python -m controlplane.runtime.demo.service NAME``; ``run`` sets the environment.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import tidegate
from controlplane.runtime.demo import figures, timeline, wire, world
from controlplane.runtime.demo.traces import read_trace

MAX_OPEN_CALLS = 256
REPORT_EVERY_S = 60.0
USERS = 40


class ProviderFailed(Exception):
    """The provider answered with an error; ``status`` is what the SDK's breaker and retries go by."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the provider answered {status}")
        self.status = status
        self.status_code = status


class Job(NamedTuple):
    """One call to make."""

    tenant: str
    user: str
    input_tokens: int
    output_tokens: int


async def drawn(service: world.DemoService, began_at: float, chance: random.Random) -> AsyncIterator[Job]:
    """Yield jobs when they are due: gaps and sizes drawn from real traffic, more of them where an incident says so."""
    due_at = time.time()
    while True:
        phase = timeline.phase_at(time.time() - began_at)
        weights = {tenant: weight * timeline.surge(phase, tenant) for tenant, weight in service.tenants.items()}
        calls_per_s = service.calls_per_s * sum(weights.values()) / sum(service.tenants.values())
        due_at = max(due_at + figures.draw(figures.GAPS, chance.random()) / calls_per_s, time.time() - 1)
        await asyncio.sleep(max(0.0, due_at - time.time()))
        yield Job(
            chance.choices([*weights], [*weights.values()])[0],
            f"user-{chance.randrange(USERS)}",
            figures.draw_count(service.input_tokens, chance.random()),
            min(service.max_output_tokens, figures.draw_count(service.output_tokens, chance.random())),
        )


async def replayed(service: world.DemoService, trace: Path, chance: random.Random) -> AsyncIterator[Job]:
    """Yield every n-th row of a trace when it is due, n being the number of services."""
    place = [one.name for one in world.SERVICES].index(service.name)
    began = time.monotonic()
    for arrival in read_trace(trace)[place :: len(world.SERVICES)]:
        await asyncio.sleep(max(0.0, began + arrival.at_s - time.monotonic()))
        tenant = chance.choices([*service.tenants], [*service.tenants.values()])[0]
        yield Job(tenant, f"user-{chance.randrange(USERS)}", arrival.input_tokens, arrival.output_tokens)


@dataclass
class Caller:
    """Makes a service's calls and counts what came of them."""

    service: world.DemoService
    gate: tidegate.Gate
    provider_port: int
    outcomes: Counter[str] = field(default_factory=Counter)

    async def make(self, job: Job) -> None:
        """Make one call; whatever comes of it is counted."""
        service = self.service

        async def ask(call: tidegate.Call) -> int:
            used = await self._ask_provider(job, call.config)
            call.record(
                input_tokens=used["prompt_tokens"],
                output_tokens=used["completion_tokens"],
                cached_input_tokens=used["prompt_tokens_details"]["cached_tokens"],
            )
            return int(used["completion_tokens"])

        try:
            await self.gate.arun(
                service.route,
                ask,
                tenant=job.tenant,
                user=f"{job.tenant}-{job.user}",
                session=f"{job.tenant}-{job.user}",
                category=service.category,
                model=service.model,
                input_tokens=job.input_tokens,
                max_output_tokens=max(job.output_tokens, service.max_output_tokens),
            )
            self.outcomes["answered"] += 1
        except tidegate.Refused as refusal:
            self.outcomes[refusal.reason] += 1
        except (ProviderFailed, OSError, TimeoutError, wire.Malformed) as error:
            self.outcomes[type(error).__name__] += 1

    async def _ask_provider(self, job: Job, config: dict[str, Any]) -> dict[str, Any]:
        prompt = world.PROMPTS.get(config.get("prompt", ""), world.Prompt(0.0, 1.0))
        output_tokens = max(1, round(job.output_tokens * prompt.longer))
        request = {
            "model": config.get("model", self.service.model),
            "messages": [{"role": "user", "content": "word " * job.input_tokens}],
            "max_tokens": max(output_tokens, self.service.max_output_tokens),
            "stream": self.service.stream,
            "metadata": {"output_tokens": str(output_tokens), "failing": str(prompt.failing)},
        }
        path = "/v1/chat/completions"
        async with wire.exchange("127.0.0.1", self.provider_port, "POST", path, request) as reply:
            if reply.status != 200:
                raise ProviderFailed(reply.status)
            if not self.service.stream:
                return dict((await reply.document())["usage"])
            usage: dict[str, Any] | None = None
            async for data in reply.events():
                if '"usage"' in data:
                    usage = wire.parsed(data)["usage"]
            if usage is None:
                raise wire.Malformed("the stream broke off before the usage")
            return usage

    def report(self) -> str:
        """Return what came of the calls since the last report, as one line."""
        counts = ", ".join(f"{name} {count}" for name, count in self.outcomes.most_common())
        self.outcomes.clear()
        return counts or "no calls"


async def serve(service: world.DemoService, gate: tidegate.Gate) -> None:
    """Call until cancelled, or until a trace is over and its calls are answered."""
    chance = random.Random()  # noqa: S311 - draws traffic, no secret
    trace = os.environ.get("TIDEGATE_DEMO_TRACE")
    caller = Caller(service, gate, int(os.environ["TIDEGATE_DEMO_PROVIDER_PORT"]))
    began_at = float(os.environ["TIDEGATE_DEMO_BEGAN_AT"])
    jobs = replayed(service, Path(trace), chance) if trace else drawn(service, began_at, chance)
    reporting = asyncio.create_task(_report(caller))
    calls: set[asyncio.Task[None]] = set()
    try:
        async for job in jobs:
            if len(calls) >= MAX_OPEN_CALLS:
                caller.outcomes["left out"] += 1
                continue
            call = asyncio.create_task(caller.make(job))
            calls.add(call)
            call.add_done_callback(calls.discard)
        await asyncio.gather(*calls)
        print(f"the trace is over: {caller.report()}", flush=True)
        await asyncio.Event().wait()
    finally:
        reporting.cancel()
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def _report(caller: Caller) -> None:
    while True:
        await asyncio.sleep(REPORT_EVERY_S)
        print(caller.report(), flush=True)


async def main(name: str) -> None:
    """Serve until SIGTERM or SIGINT."""
    service = next(one for one in world.SERVICES if one.name == name)
    gate = tidegate.connect(app=service.name, traces=service.traces)
    serving = asyncio.create_task(serve(service, gate))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    try:
        await asyncio.wait({serving})
        if not serving.cancelled():
            serving.result()
    finally:
        await asyncio.to_thread(gate.close)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

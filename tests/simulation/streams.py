"""Calls that stream on budgets that are not strict: they hold what such calls used to need, more as they come along, and are cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.kernel import Broken
from tidegate.call import Call
from tidegate.errors import BudgetExhausted

if TYPE_CHECKING:
    from tests.simulation.process import Job, Process
    from tests.simulation.world import World


class Stream:
    """An answer on its way, a token at a time: the provider goes on as long as somebody reads, and bills what was read."""

    def __init__(self, world: World, process: Process, job: Job) -> None:
        chance, most = process.chance, job.max_output_tokens or 0
        self.tokens = int((most + 1) * chance.random() ** 3)
        takes = chance.expovariate(1 / (0.02 if world.network.healed else world.setup.duration))
        self._gap = takes / (self.tokens + 1)
        self._world = world
        self._process = process
        self._job = job
        self._billed = False
        job.stream = self
        world.open_calls += 1
        if chance.random() < world.setup.cancels:
            process.after(takes * chance.random(), process.cancel, job)
        world.kernel.after(self._gap, self._go_on, 1)

    def stop(self) -> None:
        """Nobody reads any more: what was read is billed."""
        self._bill(self._job.seen or 0)

    def _go_on(self, token: int) -> None:
        """Have the next token arrive, once the reader is awake."""
        kernel, process, job = self._world.kernel, self._process, self._job
        if self._billed:
            return
        if process.alive and kernel.busy < process.awake_at:
            kernel.after(process.awake_at - kernel.busy, self._go_on, token)
        elif not process.alive or job.stage != "running":
            self.stop()
        elif token > self.tokens:
            self._end(self.tokens)
        else:
            self._read(token)

    def _read(self, token: int) -> None:
        job, before = self._job, self._job.bound
        if 1 + token > before:
            raise Broken("I4 liability", f"a stream has cost {1 + token} and holds {before}")
        cut = False
        try:
            Call.progress(job, output_tokens=token)  # type: ignore[arg-type]  # a job has what that needs of a call
        except BudgetExhausted:
            cut = True
        self._world.truth.grew(self._process, job, job.bound - before)
        if cut:
            self._world.refused["cut"] += 1
            self._end(token)
        else:
            self._world.kernel.after(self._gap, self._go_on, token + 1)
            self._world.truth.watch(self._process)

    def _end(self, tokens: int) -> None:
        self._bill(tokens)
        self._process.when_awake(self._process.finish, self._job, None, 1 + tokens)

    def _bill(self, tokens: int) -> None:
        if not self._billed:
            self._billed = True
            self._world.open_calls -= 1
            self._world.truth.billed(self._job, 1 + tokens)

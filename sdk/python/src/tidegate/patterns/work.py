"""What an agent of a mesh is given: its input, and everything it does through: calls, tools, effects, handoffs, the board."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, Unpack

from tidegate.call import Call
from tidegate.client import Gate
from tidegate.describing import CallOptions
from tidegate.errors import Refused
from tidegate.patterns.bills import Bill
from tidegate.patterns.board import CALLED_BACK, Board, Record, RunCancelled, RunLate
from tidegate.patterns.purse import Purse, bound_nusd
from tidegate.patterns.spans import EXECUTE_TOOL, span, text_of
from tidegate.state import StateError
from tidegate.trace import Traceparent

T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """A piece of work for an agent, named within the agent that hands it over; the name is what a finished step is found by.

    It begins when the steps named in ``after`` are done, and gets their results as ``work.results``.
    """

    name: str
    agent: str
    input: Any = None
    after: Sequence[str] = ()
    usd: str | None = None  # what it may cost of what its parent may


class HandsOver(Protocol):
    """Who runs steps: ``tidegate.patterns.mesh``."""

    async def __call__(self, parent: Work, step: Step, results: dict[str, Any]) -> Any: ...


@dataclass
class Run:
    """What all work of a run in one process shares. ``until`` is its deadline in Unix seconds."""

    id: str
    gate: Gate
    tenant: str | None
    board: Board
    hand_over: HandsOver
    until: float
    known: dict[str, Record] = field(default_factory=dict)  # what the board had when this process began, and ours since
    errand: str | None = None  # the path of the step that was sent to this process
    bills: list[Bill] = field(default_factory=list)  # of calls that ended before it was said what they used
    over: bool = False  # records of steps belong to whoever runs the run next
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _writing: set[asyncio.Task[None]] = field(default_factory=set)

    async def check(self) -> None:
        """Raise ``RunCancelled`` or ``RunLate`` when the run, or what was sent here of it, must not go on."""
        reason = await self.board.cancelled()
        if reason is not None:
            raise RunCancelled(reason)
        if self.errand is not None:
            found = await self.board.step(self.errand)
            if found is not None and found.error == CALLED_BACK:
                raise RunCancelled(f"{self.errand} was called back.")
        if time.time() >= self.until:
            raise RunLate(f"The deadline of the run {self.id} has passed.")

    async def settle_late(self) -> None:
        """Write down what was heard of calls after they were over."""
        heard = [(bill, more) for bill in self.bills if (more := bill.catch_up())]
        if self.over:
            for bill, more in heard:
                await self.board.put_late(bill.path, more)
            return
        for bill, more in heard:
            bill.record.spent_nusd += more
        for path, record in {bill.path: bill.record for bill, _ in heard}.items():
            await self.board.put_step(path, record)

    async def finish(self) -> None:
        """Write down what was heard so far; what is heard from now on is written down as soon as it is."""
        try:
            await self.settle_late()
        finally:
            self.over = True
            self._write_late()

    def hear(self, bill: Bill) -> None:
        """Follow the calls of a bill: what is heard of them counts before the next call, or, once the run is over, at once."""
        self.bills.append(bill)
        for call in bill.calls:
            call.amended = self._amended

    def _amended(self) -> None:
        """In any thread: more was heard of a call."""
        with contextlib.suppress(
            RuntimeError
        ):  # the loop is closed: its budgets know, nobody is left who could write it down
            self._loop.call_soon_threadsafe(self._write_late)

    def _write_late(self) -> None:
        if self.over:
            task = self._loop.create_task(self._settle_late_if_heard())
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def _settle_late_if_heard(self) -> None:
        with contextlib.suppress(StateError):
            await self.settle_late()

    def is_at(self, at: str, path: str) -> bool:
        """Whether a step is the one at ``path``, or below it; all are below the empty one."""
        return not path or at == path or at.startswith(f"{path}/")

    def used(self, path: str) -> tuple[int, int]:
        """Return the nano-USD and calls that a step and those below it have used so far, in all attempts."""
        found = [record for at, record in self.known.items() if self.is_at(at, path)]
        return sum(record.presumed_nusd for record in found), sum(record.calls for record in found)


@dataclass
class Work:
    """One attempt of an agent at a step."""

    run: Run
    path: str
    input: Any
    results: dict[str, Any]
    purse: Purse
    record: Record
    span: Traceparent
    names: set[str] = field(default_factory=set)

    @property
    def board(self) -> Board:
        """What all agents of the run share; ``note`` and ``put_note`` are for them."""
        return self.run.board

    @property
    def left_s(self) -> float:
        """Seconds until the run's deadline."""
        return max(0.0, self.run.until - time.time())

    async def call(self, route: str, fn: Callable[[Call], Awaitable[T]], **options: Unpack[CallOptions]) -> T:
        """Ask a model as ``gate.arun`` does, within the purses of the agent and of all above it.

        Say ``model``, ``input_tokens`` and ``max_output_tokens``, or ``cost_usd``: what an attempt may cost at most is held before
        it begins. Raises ``BudgetExhausted`` when a purse has no room for it, ``RunCancelled``, ``RunLate``, and as ``arun``.
        """
        await self.run.check()
        await self.run.settle_late()
        bound, record, calls = bound_nusd(self.run.gate, options), self.record, list[Call]()
        held = 0

        def hold() -> None:
            nonlocal held
            self.purse.hold(bound)
            record.held_nusd += bound
            record.calls += 1
            held += 1

        async def attempt(call: Call) -> T:
            if calls:
                hold()  # what the attempts before may have cost stays held until all is settled
                await self.board.put_step(self.path, record)
            calls.append(call)
            return await fn(call)

        hold()
        try:
            await self.board.put_step(self.path, record)
            about = CallOptions(
                tenant=self.run.tenant, session=self.run.id, traceparent=text_of(self.span), tracestate=self.span.state
            )
            about.update(options)
            return await self.run.gate.arun(route, attempt, **about)
        finally:
            calls = list({id(call): call for call in calls}.values())
            cost = sum(call.total_cost for call in calls)
            self.purse.settle(held * bound, held, cost=cost, calls=held)
            record.held_nusd -= held * bound
            record.spent_nusd += cost
            if any(call.usage is None for call in calls):
                self.run.hear(Bill(self.path, calls, self.purse, record, cost))

    async def tool(self, name: str, fn: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Return ``await fn(*args)`` as a span ``execute_tool``. Raises ``RunCancelled``, ``RunLate``."""
        await self.run.check()
        with span(self.run.gate, EXECUTE_TOOL, name, tenant=self.run.tenant, session=self.run.id):
            return await fn(*args)

    async def once(self, key: str, effect: Callable[[str], Awaitable[T]]) -> T:
        """Do what must not be done twice in the run, however often steps are tried again; return what came of it.

        ``effect`` gets an idempotency key to send along. When it raises, or its process dies, nobody knows whether it
        happened: from then on ``EffectUncertain`` is raised until ``board.resolve`` says so. A refusal did not happen.
        """
        await self.run.check()
        ours, result = await self.board.begin_effect(key)
        if not ours:
            return result  # type: ignore[no-any-return]  # JSON of what the effect returned
        try:
            happened = await effect(f"{self.run.id}/{key}")
        except Refused:
            await self.board.resolve(key, happened=False)
            raise
        await self.board.resolve(key, happened=True, result=happened)
        return happened

    async def handoff(self, agent: str, given: Any = None, *, name: str | None = None, usd: str | None = None) -> Any:
        """Have another agent do something and return its result; when that is done already in this run, return it at once.

        ``name`` tells it from what else this agent hands over to the same one.
        """
        return await self._do(Step(name or agent, agent, given, usd=usd), {})

    async def steps(self, *steps: Step) -> dict[str, Any]:
        """Have steps done, side by side where none waits for another; return their results by name.

        The first that fails cancels the others, and its error is raised. Done ones stay done: trying again resumes.
        """
        waiting = {step.name: step for step in in_order(steps)}
        results: dict[str, Any] = {}
        running: dict[asyncio.Task[Any], str] = {}
        try:
            while waiting or running:
                for step in [each for each in waiting.values() if all(name in results for name in each.after)]:
                    del waiting[step.name]
                    given = {name: results[name] for name in step.after}
                    running[asyncio.create_task(self._do(step, given))] = step.name
                ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    results[running.pop(task)] = task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        return results

    async def _do(self, step: Step, given: dict[str, Any]) -> Any:
        if step.name in self.names or "/" in step.name or not step.name:
            raise ValueError(f"Steps of an agent have names of their own, without a slash; got {step.name!r}.")
        self.names.add(step.name)
        return await self.run.hand_over(self, step, given)


def in_order(steps: Iterable[Step]) -> list[Step]:
    """Return steps with each behind those it waits for; ``ValueError`` for names that are twice, missing, or wait in a circle."""
    by_name: dict[str, Step] = {}
    for step in steps:
        if step.name in by_name:
            raise ValueError(f"Two steps are named {step.name!r}.")
        by_name[step.name] = step
    placed: dict[str, Step] = {}
    while len(placed) < len(by_name):
        ready = [
            step for name, step in by_name.items() if name not in placed and all(each in placed for each in step.after)
        ]
        if not ready:
            stuck = ", ".join(sorted(by_name.keys() - placed.keys()))
            raise ValueError(f"These steps wait for each other, or for steps that are not there: {stuck}.")
        placed |= {step.name: step for step in ready}
    return list(placed.values())

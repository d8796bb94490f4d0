"""A mesh of agents: a coordinator hands steps to specialised agents, in this process or in others, on one budget and deadline.

    mesh = Mesh(gate, "reports", [Agent("coordinator", coordinate), Agent("research", research, at_once=4)], tenant="acme")
    report = await mesh.run("report-17", "coordinator", {"topic": "tides"}, usd="0.50", timeout_s=120)

Running a run again resumes it: steps that are done are not done again, and what they did cost stays spent (docs/patterns/mesh.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Coroutine, Iterable
from typing import Any

from tidegate.client import Gate
from tidegate.describing import nusd_of
from tidegate.errors import BudgetExhausted
from tidegate.patterns.agents import Agent, Errand
from tidegate.patterns.board import CLAIM_S, Board, EffectUncertain, Record, RunCancelled, RunLate, StepFailed
from tidegate.patterns.purse import Purse
from tidegate.patterns.spans import INVOKE_AGENT, INVOKE_WORKFLOW, span, text_of
from tidegate.patterns.work import Run, Step, Work
from tidegate.state import StateError

KEEP_S = 7 * 86400.0
WATCH_S = 0.2
LOOK_S = 0.05
GRACE_S = 1.0
MAX_PATH = 180
FINAL = (BudgetExhausted, EffectUncertain, RunCancelled, RunLate)  # trying again would end the same


class Mesh:
    """Agents by name. One per process and event loop; the same agents may be in many processes."""

    def __init__(
        self, gate: Gate, name: str, agents: Iterable[Agent], *, tenant: str | None = None, keep_s: float = KEEP_S
    ) -> None:
        self.gate = gate
        self.name = name
        self.tenant = tenant
        self.keep_s = keep_s
        self.agents = {agent.name: agent for agent in agents}
        self._places = {
            agent.name: asyncio.Semaphore(agent.at_once) for agent in self.agents.values() if agent.at_once is not None
        }

    def board(self, run: str) -> Board:
        """Return the board of a run, in ``state.shared``."""
        return Board(self.gate.state.shared(f"mesh/{self.name}/{run}", tenant=self.tenant), self.keep_s)

    async def cancel(self, run: str, reason: str = "cancelled") -> None:
        """Stop a run, wherever its agents are: within half a second nothing of it goes on."""
        await self.board(run).cancel(reason)

    async def run(
        self, run: str, agent: str, given: Any = None, *, usd: str | None = None, calls: int | None = None,
        timeout_s: float = 3600.0,
    ) -> Any:  # fmt: skip
        """Run, or resume, the run of that name from its first agent on; return that agent's result.

        ``usd`` and ``calls`` are what it may cost and ask in all, counted over all times it was resumed. Raises what ended it:
        ``BudgetExhausted``, ``RunCancelled``, ``RunLate``, ``StepFailed``, ``EffectUncertain``, ``AlreadyRunning``, ``StateError``.
        """
        board, me = self.board(run), secrets.token_hex(8)
        shared = Run(run, self.gate, self.tenant, board, self._hand_over, time.time() + timeout_s)
        await board.claim(me)
        try:
            await board.uncancel()
            await self._recall(shared)
            limit = None if usd is None else nusd_of(usd)
            purse = Purse(f"run {run}", limit, calls, None, *shared.used(""))
            return await self._guarded(shared, me, self._begin(shared, purse, Step(agent, agent, given)))
        finally:
            with contextlib.suppress(StateError):  # the claim ends by itself
                await shared.finish()
                await board.release()

    async def perform(self, errand: Errand) -> None:
        """Do a step that was sent to this process, and put what came of it on the board. An errand that comes twice is done once."""
        path, board = errand["path"], self.board(errand["run"])
        if await board.take_step(path, errand["attempt"]) is None:
            return
        shared = Run(errand["run"], self.gate, self.tenant, board, self._hand_over, errand["until"], errand=path)
        await self._recall(shared)
        purse = Purse(f"run {errand['run']}/{path}", errand["nusd"], errand["calls"])
        step = Step(path, errand["agent"], errand["input"])
        trace = errand["traceparent"], errand.get("tracestate", "")
        work = self._work(shared, step, path, errand["results"], purse, trace)
        with contextlib.suppress(Exception):  # it is on the board, and raised where the step was handed over
            await self._guarded(shared, None, work)
        with contextlib.suppress(StateError):
            await shared.finish()

    async def _recall(self, run: Run) -> None:
        """Know what the board knows: what was held by whoever was at it counts as spent."""
        run.known = await run.board.steps()
        for record in run.known.values():
            record.presume()

    async def _begin(self, run: Run, purse: Purse, step: Step) -> Any:
        with span(self.gate, INVOKE_WORKFLOW, self.name, tenant=self.tenant, session=run.id) as own:
            root = Work(run, "", None, {}, purse, Record("", 1), own)
            return await root.handoff(step.agent, step.input)

    async def _guarded(self, run: Run, claim: str | None, body: Coroutine[Any, Any, Any]) -> Any:
        """Return what ``body`` does, and cancel it as soon as the run must not go on."""
        working = asyncio.create_task(body)
        watching = asyncio.create_task(_watch(run, claim))
        try:
            await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
        finally:
            working.cancel()
            watching.cancel()
            await asyncio.gather(working, watching, return_exceptions=True)
        return watching.result()  # raises why the run must not go on

    # Steps

    async def _hand_over(self, parent: Work, step: Step, results: dict[str, Any]) -> Any:
        """Return what an agent makes of a step: at once when it was done before, else after as many tries as the agent has."""
        run, path = parent.run, f"{parent.path}/{step.name}".lstrip("/")
        agent = self.agents.get(step.agent)
        if agent is None or len(path) > MAX_PATH:
            raise ValueError(
                f"There is no agent {step.agent!r} in the mesh {self.name!r}."
                if agent is None
                else f"{path} is too deep."
            )
        record = run.known.setdefault(path, Record(agent.name))
        if record.status == "done":
            return record.result
        limits = [nusd_of(usd) for usd in (agent.usd, step.usd) if usd is not None]
        purse = Purse(f"run {run.id}/{path}", min(limits, default=None), agent.calls, parent.purse, *run.used(path))
        async with self._places.get(agent.name) or contextlib.nullcontext():
            trace = text_of(parent.span), parent.span.state
            for left in reversed(range(agent.tries)):
                await run.check()
                record = run.known[path]
                record.presume()
                record.attempt += 1
                try:
                    async with asyncio.timeout(_patience_s(agent)):
                        if agent.send is not None:
                            return await self._away(run, agent, step, path, results, purse, trace)
                        return await self._work(run, step, path, results, purse, trace)
                except FINAL:
                    raise
                except Exception as error:
                    await run.check()  # when the run is over, that is why
                    if not left:
                        raise StepFailed(f"{path}: {_words(error)}") from error
        raise AssertionError("an agent has at least one try")

    async def _work(
        self, run: Run, step: Step, path: str, results: dict[str, Any], purse: Purse, trace: tuple[str, str]
    ) -> Any:
        """Have the agent do a step here."""
        agent, record = self.agents[step.agent], run.known[path]
        record.status, record.error = "running", ""
        about = {"tenant": self.tenant, "session": run.id, "traceparent": trace[0], "tracestate": trace[1]}
        try:
            if agent.work is None:
                raise ValueError(f"The agent {agent.name!r} does not work in this process.")
            with span(self.gate, INVOKE_AGENT, agent.name, **about) as own:
                await run.board.put_step(path, record)
                record.result = await agent.work(Work(run, path, step.input, results, purse, record, own))
        except BaseException as error:
            record.status, record.error = "failed", _words(error)
            with contextlib.suppress(StateError):  # what the board has then counts what was held as spent
                await run.board.put_step(path, record)
            raise
        record.status = "done"
        await run.board.put_step(path, record)
        return record.result

    async def _away(
        self,
        run: Run,
        agent: Agent,
        step: Step,
        path: str,
        results: dict[str, Any],
        purse: Purse,
        trace: tuple[str, str],
    ) -> Any:
        """Have the agent do a step elsewhere. What it may cost is held meanwhile, and spent when nobody says what it did cost."""
        record, (nusd, calls) = run.known[path], purse.left()
        held = (nusd or 0, calls or 0)
        purse.hold(*held)
        before, cost = run.used(path), held
        try:
            record.status, record.error, record.held_nusd = "sent", "", held[0]
            await run.board.put_step(path, record)
            until = min(run.until, time.time() + agent.timeout_s) if agent.timeout_s is not None else run.until
            errand: Errand = {
                "run": run.id, "path": path, "agent": agent.name, "attempt": record.attempt, "input": step.input, "results": results,
                "nusd": nusd, "calls": calls, "until": until, "traceparent": trace[0],
                "tracestate": trace[1],
            }  # fmt: skip
            assert agent.send is not None  # noqa: S101  only such agents are away
            try:
                await agent.send(errand)
                await self._ended(run, path, record.attempt)
            finally:
                if await self._settled(run, path, record.attempt, until):
                    now = run.used(path)
                    cost = (now[0] - before[0], now[1] - before[1])
        finally:
            purse.settle(*held, cost=cost[0], calls=cost[1])
        ended = run.known[path]
        if ended.status == "failed":
            raise StepFailed(ended.error)
        return ended.result

    async def _settled(self, run: Run, path: str, attempt: int, until: float) -> bool:
        """Call back what has not ended; return whether the board has all that the step can have spent.

        It has when the step has ended, was never begun, or may begin nothing any more: every call's bound is there before it is made.
        """
        with contextlib.suppress(StateError):
            was = await run.board.call_back(path, attempt)
            run.known |= {at: each for at, each in (await run.board.steps()).items() if run.is_at(at, path)}
            return was is not None and (was != "running" or time.time() >= until)
        return False

    async def _ended(self, run: Run, path: str, attempt: int) -> None:
        while True:
            found = await run.board.step(path)
            if found is not None and (
                found.status == "done" or (found.status == "failed" and found.attempt == attempt)
            ):
                return
            await asyncio.sleep(LOOK_S)


async def _watch(run: Run, claim: str | None) -> None:
    """Raise why the run must not go on, as soon as it must not; keep the claim to it meanwhile."""
    claimed = time.monotonic()
    while True:
        await asyncio.sleep(min(WATCH_S, max(0.0, run.until - time.time())))
        try:
            await run.check()
            if claim is not None and time.monotonic() - claimed > CLAIM_S / 3:
                await run.board.claim(claim)
                claimed = time.monotonic()
        except StateError:
            continue  # as long as nobody says otherwise, it goes on


def _patience_s(agent: Agent) -> float | None:
    """Return how long an attempt is waited for: elsewhere a little longer than it may take, so that its end is heard of."""
    return agent.timeout_s if agent.timeout_s is None or agent.send is None else agent.timeout_s + GRACE_S


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]

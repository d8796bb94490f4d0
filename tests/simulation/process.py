"""A client process: the SDK's real guard, leases and exchange, with the loop of its background thread in virtual time."""

from __future__ import annotations

import asyncio
import copy
import random
import threading
import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.simulation.journals import Mourner, Notes
from tests.simulation.kernel import Broken, ProcessClock
from tests.simulation.swift import MODEL, Flight, begin
from tidegate.cells import CellKey
from tidegate.deadlines import Deadlines
from tidegate.errors import Refused
from tidegate.exchange import Exchange, Sent
from tidegate.guard import Guard
from tidegate.syncing import CLOSING_GAP_S, CLOSING_TRIES, GAP_S
from tidegate.ticket import SLOTS, Ticket, Usage

if TYPE_CHECKING:
    from tests.simulation.streams import Stream
    from tests.simulation.world import World

CLOSE_S = 3.0
MAX_BACKOFF_S = 30.0


class TurnedDown(Exception):
    """A provider's own "no": nothing was billed."""

    status_code = 400


class Job(Ticket):
    """A call of the simulated program."""

    __slots__ = (*SLOTS, "_guard", "accounts", "cost", "number", "process", "settled_at", "stream", "streams")

    def __init__(
        self,
        process: Process,
        tenant: str,
        category: str,
        bound: int,
        kind: CellKey | None = None,
        *,
        streams: bool = False,
    ) -> None:
        super().__init__()
        self.process = process
        self.number = process.world.number_call()
        self.tenant = tenant
        self.route = "chat"
        self.category = category
        if kind is not None:  # priced by the book, so that more like it may be lent to
            self.model, self.input_tokens, self.max_output_tokens = MODEL, bound, 0
            self.cell_key = kind
        elif streams:  # a token goes in
            self.model, self.input_tokens, self.max_output_tokens = MODEL, 1, bound - 1
        else:
            self.declared_nusd = bound
        self.accounts: tuple[int, ...] = ()  # that will be billed for it
        self.settled_at: datetime | None = None  # by its process
        self.cost = 0  # at which it was settled, and then amended
        self.streams = streams
        self.stream: Stream | None = None
        self._guard = process.guard

    @property
    def presumed(self) -> int:
        """What it is charged when it does not say what it did cost: what it said meanwhile, else all that it may."""
        return 1 + self.seen if self.streams and self.seen else self.estimate

    def __hash__(self) -> int:
        """Sets of jobs have the same order in every run."""
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other

    def wait(self, until: float) -> JobWaiter:
        return JobWaiter(self, until)


class JobWaiter:
    """Wakes a job once: when somebody says so, or when its time is over."""

    __slots__ = ("job", "until", "woken")

    def __init__(self, job: Job, until: float) -> None:
        self.job = job
        self.until = until
        self.woken = False
        process = job.process
        process.after(until - process.clock.now(), self._fire)

    def wake(self) -> None:
        if not self.woken:
            self.job.process.after(0.0, self._fire)

    def _fire(self) -> None:
        if not self.woken:
            self.woken = True
            self.job.process.advance(self.job)


class Process:
    """One run of a program with one gate. ``alive`` until it is killed or has left."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.chance = random.Random(f"process {world.setup.seed} {number}")
        rate = 1.0 + self.chance.uniform(-1, 1) * world.setup.drift
        skew = self.chance.uniform(-1, 1) * world.setup.skew
        self.clock = ProcessClock(world.kernel, rate=rate, epoch=world.epoch, wall_skew=skew)
        self.guard = Guard(self.clock, self._poked)
        self.guard.follow(world.snapshot, world.book)
        self.begin()

    journal: Notes | None
    allowed: frozenset[str] | None = None

    def begin(self) -> None:
        """Start talking, as a new incarnation."""
        self.incarnation = uuid.UUID(int=self.chance.getrandbits(128))
        self.exchange = Exchange(self.guard)
        self.alive = True
        self.last: Mourner | None = None  # speaks for it when it is dead
        self.unconfirmed = False  # it left before the server had confirmed everything
        self.closing = False
        self.awake_at = 0.0
        self.spent = 0  # what its calls settled at
        self.flights: dict[Flight, None] = {}
        self.suspended_at = float("-inf")  # when it last was, on its own clock
        self.guard.warm_calls = 0
        self.journal = None
        if self.chance.random() < self.world.setup.journals:
            self.journal = self.guard.leases.journal = Notes(self.incarnation)
        self._hurry = False
        self._phase = ""
        self._turn = 0
        self._seq = 0
        self._failures = 0
        self._closes_by = float("inf")
        self._rest()

    # Time, as far as the process has any

    def after(self, seconds: float, act: Any, *args: Any) -> None:
        """Do ``act`` in ``seconds`` of the process's clock, if it is alive then, and not before it is awake."""
        self.world.kernel.after(self.clock.real(seconds), self.when_awake, act, *args)

    def when_awake(self, act: Any, *args: Any) -> None:
        if not self.alive:
            return
        now = self.world.kernel.busy
        if now < self.awake_at:
            self.world.kernel.after(self.awake_at - now, self.when_awake, act, *args)
            return
        act(*args)
        self.world.truth.watch(self)

    def pause(self, seconds: float) -> None:
        """Stand still, as in a long garbage collection: the clocks go on."""
        self.awake_at = max(self.awake_at, self.world.kernel.busy + seconds)

    def suspend(self, seconds: float) -> None:
        """Stand still with the whole machine: only the clock that counts suspend goes on."""
        if self.world.kernel.busy >= self.awake_at:
            self.pause(seconds + 1e-6)  # nothing is done before its clock goes on
            self.suspended_at = self.clock.now()
            self.world.kernel.after(seconds, self._resume, self.world.kernel.now)

    def _resume(self, since: float) -> None:
        self.clock.asleep += self.world.kernel.now - since

    # Calls

    def call(self, tenant: str, category: str, bound: int) -> Job | Flight | None:
        """Begin a call; ``None`` when it was refused without being asked any more."""
        setup = self.world.setup
        kind = None
        if self.chance.random() < setup.swift:
            try:
                begun = begin(self, tenant, category, bound)
            except Refused as refusal:
                self.world.turned_away(self, refusal, tenant, category, bound, 0.0)
                return None
            if isinstance(begun, Flight):
                self.flights[begun] = None
                self._begin_call(begun)
                return begun
            kind = begun
        streams = kind is None and bound > 1 and self.chance.random() < setup.lenient
        job = Job(self, tenant, category, bound, kind, streams=streams)
        self.advance(job)
        if job.stage in ("queued", "funding") and self.chance.random() < setup.gives_up:
            self.after(self.chance.uniform(0.0, 0.3), self._give_up, job)
        return job

    def advance(self, job: Job) -> None:
        if job.stage in ("running", "over"):
            return
        try:
            if self.guard.advance(job) is None:
                self._begin_call(job)
        except Refused as refusal:
            waited = self.clock.now() - job.entry.at if job.entry is not None else 0.0
            self.world.turned_away(self, refusal, job.tenant or "", job.category or "", job.bound, waited)

    def _give_up(self, job: Job) -> None:
        self.guard.abandon(job)

    def _begin_call(self, job: Job | Flight) -> None:
        world = self.world
        slack = 0.11 + 4 * world.setup.drift * world.setup.ttl
        world.truth.let_through(self, job, now=world.kernel.now, slack=slack)
        world.provide(self, job)

    def finish(self, job: Job | Flight, error: BaseException | None, cost: int | None) -> None:
        """The body of a call has ended; ``cost`` is what it heard that it costs."""
        if job.stage != "running":
            return
        presumed = 0 if isinstance(error, TurnedDown) else job.presumed
        self._settled(job, presumed if cost is None else cost)
        if isinstance(job, Flight):
            del self.flights[job]
            job.end(error, cost)
            return
        if cost is not None:
            job.usage = Usage(1, cost - 1, 0, None, None) if job.streams else Usage(1, 1, 0, cost, None)
        self.guard.settle(job, error)

    def cancel(self, job: Job | Flight) -> None:
        if isinstance(job, Job) and job.stream is not None and job.stage == "running":
            job.stream.stop()
        self.finish(job, asyncio.CancelledError(), None)

    def _settled(self, job: Job | Flight, cost: int) -> None:
        self.spent += cost
        job.cost = cost
        self.world.truth.settled(self, job, cost)

    # Syncs, as tidegate.syncing and tidegate.background make them

    def _poked(self) -> None:
        self._hurry = True
        if self._phase == "resting":
            self._turn += 1
            self.after(0.0, self._sync, self._turn)

    def _rest(self) -> None:
        self._phase = "resting"
        self._turn += 1
        self.after(0.0 if self._hurry else self.guard.link.interval_s, self._sync, self._turn)

    def _next(self, seconds: float) -> None:
        """Rest for ``seconds`` whatever happens, then go on."""
        self._phase = "waiting"
        self._turn += 1
        self.after(seconds, self._sync if self.closing else self._rest_unless, self._turn)

    def _rest_unless(self, turn: int) -> None:
        if turn == self._turn:
            self._rest()

    def _sync(self, turn: int) -> None:
        if turn != self._turn:
            return
        self._hurry = False
        self._phase = "sending"
        body, sent = self.exchange.request({}, {}, dropped_spans=0, closing=self.closing)
        self.world.truth.gathered(self)
        self._seq = sent.seq
        self.after(self.world.setup.patience, self._timed_out, sent.seq)
        self.world.send(self, body, sent)

    def _timed_out(self, seq: int) -> None:
        if self._phase == "sending" and seq == self._seq:
            self._failed()

    def hear(self, sent: Sent, answer: dict[str, Any] | None, sent_at: float) -> None:
        self.when_awake(self.heard, sent, answer, sent_at)

    def heard(self, sent: Sent, answer: dict[str, Any] | None, sent_at: float) -> None:
        """An answer has arrived, or that there is none; late, when its request was given up before."""
        expected = self._phase == "sending" and sent.seq == self._seq
        if answer is None:
            if expected:
                self._failed()
            return
        if not expected and self.chance.random() >= self.world.setup.late:
            return
        for line in answer["leases"]:
            self.world.truth.answered(self, line["number"], sent_at + self.clock.real(line["ttl_ms"] / 1000))
        hurry = self.exchange.answered(sent, answer).hurry
        for line in answer["leases"]:
            self.world.truth.kept(self, line["number"], line["cap"])
        if expected:
            self._failures = 0
            self._hurry = self._hurry or hurry
            if self.closing and self._settled_all():
                self._leave(unconfirmed=False)
            else:
                self._next(GAP_S)

    def _failed(self) -> None:
        self._failures += 1
        if self.closing and (self._failures >= CLOSING_TRIES or self.clock.now() >= self._closes_by):
            self._leave(unconfirmed=True)
            return
        pause = self.chance.uniform(0.25, min(MAX_BACKOFF_S, 0.5 * 2 ** min(self._failures, 10)))
        self.exchange.failed(next_try_s=pause)
        self._next(CLOSING_GAP_S if self.closing else pause)

    # Ends

    def kill(self) -> None:
        """kill -9: nothing is said any more but what its journal says; what providers were asked goes on."""
        self._leave(unconfirmed=True)

    def exit(self) -> None:
        """Close the gate as ``Gate.close`` does: a third of the time for calls in flight, the rest to be confirmed."""
        if not self.guard.closed:
            self.guard.stop()
            self.after(CLOSE_S / 3, self._finish)

    def _finish(self) -> None:
        for job in self.guard.running:
            if job.stream is not None:  # type: ignore[attr-defined]  # all tickets here are jobs
                job.stream.stop()  # type: ignore[attr-defined]
            self._settled(job, job.presumed)  # type: ignore[arg-type, attr-defined]  # all tickets here are jobs
        for flight in self.flights:
            flight.stage = "over"
            self._settled(flight, flight.estimate)
        self.flights.clear()
        self.guard.presume()
        self.closing = True
        self._failures = 0
        self._closes_by = self.clock.now() + CLOSE_S
        self._turn += 1
        self._sync(self._turn)

    def _settled_all(self) -> bool:
        return self.guard.leases.settled and not self.guard.report.unconfirmed

    def _leave(self, *, unconfirmed: bool) -> None:
        self.alive = False
        self.unconfirmed = unconfirmed
        if self.journal is not None and unconfirmed:
            self.last = Mourner(self, self.journal)

    def fork(self, number: int) -> Process:
        """Return the child: a copy of the memory, which then does what the SDK does after a fork."""
        child: Process = Process.__new__(Process)
        world = self.world
        child.world, child.number = world, number
        child.chance = random.Random(f"process {world.setup.seed} {number}")
        child.clock = copy.copy(self.clock)
        kept = (world, world.snapshot, self.guard.snapshot, self.guard.book, self.journal)
        memo: dict[int, Any] = {id(thing): thing for thing in kept}
        memo |= {id(self): child, id(self.clock): child.clock, id(self.guard.lock): threading.Lock()}
        memo[id(self.guard.deadlines)] = Deadlines(child.clock)  # nothing has one here
        child.guard = copy.deepcopy(self.guard, memo)
        closed, running = child.guard.closed, list(child.guard.running)
        child.guard.reborn()
        child.guard.closed = closed
        child.begin()
        for job in running:  # the copies of calls in flight end in the child, too, and mean nothing there
            child.after(child.chance.uniform(0.0, 2.0), child.guard.settle, job, None)
        return child

    def check_idle(self) -> None:
        """Nothing is going on: every permit, place and hold must have come back."""
        guard = self.guard
        if guard.in_flight or guard.waiting:
            raise Broken("I8 liveness", f"process {self.number} still runs {guard.in_flight} calls")
        for lane in guard.lanes.values():
            if lane.line.running or lane.line.waiting:
                raise Broken("I8 liveness", f"process {self.number} lost a place in a line")

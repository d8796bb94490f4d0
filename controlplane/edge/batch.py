"""Group commit: syncs that arrive while the last groups are being written are written together in the next one.

All SDKs of a tenant meet on the same account rows, so contention makes this faster: fewer rows, one flush of the log.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar
from uuid import UUID

import msgspec
import psycopg
import structlog
from django.conf import settings
from psycopg import AsyncConnection

from controlplane.budgets.actions import leases
from controlplane.budgets.schemas import LeaseAnswer, Told
from controlplane.edge.database import Gone
from controlplane.edge.line import Line
from controlplane.edge.mirror import Key
from controlplane.edge.schemas import SyncRequest, SyncWindow
from controlplane.fleet.actions import shares, sightings
from controlplane.fleet.schemas import ShareLine, Sighting
from controlplane.problems import Invalid, Problem, Unavailable
from controlplane.rollouts.actions import arms
from controlplane.rollouts.actions.arms import Reported
from controlplane.telemetry.actions import windows
from controlplane.telemetry.actions.windows import Counted
from controlplane.telemetry.schemas import SessionsRow, UserRow, WindowRow

log = structlog.get_logger(__name__)

Row = TypeVar("Row", WindowRow, UserRow, SessionsRow)
MAX_GROUP = 256
MAX_QUEUED = 10_000
MOST_SAMPLES = 10  # of one report: who was silent for longer is not thought to have been busy all the while
MOST_SAMPLED = 100_000


class Outcome(NamedTuple):
    """What the transaction made of one sync."""

    windows_acked: int
    leases: list[LeaseAnswer]
    shares: list[ShareLine]


class Arrival(NamedTuple):
    """One sync with the key that brought it."""

    key: Key
    request: SyncRequest
    at: datetime


@dataclass(slots=True, eq=False)
class _Waiting:
    arrival: Arrival
    outcome: asyncio.Future[Outcome]


class Turn:
    """The right to take the next group. Given on once: when the group has been sent to its end, or has failed before."""

    def __init__(self, lock: asyncio.Lock) -> None:
        self._lock = lock
        self._over = False

    def give_on(self) -> bool:
        """Return whether it had not been given on before."""
        if self._over:
            return False
        self._over = True
        self._lock.release()
        return True


class Batcher:
    """Writes syncs in groups. ``told`` is called with what changed after each commit.

    While the database makes one group durable, the next one is prepared and sent along another connection, if it is as large:
    otherwise it waits, so that groups grow with the load. Two groups meet as those of two processes would: in row locks.
    """

    def __init__(self, told: Callable[[frozenset[str]], None]) -> None:
        self._accounts: dict[int, int] = {}
        self._told = told
        self._queue: list[_Waiting] = []
        self._stirred = asyncio.Event()
        self._turn = asyncio.Lock()
        self._committing = 0  # syncs of the group that has been sent and is not durable yet
        self.groups = 0
        self.syncs = 0

    @property
    def queued(self) -> int:
        return len(self._queue)

    async def submit(self, key: Key, request: SyncRequest) -> Outcome:
        """Return what became of a sync once it is durable; ``Unavailable`` when it can't be now, ``Invalid`` when never."""
        if len(self._queue) >= MAX_QUEUED:
            raise Unavailable("More syncs are waiting than can be written: try again.", retry_after_s=2)
        waiting = _Waiting(Arrival(key, request, datetime.now(UTC)), asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        if self._is_due:
            self._stirred.set()
        return await waiting.outcome

    @property
    def _is_due(self) -> bool:
        return len(self._queue) >= min(MAX_GROUP, max(1, self._committing))

    async def run(self) -> None:
        """Write groups until cancelled."""
        await asyncio.gather(self._write_along(Line()), self._write_along(Line()))

    async def _write_along(self, line: Line) -> None:
        try:
            while True:
                await self._turn.acquire()
                turn = Turn(self._turn)
                try:
                    await self._write_next(line, turn)
                finally:
                    turn.give_on()
        finally:
            await line.close()

    async def _write_next(self, line: Line, turn: Turn) -> None:
        while not self._is_due:
            self._stirred.clear()
            await self._stirred.wait()
        group = self._next_group()

        def sent() -> None:
            if turn.give_on():
                self._committing += len(group)

        try:
            await self._write(group, line, sent)
        except Exception:
            log.exception("sync.group_failed")
            _fail(group, Unavailable("The sync could not be written: try again.", retry_after_s=1))
        finally:
            if not turn.give_on():
                self._committing -= len(group)
            self._stirred.set()

    def _next_group(self) -> list[_Waiting]:
        """Take the next group from the queue: in one transaction every incarnation comes at most once."""
        group: dict[int, _Waiting] = {}
        rest: list[_Waiting] = []
        for waiting in self._queue:
            incarnation = waiting.arrival.request.incarnation.int  # a UUID hashes and compares in Python
            if len(group) < MAX_GROUP and incarnation not in group:
                group[incarnation] = waiting
            else:
                rest.append(waiting)
        self._queue = rest
        return list(group.values())

    async def _write(self, group: list[_Waiting], line: Line, sent: Callable[[], None]) -> None:
        try:
            outcomes = await self._commit([waiting.arrival for waiting in group], line, sent)
        except Problem as problem:
            _fail(group, problem)
        except (psycopg.DataError, psycopg.IntegrityError, ValueError) as error:
            await self._alone(group, error, line)
        else:
            self.groups += 1
            self.syncs += len(group)
            for waiting, outcome in zip(group, outcomes, strict=True):
                if isinstance(outcome, Problem):
                    log.warning(
                        "sync.refused", error=str(outcome), incarnation=str(waiting.arrival.request.incarnation)
                    )
                    _fail([waiting], outcome)
                elif not waiting.outcome.done():
                    waiting.outcome.set_result(outcome)
            self._told(frozenset({"telemetry", "fleet", "budgets"}))

    async def _alone(self, group: list[_Waiting], error: Exception, line: Line) -> None:
        """Write a group that broke one by one, so that the one that broke it harms nobody else."""
        if len(group) == 1:
            log.warning("sync.refused", error=str(error), incarnation=str(group[0].arrival.request.incarnation))
            _fail(group, Invalid(f"The sync can't be written: {str(error).splitlines()[0]}"))
            return
        for waiting in group:
            await self._write([waiting], line, _nobody)

    async def _commit(
        self, arrivals: Sequence[Arrival], line: Line, sent: Callable[[], None]
    ) -> list[Outcome | Problem]:
        """Write a group durably. What was kept open may have been lost meanwhile: then it is written once more."""
        kept = line.is_open
        with Gone():
            try:
                return await self._try(arrivals, line, sent)
            except psycopg.errors.DeadlockDetected:
                return await self._try(arrivals, line, sent)
            except (psycopg.OperationalError, psycopg.InterfaceError):
                if not kept:
                    raise
                return await self._try(arrivals, line, sent)

    async def _try(self, arrivals: Sequence[Arrival], line: Line, sent: Callable[[], None]) -> list[Outcome | Problem]:
        async with line.transaction(sent) as connection:
            return await write(connection, arrivals, self._accounts)


def _nobody() -> None:
    """Nobody waits for a group to be sent."""


def _fail(group: Sequence[_Waiting], problem: Problem) -> None:
    for waiting in group:
        if not waiting.outcome.done():
            waiting.outcome.set_exception(problem)


class Samples:
    """How many samples a report of sessions stands for: one for each second since its instance last reported, in this process.

    So the sum of the samples of a span of time is its length in seconds times the sessions that were active, however seldom
    instances report.
    """

    def __init__(self) -> None:
        self._seconds: OrderedDict[int, int] = OrderedDict()

    def due(self, incarnation: UUID, at: datetime) -> int:
        """Return how many seconds have begun since the last report, 1 for the first one, at most ``MOST_SAMPLES``."""
        second = int(at.timestamp())
        before = self._seconds.pop(incarnation.int, second - 1)
        self._seconds[incarnation.int] = max(before, second)
        if len(self._seconds) > MOST_SAMPLED:
            self._seconds.popitem(last=False)
        return min(MOST_SAMPLES, max(0, second - before))


_samples = Samples()  # an instance talks to one process as long as its connection lasts


async def write(
    connection: AsyncConnection, arrivals: Sequence[Arrival], accounts: dict[int, int] | None = None
) -> list[Outcome | Problem]:
    """Write one group, each incarnation at most once, in a fixed number of statements; the caller commits.

    Of those that may not be heard nothing is written: they get the ``Problem``.

    Meant for a pipeline: statements wait until an answer is needed, and then go out together.
    ``accounts`` are those that budgets had when it was called last: it is kept up to date.
    """
    now = datetime.now(UTC)
    known = accounts if accounts is not None else {}
    everybody = [(arrival, _sighting(arrival)) for arrival in arrivals]
    seen = [sighting for _, sighting in everybody]
    told = [each for arrival in arrivals for each in _told(arrival)]
    touched = await sightings.touch(connection, seen)
    held = await leases.hold(connection, told, known)
    heard = await touched.acked()
    acked = [each for each in heard if not isinstance(each, Problem)]
    if touched.late:  # some are refused, and what another connection has just written for others was not seen yet
        fit = [each for each, before in zip(everybody, heard, strict=True) if not isinstance(before, Problem)]
        arrivals, seen = [arrival for arrival, _ in fit], [sighting for _, sighting in fit]
        held = await leases.hold(connection, [each for arrival in arrivals for each in _told(arrival)], known)
    await _fold(connection, arrivals, acked, now)
    await sightings.note_breakers(connection, seen)
    divided = await shares.divide(connection, seen, now=now)
    answers = await leases.merge_held(connection, held, known, now=now, ttl_ms=settings.LEASE_TTL_MS) if held else []
    said = iter(answers)  # in the order of the reports
    return [
        before
        if isinstance(before, Problem)
        else Outcome(
            windows_acked=max(before, sighting.last_window),
            leases=[next(said) for _ in arrival.request.leases],
            shares=divided.get(arrival.request.incarnation, []) if divided else [],
        )
        for (arrival, sighting), before in zip(everybody, heard, strict=True)
    ]


async def _fold(connection: AsyncConnection, arrivals: Sequence[Arrival], acked: Sequence[int], now: datetime) -> None:
    """Fold the windows that are above what had been acknowledged."""
    counted: list[Counted] = []
    reported: list[Reported] = []
    for arrival, before in zip(arrivals, acked, strict=True):
        for window in arrival.request.windows:
            if window.number > before:
                counted.append(_counted(arrival.key, window))
                if window.releases:
                    reported.append(Reported(window.starts_ms, window.releases, arrival.key.payers))
        counted += _sampled(arrival)
    await windows.fold(connection, counted, now=now)
    await arms.fold(connection, reported, now=now)


def _sighting(arrival: Arrival) -> Sighting:
    key, request = arrival.key, arrival.request
    return Sighting(
        incarnation=request.incarnation,
        key_id=key.id,
        scope_id=key.scope_id,
        app=request.app,
        host=request.host,
        pid=request.pid,
        sdk=request.sdk,
        seq=request.seq,
        skew_ms=request.sent_ms - int(arrival.at.timestamp() * 1000),
        config=request.config,
        active_sessions=min(2**31 - 1, sum([line.active for line in request.sessions])) if request.sessions else 0,
        gauges=request.gauges,
        final=request.final,
        breakers=request.breakers,
        demand=tuple([line for line in request.demand if key.tenant_of(line.tenant) == line.tenant])
        if request.demand
        else (),
        seen_at=arrival.at,
        last_window=max([window.number for window in request.windows], default=0),
    )


def _counted(key: Key, window: SyncWindow) -> Counted:
    """Return what to fold of a window, every tenant checked."""
    return Counted(window.starts_ms, window.book, _checked(key, window.rows), _checked(key, window.users))


def _sampled(arrival: Arrival) -> list[Counted]:
    """Return what to fold of the sessions that a sync reports."""
    sessions = arrival.request.sessions
    samples = _samples.due(arrival.request.incarnation, arrival.at)
    if not (sessions and samples):
        return []
    checked = _checked(arrival.key, sessions)
    return [Counted(int(arrival.at.timestamp() * 1000), sessions=checked, samples=samples)]


def _checked(key: Key, rows: Sequence[Row]) -> Sequence[Row]:
    """Return rows with the tenants that they count for."""
    if key.tenants is None or not rows:  # it speaks for all
        return rows
    tenants = [key.tenant_of(row.tenant) for row in rows]
    return [
        row if row.tenant == tenant else msgspec.structs.replace(row, tenant=tenant)
        for row, tenant in zip(rows, tenants, strict=True)
    ]


def _told(arrival: Arrival) -> list[Told]:
    request, payers = arrival.request, arrival.key.payers
    incarnation, seq = request.incarnation, request.seq
    return [Told(line, incarnation, seq, payers) for line in request.leases]

"""Many clients on many connections at once: real leases, real transactions, workers that die in the middle of one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from controlplane.budgets.actions.leases import merge
from controlplane.budgets.schemas import LeaseAnswer, LeaseLine, LeaseReport
from tests.concurrency.ground import Link, connect
from tidegate.core.snapshot import BudgetRef
from tidegate.leasing import Leases, Line, Slip
from tidegate.report import checked_leases

TTL_MS = 15_000
Paths = Sequence[tuple[BudgetRef, ...]]


class Client:
    """One incarnation with the SDK's own leases. Time is a number that its worker counts up."""

    def __init__(self, chance: random.Random, paths: Paths) -> None:
        self.chance = chance
        self.incarnation = UUID(int=chance.getrandbits(128))
        self.leases = Leases()
        self.paths = paths
        self.open: list[tuple[Slip, int]] = []
        self.spent = 0
        self.now = 1000.0
        self.seq = 0

    def work(self) -> None:
        """Let some calls begin and some end."""
        for _ in range(self.chance.randint(0, 4)):
            path = self.leases.path(self.chance.choice(self.paths))
            bound = self.chance.randint(1, 60)
            slip = self.leases.hold(path, bound, now=self.now, boot=self.now)
            if slip is None:
                self.leases.deny(path, bound)
            else:
                self.open.append((slip, bound))
        for _ in range(self.chance.randint(0, len(self.open))):
            slip, bound = self.open.pop(self.chance.randrange(len(self.open)))
            cost = self.chance.randint(0, bound)
            self.spent += cost
            self.leases.settle(slip, bound=bound, cost=cost)

    def says(self, *, closing: bool = False) -> tuple[list[LeaseReport], list[Line]]:
        """Return the reports of the next sync, and what to hold its answers against."""
        self.seq += 1
        self.now += 0.5
        lines = self.leases.lines(now=self.now, boot=self.now, interval_s=0.5, closing=closing)
        sent = self.leases.as_sent(lines, now=self.now, interval_s=0.5)
        found = [msgspec.convert(line, LeaseLine) for line in sent]
        return [line.reported_by(self.incarnation, seq=self.seq, allowed=None) for line in found], lines

    def hears(self, lines: list[Line], answers: dict[tuple[UUID, int], LeaseAnswer]) -> None:
        mine = [msgspec.structs.asdict(answers[self.incarnation, line.slip.number]) for line in lines]
        self.leases.answered(lines, checked_leases(mine), now=self.now, boot=self.now, sent_boot=self.now)


class Worker:
    """One connection that writes the syncs of its clients, and again what others have sent before (``stale``)."""

    def __init__(self, number: int, seed: str, now: datetime, paths: Paths, stale: list[LeaseReport]) -> None:
        self.chance = random.Random(f"{seed} {number}")
        self.now = now
        self.clients = [Client(self.chance, paths) for _ in range(4)]
        self.stale = stale
        self.died = 0
        self._link: Link | None = None

    async def link(self) -> Link:
        if self._link is None or self._link.closed:
            self._link = await connect()
        return self._link

    async def round(self) -> None:
        """Have clients work, then write a group of syncs; now and then die of it, or lose the answers."""
        said = []
        for client in self.chance.sample(self.clients, self.chance.randint(1, len(self.clients))):
            client.work()
            said.append((client, *client.says()))
        reports = [report for _, lines, _ in said for report in lines]
        mine = {(report.incarnation, report.number) for report in reports}
        again = self.chance.sample(self.stale, min(len(self.stale), self.chance.randint(0, 3)))
        older = {(report.incarnation, report.number): report for report in again}
        reports += [report for key, report in older.items() if key not in mine]
        self.chance.shuffle(reports)
        fate = self.chance.random()
        answers = await self._write(reports, dies=fate < 0.08, fails=fate > 0.92)
        if answers is None:
            return
        self.stale += [report for report in reports if (report.incarnation, report.number) in mine][:2]
        for client, _, lines in said:
            if self.chance.random() < 0.85:
                client.hears(lines, answers)

    async def _write(
        self, reports: list[LeaseReport], *, dies: bool, fails: bool
    ) -> dict[tuple[UUID, int], LeaseAnswer] | None:
        link = await self.link()
        task = asyncio.ensure_future(self._transact(link, reports, fails=fails))
        if dies:
            for _ in range(self.chance.randint(1, 25)):
                await asyncio.sleep(0)
            task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            self.died += 1
            await link.close()
            return None

    async def _transact(
        self, link: Link, reports: list[LeaseReport], *, fails: bool
    ) -> dict[tuple[UUID, int], LeaseAnswer] | None:
        answers = await merge(link, reports, now=self.now, ttl_ms=TTL_MS)
        if fails:
            await link.rollback()
            return None
        await link.commit()
        return answers

    async def finish(self) -> None:
        """Let every client end its calls and close its leases, in order."""
        for client in self.clients:
            for slip, bound in client.open:
                client.spent += bound
                client.leases.settle(slip, bound=bound, cost=bound)
            for _ in range(20):
                reports, lines = client.says(closing=True)
                answers = await self._write(reports, dies=False, fails=False)
                assert answers is not None
                client.hears(lines, answers)
                if client.leases.settled:
                    break
            assert client.leases.settled
        link = await self.link()
        await link.close()


async def crowd(workers: Sequence[Worker], rounds: int) -> None:
    """Have all workers write at once. A deadlock would be raised here."""

    async def one(worker: Worker) -> None:
        for _ in range(rounds):
            await worker.round()

    async with asyncio.TaskGroup() as group:
        for worker in workers:
            group.create_task(one(worker))

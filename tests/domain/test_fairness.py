"""The SDK's own leases against the server's own decisions, in memory: who gets the last of a budget, and that nothing strands."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest

from controlplane.budgets.schemas import LeaseAnswer, LeaseLine, LeaseReport
from controlplane.domain.leases import Answer, LeaseKey
from controlplane.domain.periods import PeriodRule
from tests.simulation.store import BudgetRow, Store
from tidegate.core.snapshot import BudgetRef
from tidegate.leasing import Leases, Line, Path, Slip
from tidegate.report import checked_leases

CENT = 10**7
EPOCH = datetime(2026, 11, 25, 12, tzinfo=UTC)
SYNC_S = 0.005  # there and back, while calls wait


class Client:
    """One process with calls that wait for money, run and end. ``cost`` is what each of its calls costs, up to its bound."""

    def __init__(self, number: int, refs: tuple[BudgetRef, ...], *, bound: int, cost: int) -> None:
        self.incarnation = UUID(int=number + 1)
        self.leases = Leases()
        self.refs = refs
        self.bound, self.cost = bound, cost
        self.running: list[Slip] = []
        self.admitted = self.refused = self.seq = 0

    @property
    def path(self) -> Path:
        return self.leases.path(self.refs)

    def arrive(self, calls: int, now: float) -> None:
        for _ in range(calls):
            self.path.waiting[object()] = self.bound
        self.admit(now)

    def admit(self, now: float) -> None:
        """Let through what there is room for; refuse what the server has denied."""
        path = self.path
        for ticket in list(path.waiting):
            slip = self.leases.hold(path, self.bound, now=now, boot=now)
            if slip is not None:
                del path.waiting[ticket]
                self.running.append(slip)
                self.admitted += 1
            elif path.denial is not None and path.denial.kind == "exhausted":
                del path.waiting[ticket]
                self.leases.deny(path, self.bound)
                self.refused += 1
        path.denial = None

    def end(self) -> None:
        for slip in self.running:
            self.leases.settle(slip, bound=self.bound, cost=self.cost)
        self.running.clear()

    def says(self, now: float) -> tuple[list[LeaseReport], list[Line]]:
        self.seq += 1
        lines = self.leases.lines(now=now, boot=now, interval_s=1.0, closing=False)
        sent = [msgspec.convert(line, LeaseLine) for line in self.leases.as_sent(lines, now=now, interval_s=1.0)]
        return [line.reported_by(self.incarnation, seq=self.seq, allowed=None) for line in sent], lines

    def hears(self, lines: list[Line], answers: dict[LeaseKey, Answer], now: float) -> None:
        said = [
            msgspec.structs.asdict(LeaseAnswer(number=number, **answers[self.incarnation, number]._asdict()))
            for number in [line.slip.number for line in lines]
        ]
        self.leases.answered(lines, checked_leases(said), now=now, boot=now, sent_boot=now)
        self.admit(now)


class Plane:
    """A budget for all of time, and the clients that share it."""

    def __init__(self, amount: int, clients: int, *, bound: int = CENT, cost: int = CENT) -> None:
        self.store = Store()
        self.store.budgets[1] = BudgetRow(1, None, "all", amount, PeriodRule("total"))
        refs = (BudgetRef(1, None, "all", (), "block"),)
        self.clients = [Client(number, refs, bound=bound, cost=cost) for number in range(clients)]
        self.now = 0.0

    def sync(self, clients: list[Client], *, after: float = SYNC_S) -> None:
        """One transaction with the syncs of ``clients``, in this order."""
        self.now += after
        said = [(client, *client.says(self.now)) for client in clients]
        reports = [report for _, lines, _ in said for report in lines]
        written = self.store.merge(reports, now=EPOCH + timedelta(seconds=self.now), ttl_ms=15_000)
        self.store.commit(written)
        for client, _, lines in said:
            client.hears(lines, written.answers, self.now)
        assert self.exposed <= self.store.budgets[1].amount

    def settle_down(self, chance: random.Random, *, groups: int, rounds: int) -> None:
        """Sync those whose calls wait, in so many groups, until none waits any more."""
        for _ in range(rounds):
            waiting = [client for client in self.clients if client.path.waiting]
            chance.shuffle(waiting)
            for start in range(groups):
                if waiting[start::groups]:
                    self.sync(waiting[start::groups])
            if not waiting:
                return

    @property
    def exposed(self) -> int:
        return sum(row.outstanding + row.settled for row in self.store.accounts.values())

    @property
    def admitted(self) -> int:
        return sum(client.admitted for client in self.clients)


@pytest.mark.parametrize("groups", [1, 3, 100])
@pytest.mark.parametrize("clients", [1, 2, 3, 7, 20, 50, 100])
def test_a_dollar__a_hundred_calls_of_a_cent_at_once__strand_nothing(clients: int, groups: int) -> None:
    plane = Plane(100 * CENT, clients)
    for number in range(100):
        plane.clients[number % clients].arrive(1, plane.now)

    plane.settle_down(random.Random(f"{clients} {groups}"), groups=groups, rounds=40)

    assert plane.admitted >= 95
    assert plane.exposed <= 100 * CENT


@pytest.mark.parametrize("clients", [2, 10, 40])
def test_a_dollar__calls_that_cost_half_their_bound__leave_less_than_a_call_for_each(clients: int) -> None:
    plane = Plane(100 * CENT, clients, cost=CENT // 2)
    chance = random.Random(clients)
    for _ in range(60):
        for client in plane.clients:
            client.end()
            client.arrive(max(1, 40 // clients), plane.now)
        plane.settle_down(chance, groups=2, rounds=20)
        plane.sync(plane.clients, after=1.0)

    spent = sum(row.settled for row in plane.store.accounts.values())
    assert spent >= (100 - 1) * CENT - CENT // 2
    assert sum(client.refused for client in plane.clients) > 0


def test_a_busy_client__and_quiet_ones__does_not_starve_them() -> None:
    plane = Plane(400 * CENT, 10)
    busy, *quiet = plane.clients
    busy.arrive(1000, plane.now)
    for client in quiet:
        client.arrive(5, plane.now)

    plane.settle_down(random.Random(7), groups=1, rounds=40)

    assert [client.admitted for client in quiet] == [5] * 9
    assert busy.admitted == 400 - 45


def test_idle_rights__while_others_are_denied__come_back_with_the_next_sync() -> None:
    plane = Plane(20 * CENT, 2)
    rich, poor = plane.clients
    rich.arrive(20, plane.now)
    plane.settle_down(random.Random(1), groups=1, rounds=10)
    assert rich.admitted == 20
    rich.cost = 0
    rich.end()

    poor.arrive(5, plane.now)
    plane.settle_down(random.Random(1), groups=1, rounds=1)
    refused = poor.refused
    plane.sync([rich], after=0.5)
    plane.sync([rich])
    poor.arrive(5, plane.now)
    plane.settle_down(random.Random(1), groups=1, rounds=10)

    assert (refused, poor.admitted) == (5, 5)

"""One world: its budgets, what its programs do, and what befalls it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from controlplane.domain.carry import CarryRule
from controlplane.domain.periods import PeriodRule, leaves_window
from tests.simulation.afterwards import hear
from tests.simulation.kernel import Kernel
from tests.simulation.liars import Liar
from tests.simulation.operators import fold, take_back
from tests.simulation.process import Job, Process, TurnedDown
from tests.simulation.server import Network, Server
from tests.simulation.setup import Setup
from tests.simulation.store import BudgetRow, Store
from tests.simulation.streams import Stream
from tests.simulation.swift import PRICES, Flight
from tests.simulation.truth import Truth
from tidegate.core.price import compile_price_book
from tidegate.core.snapshot import Snapshot, compile_snapshot
from tidegate.errors import Refused
from tidegate.exchange import Sent

HOUR = datetime(2026, 11, 25, 13, tzinfo=UTC)
CATEGORIES = ("", "support")
BOOK = compile_price_book(PRICES)
MOST_PROCESSES = 40
MOST_LIARS = 3
LOST_AFTER = timedelta(seconds=1)  # after their leases have expired, holders are lost: longer than clocks can differ


class World:
    """Everything there is, as a seed made it."""

    def __init__(self, setup: Setup, store: Store | None = None) -> None:
        self.setup = setup
        self.kernel = Kernel()
        self.epoch = HOUR.timestamp() - setup.hour_ends
        self.chance = random.Random(f"world {setup.seed}")
        self.store = store if store is not None else Store()
        self.server = Server(self)
        self.network = Network(self)
        self.truth = Truth(self.store, self.server.time)
        self.book = BOOK
        self.tenants = [f"t{number}" for number in range(setup.tenants)]
        self.refused: Counter[str] = Counter()
        self.open_calls = 0
        self._calls = 0
        self.revision = 0
        self.processes: list[Process] = []
        self.liars: dict[UUID, Liar] = {}
        self._make_budgets()
        self.snapshot = self._snapshot()
        for _ in range(setup.clients):
            self.start_process()

    # What there is

    def _make_budgets(self) -> None:
        """Budgets of tenants in a chain (each the parent of the next), of the installation, and of one category."""
        chance = random.Random(f"budgets {self.setup.seed}")
        expected = self.setup.calls * self.setup.bound * 0.5 * self.setup.tightness
        for number in range(1, self.setup.budgets + 1):
            owner = chance.choice([None, *self.tenants]) if number > 1 else self.tenants[0]
            kind = chance.random()
            rule = PeriodRule("total")
            if kind < self.setup.hours:
                rule = PeriodRule("calendar", chance.choice(("hour", "hour", "day")))
            elif kind > 1 - self.setup.rolling:
                rule = PeriodRule("rolling", days=1)
            amount = int(expected * chance.uniform(0.3, 1.5))
            blocks = chance.random() < self.setup.blocking
            category = chance.choice((None, None, "support"))
            row = BudgetRow(number, owner, f"b{number}", amount, rule, blocks=blocks, category=category)
            row.created_at = self.server.time()
            row.finishes = chance.random() < self.setup.finishes
            if rule.kind == "calendar" and chance.random() < self.setup.carries:
                row.carry = CarryRule(chance.randint(0, amount), debt=chance.random() < 0.5)
            self.store.budgets[number] = row

    def _snapshot(self) -> Snapshot:
        live = [budget for budget in self.store.budgets.values() if not budget.archived]
        policy: dict[str, Any] = {}
        if self.setup.queue:
            policy = {"queue": {"max_concurrent": self.setup.queue, "max_waiting": 50, "max_wait_ms": 500}}
        self.revision += 1
        return compile_snapshot(
            {
                "format": 1,
                "revision": self.revision,
                "scope": None,
                "prices": None,
                "sync_ms": int(self.setup.interval * 1000),
                "lease_ttl_ms": int(self.setup.ttl * 1000),
                "policies": [policy],
                "tenants": {
                    tenant: {"routes": {"*": 0}, "budgets": self._chain(depth, live)}
                    for depth, tenant in enumerate(self.tenants)
                },
                "default": {"routes": {"*": 0}, "budgets": []},
                "budgets": {
                    str(budget.id): {
                        "tenant": budget.tenant,
                        "slug": budget.slug,
                        "match": {"category": budget.category} if budget.category else {},
                        "on_exhausted": "block" if budget.blocks else "warn",
                        "on_disconnect": "finish_lease" if budget.finishes else "stop",
                        "strict": not self.setup.lenient,
                        "on_overrun": "cut",
                    }
                    for budget in live
                },
            }
        )

    def _chain(self, depth: int, budgets: list[BudgetRow]) -> list[int]:
        above = [*reversed(self.tenants[: depth + 1]), None]
        return [budget.id for owner in above for budget in budgets if budget.tenant == owner]

    @property
    def living(self) -> list[Process]:
        return [process for process in self.processes if process.alive]

    @property
    def working(self) -> list[Process]:
        return [process for process in self.living if not process.guard.closed]

    def start_process(self) -> None:
        if len(self.processes) < MOST_PROCESSES:
            self.processes.append(Process(self, len(self.processes)))

    def number_call(self) -> int:
        """Return a number for a call that is new."""
        self._calls += 1
        return self._calls

    def turned_away(
        self, process: Process, refusal: Refused, tenant: str, category: str, bound: int, waited: float
    ) -> None:
        """A call of at most ``bound`` was refused after so many seconds."""
        self.refused[refusal.reason] += 1

    def send(self, process: Process, body: dict[str, Any], sent: Sent) -> None:
        self.network.send(process, body, sent, process.hear)

    # What programs do

    def start(self) -> None:
        """Begin the safety phase: calls come in, and everything befalls the world that its setup has."""
        setup = self.setup
        self._every(setup.calls / setup.burst / setup.horizon, "calls", self._call)
        for rate, name, act in (
            (setup.partitions, "partitions", self._partition),
            (setup.kills, "kills", self._kill),
            (setup.exits, "exits", self._exit),
            (setup.forks, "forks", self._fork),
            (setup.pauses, "pauses", self._pause),
            (setup.suspends, "suspends", self._suspend),
            (setup.skew / 36000, "steps", self._step),
            (setup.failovers, "failovers", self._fail_over),
            (setup.amounts, "amounts", self._change_amount),
            (setup.archives, "archives", self._archive),
            (setup.revokes, "revokes", self._revoke),
            (setup.nights, "nights", self._night),
            (setup.resolves, "resolves", self._resolve),
            (setup.lies, "lies", self._lie),
            (setup.folds, "folds", partial(fold, self)),
            (setup.takes, "takes", partial(take_back, self)),
        ):
            if rate:
                self._every(rate, name, act)

    def _every(self, rate: float, name: str, act: Callable[[random.Random], None]) -> None:
        """Do ``act`` at random times until the horizon."""
        chance = random.Random(f"{name} {self.setup.seed}")
        at = chance.expovariate(rate)
        while at < self.setup.horizon:
            self.kernel.after(at, act, chance)
            at += chance.expovariate(rate)

    def _call(self, chance: random.Random) -> None:
        process = self._some(chance)
        if process is not None:
            tenant, category = chance.choice(self.tenants), chance.choice(CATEGORIES)
            for _ in range(self.setup.burst):
                process.after(0.0, process.call, tenant, category, chance.randint(1, self.setup.bound))

    def provide(self, process: Process, job: Job | Flight) -> None:
        """The provider works on a call that was let through, and will bill it, come what may."""
        if isinstance(job, Job) and job.streams:
            Stream(self, process, job)
            return
        setup, chance = self.setup, process.chance
        takes = chance.expovariate(1 / (0.02 if self.network.healed else setup.duration))
        cost = chance.randint(0, job.bound)
        error: BaseException | None = None
        heard: int | None = cost
        fate = chance.random()
        if fate < setup.overbilled:
            cost = heard = job.bound + chance.randint(1, job.bound)
        elif fate < 0.1:
            cost, heard, error = 0, None, TurnedDown()
        elif chance.random() < setup.silent:
            heard = None
        elif chance.random() < setup.errors:
            heard, error = None, ConnectionError()
        if chance.random() < setup.cancels:
            process.after(takes * chance.random(), process.cancel, job)
        self.open_calls += 1
        self.kernel.after(takes, self._bill, process, job, error, cost, heard)

    def _bill(
        self, process: Process, job: Job | Flight, error: BaseException | None, cost: int, heard: int | None
    ) -> None:
        self.open_calls -= 1
        self.truth.billed(job, cost)
        spare = job.estimate - cost
        presumed = (job.stage == "over" or heard is None) and not isinstance(error, TurnedDown)
        process.when_awake(process.finish, job, error, heard)
        chance, more = process.chance, 0
        if self.setup.amends and job.slip is not None and chance.random() < self.setup.amends:
            more = chance.randint(1, job.bound)
        if more or (presumed and spare > 0 and job.slip is not None and chance.random() < self.setup.corrections):
            self.kernel.after(chance.uniform(0.0, 8.0), process.when_awake, hear, process, job, cost, more)

    # What befalls the world

    def _some(self, chance: random.Random) -> Process | None:
        working = self.working
        return chance.choice(working) if working else None

    def _partition(self, chance: random.Random) -> None:
        until = self.kernel.now + chance.uniform(0.2, 2.0) * self.setup.ttl
        ways = chance.choice((("up",), ("down",), ("up", "down")))
        for process in self.living:
            if chance.random() < 0.6:
                self.network.cut |= {(process.number, way): until for way in ways}
        self.kernel.note("the network is cut {}", ways)

    def _kill(self, chance: random.Random) -> None:
        process = self._some(chance)
        if process is not None:
            self.kernel.note("process {} is killed", process.number)
            process.kill()
            self.kernel.after(chance.uniform(0.0, 3.0), self.start_process)

    def _exit(self, chance: random.Random) -> None:
        process = self._some(chance)
        if process is not None:
            self.kernel.note("process {} exits", process.number)
            process.when_awake(process.exit)
            self.kernel.after(chance.uniform(0.0, 3.0), self.start_process)

    def _fork(self, chance: random.Random) -> None:
        process = self._some(chance)
        if process is not None and len(self.living) < 2 * self.setup.clients and len(self.processes) < MOST_PROCESSES:
            self.kernel.note("process {} forks {}", process.number, len(self.processes))
            child = process.fork(len(self.processes))
            self.processes.append(child)
            child.after(chance.uniform(0.0, 3.0), self._publish, child)  # it has what its parent knew

    def _pause(self, chance: random.Random) -> None:
        process = self._some(chance)
        if process is not None:
            self.kernel.note("process {} stands still", process.number)
            process.pause(chance.uniform(0.1, 2.0) * self.setup.ttl)

    def _suspend(self, chance: random.Random) -> None:
        process = self._some(chance)
        if process is not None:
            self.kernel.note("process {} is suspended", process.number)
            process.suspend(chance.uniform(0.1, 3.0) * self.setup.ttl)

    def _step(self, chance: random.Random) -> None:
        process = self._some(chance)
        if process is not None:
            process.clock.wall_skew = chance.uniform(-1, 1) * self.setup.skew

    def _fail_over(self, chance: random.Random) -> None:
        self.kernel.note("the server fails over")
        self.server.fail_over(chance.uniform(0.0, 1.0) * self.setup.ttl)

    def _change_amount(self, chance: random.Random) -> None:
        budget = self.store.budgets[chance.randint(1, len(self.store.budgets))]
        if budget.archived:
            return
        amount = int(budget.amount * chance.choice((0.0, 0.3, 0.8, 1.2, 1.5, 3.0))) + chance.randint(0, 3)
        self.store.change_amount(budget.id, amount, self.server.time())
        self.kernel.note("budget {} is now {}", budget.id, budget.amount)

    def _archive(self, chance: random.Random) -> None:
        budget = self.store.budgets[chance.randint(1, len(self.store.budgets))]
        self.store.archive(budget.id)
        self.kernel.note("budget {} is archived", budget.id)
        self.snapshot = self._snapshot()
        for process in self.living:
            process.after(chance.uniform(0.0, 3.0), self._publish, process)

    def _revoke(self, chance: random.Random) -> None:
        keys = [key for key, lease in self.store.leases.items() if not lease.closed]
        if keys:
            key = chance.choice(keys)
            self.kernel.note("lease {} is revoked", key[1])
            self.store.revoke(key)

    def _resolve(self, chance: random.Random) -> None:
        """Operators know from elsewhere what lost holders spent; what has left every rolling window nobody needs to know."""
        now, ttl = self.server.time(), timedelta(seconds=self.setup.ttl)
        for key, lease in list(self.store.leases.items()):
            held = self.truth.held.get(key)
            silent = now - self.store.seen[key] - ttl
            if lease.closed or silent < LOST_AFTER or (held is not None and held.finishes) or chance.random() < 0.3:
                continue
            expired = self.store.seen[key] + ttl
            days = [days for account in lease.path if (days := self.store.days_of(account))]
            if (
                days
                and expired + max(leaves_window(each, HOUR) - HOUR for each in days) < now
                and not (held and (held.holds or (held.ended_at or expired) > expired))
            ):
                self.store.end(key, lease.outstanding, counts_at=expired, now=now)
            else:
                spent = held.spent - lease.counters.settled if held is not None else 0
                self.store.end(key, max(0, min(spent, lease.outstanding)), counts_at=now, now=now)
            self.kernel.note("lease {} is resolved", key[1])
            self.truth.ended(key, lease)

    def _lie(self, chance: random.Random) -> None:
        known = list(dict.fromkeys(self.liars.values()))
        if len(known) < MOST_LIARS:
            known.append(Liar(self, len(known)))
            self.liars[known[-1].incarnation] = known[-1]
        chance.choice(known).lie()

    def _publish(self, process: Process) -> None:
        process.guard.follow(self.snapshot, self.book)

    def _night(self, chance: random.Random) -> None:
        hours = chance.choice((0.2, 2.0, 12.0, 26.0)) * chance.uniform(0.5, 1.0)
        self.kernel.note("{:.1f} hours pass", hours)
        self.kernel.skip(hours * 3600)
        for account in list(self.truth.bills):
            self.truth.check_liability(account)

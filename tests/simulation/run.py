"""One seed from beginning to end: a phase in which everything may fail, then peace, in which everybody must be served and
the accounts must come out even.
"""

from __future__ import annotations

from typing import NamedTuple

from controlplane.domain.leases import OpenLease
from controlplane.domain.taking_back import lasting
from tests.simulation.bills import Held, charge, rest
from tests.simulation.kernel import Broken
from tests.simulation.process import Job, Process
from tests.simulation.setup import Setup
from tests.simulation.swift import Flight
from tests.simulation.world import CATEGORIES, World
from tidegate.leasing import IDLE_S

PROBE_S = 1.6  # between two attempts of a caller that is refused
PROBES = 8
ENOUGH = 4  # a call that fits so often into what is left must be let through


class Outcome(NamedTuple):
    """What became of a seed. ``invariant`` is empty when everything held."""

    setup: Setup
    invariant: str = ""
    text: str = ""
    told: tuple[str, ...] = ()
    events: int = 0
    checks: int = 0
    admitted: int = 0
    refused: int = 0
    at: float = 0.0


def run(setup: Setup) -> Outcome:
    """Return what becomes of the world of ``setup``; also when its code fails in a way that no invariant names."""
    return run_in(World(setup))


def run_in(world: World) -> Outcome:
    """Return what becomes of ``world``."""
    setup = world.setup
    broken: tuple[str, str] = ("", "")
    try:
        world.start()
        world.kernel.run(setup.horizon)
        _heal(world)
        _serve(world)
        _settle(world)
    except Broken as error:
        broken = (error.invariant, str(error))
    except Exception as error:  # noqa: BLE001  a crash of the code under test is a finding like any other
        broken = (f"crash {type(error).__name__}", f"{type(error).__name__}: {error}")
    truth, kernel = world.truth, world.kernel
    refused = sum(world.refused.values())
    told = tuple(kernel.told()) if broken[0] else ()
    return Outcome(setup, *broken, told, kernel.events, truth.checks, truth.admitted, refused, kernel.now)


def _pass(world: World, seconds: float) -> None:
    world.kernel.run(world.kernel.now + seconds)


def _heal(world: World) -> None:
    """Peace: the network carries everything, the server stays up, whoever slept wakes; half of the worlds get more money."""
    world.network.healed = world.server.healed = True
    world.network.cut.clear()
    world.server.down_until = 0.0
    world.server.interval = 15.0
    _pass(world, 3 * world.setup.ttl + 35.0)  # what was delayed arrives, who was backing off comes back
    if world.chance.random() < 0.5:
        for account in list(world.store.accounts.values()):
            budget = world.store.budgets[account.budget]
            if budget.archived:
                continue
            amount = max(budget.amount, world.truth.exposed(account.id) + 100 * world.setup.bound)
            world.store.change_amount(budget.id, amount, world.server.time())
    world.server.interval = 0.5
    _pass(world, 6.0)


class _Probe:
    """A caller who asks again and again until it is let through."""

    def __init__(self, world: World, process: Process, tenant: str, category: str) -> None:
        self.world = world
        self.process = process
        self.tenant = tenant
        self.category = category
        self.bound = max(1, world.setup.bound // 10)
        self.attempts = 0
        self.fitted = 0  # attempts in a row for which there was enough
        self.served = False
        self.job: Job | Flight | None = None
        process.after(process.chance.uniform(0.0, 0.5), self.ask)

    def ask(self) -> None:
        job = self.job
        if job is not None and job.stage in ("queued", "funding"):
            self.process.after(PROBE_S, self.ask)
            return
        if job is not None and job.attempts:
            self.served = True
            return
        self.fitted = self.fitted + 1 if self.room() >= ENOUGH * self.bound else 0
        self.attempts += 1
        if self.attempts > PROBES:
            return
        self.job = self.process.call(self.tenant, self.category, self.bound)
        self.process.after(PROBE_S, self.ask)

    @property
    def may_fail(self) -> bool:
        """Whether it is neither served nor refused so often, for good reason, that it can't be called starved any more."""
        return not self.served and self.fitted + PROBES - self.attempts > PROBES // 2

    def room(self) -> float:
        """Return what is left on the tightest budget that would block the call."""
        world = self.world
        refs = self.process.guard.snapshot.budgets_for(  # type: ignore[union-attr]  # every process has one
            self.tenant, route="chat", category=self.category
        )
        rooms = [float("inf")]
        for ref in refs:
            budget = world.store.budgets[ref.id]
            current = [row for row in world.store.accounts.values() if row.budget == ref.id]
            if budget.blocks and current:
                row = current[-1]
                rooms.append(budget.amount + world.truth.carried(row) - world.truth.exposed(row.id))
            elif budget.blocks:
                rooms.append(budget.amount)
        return min(rooms)


def _serve(world: World) -> None:
    """I8: whoever asks for what is there gets it."""
    probes = [
        _Probe(world, process, tenant, category)
        for process in world.working
        for tenant in world.tenants
        for category in CATEGORIES
    ]
    for _ in range(PROBES + 3):
        _pass(world, PROBE_S)
        if not any(probe.may_fail for probe in probes):
            break
    world.server.interval = 2.0
    for probe in probes:
        if not probe.served and probe.fitted > PROBES // 2:
            where = f"{probe.tenant}/{probe.category or '*'}"
            raise Broken("I8 liveness", f"process {probe.process.number} is not served on {where}: {probe.room()} left")


def _settle(world: World) -> None:
    """I7: when nothing goes on any more, every account is exposed to what was settled and to what the dead took along."""
    for _ in range(200):
        if not world.open_calls:
            break
        _pass(world, 1.0)
    _pass(world, 10.0)  # corrections
    for process in world.living:
        process.check_idle()
    world.kernel.skip(IDLE_S + 100.0)
    for _ in range(40):
        _pass(world, 1.0)
        if all(process.guard.leases.settled for process in world.living):
            break
    else:
        raise Broken("I8 liveness", "a lease that nobody needs is never closed")
    for process in world.working:
        process.exit()
    for _ in range(8):
        _pass(world, 1.0)
        if not world.living:
            break
    _check_even(world)


def _check_even(world: World) -> None:
    owed = dict.fromkeys(world.store.accounts, (0, 0))
    folded = world.truth.folded
    lasts = set(lasting(world.store.accounts, {key: world.store.span(key) for key in world.store.accounts}))
    for key, lease in (folded | world.store.leases).items():
        if key[0] not in world.liars and key not in folded:  # what is said after that is not heard
            _check_lease(world.truth.held.get(key), lease, taken=key in world.truth.costs.taken)
        for account in lease.path:
            money, denied = owed[account]
            own = 0 if key in folded and account in lasts else charge(lease) + rest(lease)  # a rest has it
            owed[account] = money + own, denied + lease.denied
    for account, total in owed.items():
        row = world.store.accounts[account]
        if (row.outstanding + row.settled, row.denied) != total:
            raise Broken("I7 conservation", f"account {account} is not what its leases come to, {total}")
    for process in world.processes:
        counted = world.server.counted[process.incarnation]
        if counted > process.spent or (not process.unconfirmed and counted != process.spent):
            text = f"the windows of process {process.number} add up to {counted}, not {process.spent}"
            raise Broken("I5 exact accounting", text)


def _check_lease(held: Held | None, lease: OpenLease, *, taken: bool) -> None:
    """A process that left in order has said everything, and it was counted as it was said; so has one with a journal."""
    if held is not None and held.process.last:
        _check_buried(held, lease)
        return
    if held is not None and held.process.unconfirmed:
        return
    number = lease.key[1]
    if not lease.closed:
        raise Broken("I7 conservation", f"lease {number} of a process that left in order is not closed")
    if held is None:
        return
    said, known = held.slip.lease, lease.counters
    corrected = max(said.corrected, known.corrected) if taken else said.corrected
    if (said.settled, corrected, 0) != (known.settled, known.corrected, lease.presumed):
        raise Broken("I5 exact accounting", f"lease {number}: said {said}, known {known}")
    if held.slip.denied != lease.denied:
        raise Broken("I5 exact accounting", f"lease {number}: {lease.denied} denials of {held.slip.denied}")


def _check_buried(held: Held, lease: OpenLease) -> None:
    """What a dead process may have spent is settled, what it did not is free."""
    said = held.slip.lease
    if not lease.closed:
        raise Broken("I7 conservation", f"lease {lease.key[1]} of a process with a journal is not closed")
    if lease.counters.settled != said.settled + max(0, said.held):
        raise Broken("I5 exact accounting", f"lease {lease.key[1]}: the last word was {said}, known {lease.counters}")

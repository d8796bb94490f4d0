"""How many calls are refused for lack of money that was there: free on the server, or idle in the leases of others.

``python -m tests.simulation.refusals --seeds 200`` runs worlds at peace whose budgets run out, and counts at the moment of
each refusal. What is idle in leases that expired, or whose holders were killed, can't be had and does not count.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

from tests.simulation.process import Process
from tests.simulation.setup import FAULTS, RARE_FAULTS, Setup, drawn
from tests.simulation.world import World
from tidegate.errors import BudgetExhausted, Refused

KEPT = ("hours", "rolling")  # not faults: kinds of budgets


@dataclass(slots=True)
class Tally:
    """Calls let through and refused; of these, those for which there was room on the server, and with what others held idle."""

    admitted: int = 0
    refused: int = 0
    free: int = 0
    idle: int = 0
    syncs: int = 0
    waited: float = 0.0  # seconds that refused calls waited, in all

    def told(self) -> str:
        false = (self.free + self.idle) / self.refused if self.refused else 0.0
        return (
            f"{self.admitted:,} let through, {self.refused:,} refused, {false:.2%} of them falsely: {self.free:,} were free on the server,"
            f" {self.idle:,} idle elsewhere; {self.syncs:,} transactions; a refused call waited {self.waited / max(1, self.refused):.3f} s"
        )


class Watched(World):
    """A world that looks at every refusal."""

    def __init__(self, setup: Setup, tally: Tally) -> None:
        self.tally = tally
        super().__init__(setup)

    def turned_away(
        self, process: Process, refusal: Refused, tenant: str, category: str, bound: int, waited: float
    ) -> None:
        super().turned_away(process, refusal, tenant, category, bound, waited)
        if not isinstance(refusal, BudgetExhausted):
            return
        self.tally.refused += 1
        self.tally.waited += waited
        refs = process.guard.snapshot.budgets_for(tenant, route="chat", category=category)  # type: ignore[union-attr]
        blocking = [ref.id for ref in refs if self.store.budgets[ref.id].blocks]
        room = {budget: self._free(budget) for budget in blocking}
        if all(room[budget] >= bound for budget in blocking):
            self.tally.free += 1
        elif all(room[budget] + self._idle(budget, process) >= bound for budget in blocking):
            self.tally.idle += 1

    def _free(self, budget: int) -> int:
        rows = [row for row in self.store.accounts.values() if row.budget == budget]
        if not rows:
            return self.store.budgets[budget].amount
        return self.store.budgets[budget].amount + self.store.carried_to(rows[-1]) - self.truth.exposed(rows[-1].id)

    def _idle(self, budget: int, besides: Process) -> int:
        return sum(
            max(0, path.slip.lease.room)
            for process in self.working
            if process is not besides
            for path in process.guard.leases.paths.values()
            if budget in path.ids and path.slip.live(process.clock.boot())
        )


def peaceful(seed: int) -> Setup:
    """Return a world of ``seed`` in which nothing fails and money runs out."""
    calm = {name: 0.0 for name in (*FAULTS, *RARE_FAULTS) if name not in KEPT}
    setup = drawn(seed).changed(
        **calm, clients=5, calls=600, horizon=20.0, interval=1.0, ttl=15.0, blocking=1.0, patience=3.0
    )
    return setup.changed(
        tightness=(0.2, 0.4, 0.7)[seed % 3], queue=0, bound=1000, delay=0.01, duration=min(setup.duration, 1.0)
    )


def measured(seeds: range) -> Tally:
    """Return what becomes of the calls of so many worlds."""
    tally = Tally()
    for seed in seeds:
        world = Watched(peaceful(seed), tally)
        world.start()
        world.kernel.run(world.setup.horizon)
        tally.admitted += world.truth.admitted
        tally.syncs += world.server.transactions
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.refusals", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    print(measured(range(options.first, options.first + options.seeds)).told())
    return 0


if __name__ == "__main__":
    sys.exit(main())

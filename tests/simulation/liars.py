"""Clients that keep to no rule: they have a key, and say of leases whatever comes to their mind.

They never let a call through. What they claim is charged, to what their key may touch; others must not come to harm.
"""

from __future__ import annotations

import random
import uuid
from typing import TYPE_CHECKING, Any

from controlplane.domain.excess import MOST_CLAIM_NUSD
from controlplane.domain.leases import OpenLease
from controlplane.domain.taking_back import REST
from tidegate.exchange import Sent

if TYPE_CHECKING:
    from tests.simulation.world import World

MOST_NUSD = 10**18
STRANGE = 10**6  # a budget that is not there


class Liar:
    """One key with one incarnation of its own. ``allowed``: the tenants whose budgets the key may touch; ``None``: all."""

    def __init__(self, world: World, number: int) -> None:
        self.number = -1 - number
        self.chance = random.Random(f"liar {world.setup.seed} {number}")
        self.incarnation = uuid.UUID(int=self.chance.getrandbits(128))
        self.allowed = self.chance.choice((None, frozenset(world.tenants[:1]), frozenset[str]()))
        self._world = world
        self._moderate = self.chance.random() < 0.7  # its lies are not so great that nobody has anything any more
        self._restarts = self.chance.random() < 0.5  # every lie comes from a process of its own: there are many of them

    def lie(self) -> None:
        """Say something, in its own name or, where its key may touch nothing that those draw on, in that of others."""
        world, chance = self._world, self.chance
        if self._restarts:
            self.incarnation = uuid.UUID(int=chance.getrandbits(128))
            world.liars[self.incarnation] = self
        others = [key for key, lease in world.store.leases.items() if key[1] != REST and not self._may_touch(lease)]
        if others and chance.random() < 0.4:
            other, number = chance.choice(others)
            body = {"leases": [self._line(number)], "windows": []}
            world.network.send(self, body, Sent(chance.randint(0, 100), [], 0.0, 0), self._hear, name=other)
            return
        lines = [self._line(number) for number in sorted(chance.sample(range(1, 6), chance.randint(1, 3)))]
        body = {"leases": lines, "windows": [{"number": chance.randint(0, 9), "rows": [{"cost_nusd": self._amount()}]}]}
        seq = chance.choice((0, 1, chance.randint(0, 100), 2**53))
        world.network.send(self, body, Sent(seq, [], 0.0, 0), self._hear)

    def _may_touch(self, lease: OpenLease) -> bool:
        store, allowed = self._world.store, self.allowed
        owners = {store.budgets[store.accounts[account].budget].tenant for account in lease.path}
        return allowed is None or owners <= {None, *allowed}

    def _line(self, number: int) -> dict[str, Any]:
        chance = self.chance
        return {
            "number": number,
            "budgets": self._path(),
            "seen": self._amount(),
            "settled": self._amount(),
            "returned": self._amount(),
            "corrected": self._amount(),
            "held": self._amount(),
            "want": self._amount(),
            "min_useful": self._amount(),
            "denied": chance.choice((0, 1, chance.randint(0, 1000), 2**53)),
            "waiting": chance.choice((None, self._amount())),
            "final": chance.random() < 0.15,
        }

    def _path(self) -> list[int]:
        chance = self.chance
        budgets = [*self._world.store.budgets, *([STRANGE] if chance.random() < 0.1 else [])]
        path = chance.sample(budgets, chance.randint(1, len(budgets)))
        return [*path, path[0]] if chance.random() < 0.05 else path

    def _amount(self) -> int:
        chance, bound = self.chance, self._world.setup.bound
        great = bound * 10 if self._moderate else chance.choice((bound * 1000, MOST_CLAIM_NUSD, MOST_NUSD))
        return chance.choice((0, 0, 1, chance.randint(0, bound), great))

    def _hear(self, sent: Sent, answer: dict[str, Any] | None, sent_at: float) -> None:
        """It says what it likes, whatever it hears."""

"""What operators do about charges: they take back what was never spent, also of leases that were folded meanwhile."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from controlplane.domain.leases import LeaseKey, OpenLease
from controlplane.domain.taking_back import REST, lasting, rest_key
from tests.simulation.bills import charge
from tests.simulation.kernel import Broken

if TYPE_CHECKING:
    from tests.simulation.world import World
    from tidegate.leasing import Slip


class Costs:
    """What the calls of each lease were billed, and may be. ``taken``: leases of which an operator took something back."""

    def __init__(self) -> None:
        self.taken: set[LeaseKey] = set()
        self._slips: Counter[int] = Counter()
        self._rests: Counter[LeaseKey] = Counter()

    def add(self, slip: Slip | None, nusd: int) -> None:
        """The calls of a lease may be billed so much more, or less."""
        if slip is not None:
            self._slips[id(slip)] += nusd

    def fold(self, key: LeaseKey, slip: Slip | None) -> None:
        """A lease was folded to this rest; what its calls may be billed is known by now, or never will be."""
        self._rests[key] += 0 if slip is None else self._slips[id(slip)]

    def of(self, key: LeaseKey, slip: Slip | None) -> int:
        """Return what the calls of a lease, or of all that were folded to a rest, have come to or may."""
        return self._rests[key] if slip is None else self._slips[id(slip)]


def take_back(world: World, chance: random.Random) -> None:
    """Somebody learns that a lease was charged more than its calls came to, or that its client lied."""
    store, truth = world.store, world.truth
    spare = {key: _spare(world, lease) for key, lease in store.leases.items() if lease.closed or key in truth.held}
    keys = [key for key, nusd in spare.items() if nusd > 0]
    if not keys:
        return
    rests = [key for key in keys if key[1] == REST]
    key = chance.choice(rests if rests and chance.random() < 0.5 else keys)
    nusd = chance.choice((spare[key], chance.randint(1, spare[key])))
    old = store.leases[key]
    world.kernel.note("{} is taken back of lease {}", nusd, key[1])
    store.take_back(key, nusd, world.server.time())
    truth.costs.taken.add(key)
    truth.ended(key, old)


def _spare(world: World, lease: OpenLease) -> int:
    """Return what a lease was charged that its calls can't come to any more; nothing while their bills may still rise."""
    held = world.truth.held.get(lease.key)
    heard = held is not None and held.process.guard.leases.slips.get(lease.key[1]) is held.slip
    if world.setup.amends and (heard or lease.key[1] == REST):
        return 0
    return charge(lease) - world.truth.costs.of(lease.key, held.slip if held else None)


def fold(world: World, chance: random.Random) -> None:
    """The server keeps closed leases for a while; here for so short that some are still spoken of."""
    keep = timedelta(seconds=chance.uniform(0.0, 2.0) * world.setup.ttl)
    store, truth = world.store, world.truth
    spans = {key: store.span(key) for key in store.accounts}
    for lease in store.fold(now=world.server.time(), keep=keep):
        world.kernel.note("lease {} is folded", lease.key[1])
        truth.folded[lease.key] = lease
        held = truth.held.get(lease.key)
        truth.costs.fold(rest_key(lasting(lease.path, spans)), held.slip if held else None)
    for account in lasting(store.accounts, spans):
        left = sum(charge(lease) for lease in store.leases.values() if account in lease.path)
        if left != truth.charged.get(account, 0):
            raise Broken(
                "I7 conservation", f"of account {account}, {left} of {truth.charged[account]} can be taken back"
            )

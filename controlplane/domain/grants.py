"""What a lease report does to the accounts on its path, and what is granted on it (docs/protocol.md, "Leases")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

# One grant takes at most this part of what is left, so that the last of an account is handed out in ever smaller slices.
GRANT_PART = 4


class Counters(NamedTuple):
    """The cumulative counters of a lease, in nano-USD. Each only grows; both sides merge by maximum."""

    granted: int = 0
    settled: int = 0
    returned: int = 0
    corrected: int = 0

    def merge(self, *, settled: int, returned: int, corrected: int) -> Counters:
        """Return the counters after a report: the greater of each, and no more corrected than was settled."""
        settled = max(self.settled, settled)
        return Counters(
            self.granted, settled, max(self.returned, returned), min(settled, max(self.corrected, corrected))
        )

    @property
    def outstanding(self) -> int:
        """What may still be spent on the lease; never below zero, also when calls cost more than their bound."""
        return max(0, self.granted - self.returned - self.settled)

    @property
    def charged(self) -> int:
        """What was spent."""
        return self.settled - self.corrected


class Account(NamedTuple):
    """One budget in one period, as far as grants are concerned. ``blocks``: it denies when it is exhausted."""

    amount: int
    outstanding: int
    settled: int
    blocks: bool = True
    archived: bool = False

    @property
    def room(self) -> int:
        """What may still be handed out; below zero while the account is over its amount."""
        return self.amount - self.outstanding - self.settled

    def moved(self, *, outstanding: int, settled: int) -> Account:
        """Return the account after a change by these differences."""
        return Account(self.amount, self.outstanding + outstanding, self.settled + settled, self.blocks, self.archived)


class Ask(NamedTuple):
    """What the client wants: ``want`` available in all, ``held`` of it for calls in flight, the next needs ``min_useful``."""

    want: int
    min_useful: int
    held: int


class Grant(NamedTuple):
    """``amount`` to add to granted; ``blocked_by``: the index on the path of the account that denies the next call."""

    amount: int
    blocked_by: int | None = None


def decide(lease: Counters, ask: Ask, path: Sequence[Account]) -> Grant:
    """Return what to grant on a lease whose report has been merged and whose accounts stand as given, leaf first.

    After the grant no blocking account is exposed beyond its amount, unless it was already. What is granted covers what
    calls cost beyond their bounds, too, without asking the accounts for it again: they were charged when it was settled.
    """
    outstanding = lease.outstanding
    missing = ask.want - outstanding
    if missing <= 0:
        return Grant(0)
    idle = outstanding - ask.held  # below zero when calls in flight are not funded yet
    floor = max(1, ask.min_useful - idle)
    blocking = [(account.room, index) for index, account in enumerate(path) if account.blocks]
    if blocking:
        room, tightest = min(blocking)
        if room < floor:
            return Grant(0, tightest if ask.min_useful > idle or idle <= 0 else None)
        missing = min(missing, max(room // GRANT_PART, floor))
    overspent = max(0, lease.settled + lease.returned - lease.granted)
    return Grant(missing + overspent)


def cap(ask: Ask, path: Sequence[Account]) -> int:
    """Return what the client may keep idle: nothing while an account on the path is over its amount or archived."""
    if any(account.archived or (account.blocks and account.room < 0) for account in path):
        return 0
    return ask.want + ask.want // 2

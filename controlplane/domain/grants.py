"""What a lease report does to the accounts on its path, and what is granted on it (docs/protocol.md, "Leases")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

# What is granted beyond calls that wait takes at most this part of what is left, divided by those who hold leases on it:
# the last of an account is handed out in ever smaller slices, and then call by call.
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
    """One budget in one period, as far as grants are concerned. ``blocks``: it denies when it is exhausted.

    ``wanting`` holders of leases on it are short of something, the asking one included; ``live`` are heard of. ``scarce``:
    it has denied somebody lately.
    """

    amount: int
    outstanding: int
    settled: int
    blocks: bool = True
    archived: bool = False
    wanting: int = 1
    live: int = 1
    scarce: bool = False

    @property
    def room(self) -> int:
        """What may still be handed out; below zero while the account is over its amount."""
        return self.amount - self.outstanding - self.settled

    def moved(self, *, outstanding: int, settled: int) -> Account:
        """Return the account after a change by these differences."""
        return Account(
            self.amount,
            self.outstanding + outstanding,
            self.settled + settled,
            self.blocks,
            self.archived,
            self.wanting,
            self.live,
            self.scarce,
        )

    def among(self, *, wanting: int, live: int) -> Account:
        """Return the account as it is shared with so many others."""
        if wanting == self.wanting and live == self.live:
            return self
        return Account(
            self.amount, self.outstanding, self.settled, self.blocks, self.archived, wanting, live, self.scarce
        )


class Ask(NamedTuple):
    """What the client wants: ``want`` available in all, ``held`` of it for calls in flight, the next needs ``min_useful``.

    ``waiting``: the bounds of calls that wait for it now; ``None`` from clients that do not say. ``denied``: some calls were
    let go since the last report, so that the next is as good as waiting.
    """

    want: int
    min_useful: int
    held: int
    waiting: int | None = None
    denied: bool = False


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
        missing = min([_slice(path[index], lease, ask, missing, floor) for _, index in blocking])
        if not missing:
            return Grant(0)
    overspent = max(0, lease.settled + lease.returned - lease.granted)
    return Grant(missing + overspent)


def _slice(account: Account, lease: Counters, ask: Ask, missing: int, floor: int) -> int:
    """Return how much of ``missing`` one account gives: nothing, or what is enough for the next call.

    For calls that wait: an even part of its room, but at least the next call. For what no call waits for: a small part, and
    only to a holder that has spent something on the lease before. Both in whole calls: less than one is of no use.
    """
    parts = max(1, account.wanting) + GRANT_PART * max(1, account.live)
    if account.room > missing * parts and (ask.waiting is None or lease.settled):
        return missing  # all that follows would come to that, with so much room
    call = max(1, ask.min_useful)
    if ask.waiting is None:
        urgent, parts = missing, max(account.wanting, GRANT_PART)
    else:
        waiting = max(ask.waiting, call if ask.denied and not account.scarce else 0)
        urgent, parts = max(0, min(missing, waiting + ask.held - lease.outstanding)), max(1, account.wanting)
    given = min(urgent, max(floor, account.room // parts)) if urgent else 0
    if given < urgent:
        need = floor if ask.min_useful > lease.outstanding - ask.held else 0
        return need + (given - need) // call * call if given >= need else 0
    if ask.waiting is not None and lease.settled:
        given += _spare(account, missing - given, given, call)
    return given if given >= min(floor, missing) else 0


def _spare(account: Account, more: int, given: int, call: int) -> int:
    """Return how much of ``more`` there is for calls that are only expected."""
    spare = max(0, account.room - given) // (GRANT_PART * max(1, account.live))
    return more if spare >= more else spare // call * call


def cap(ask: Ask, path: Sequence[Account]) -> int:
    """Return what the client may keep idle.

    Nothing while an account on the path is over its amount or archived; while one denies others, what calls wait for.
    """
    kept = ask.want + ask.want // 2
    for account in path:
        if account.archived or (account.blocks and account.room < 0):
            return 0
        if account.scarce and account.blocks and ask.waiting is not None:
            kept = ask.waiting
    return kept

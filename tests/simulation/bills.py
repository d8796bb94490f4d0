"""What is true of one lease and of one account in the simulated world, summed from what calls did cost and what was committed."""

from __future__ import annotations

from bisect import insort
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from controlplane.domain.leases import LeaseKey, OpenLease
from tests.simulation.store import AccountRow
from tidegate.core.budget import Lease
from tidegate.leasing import Slip

if TYPE_CHECKING:
    from tests.simulation.process import Process


def charge(lease: OpenLease | None) -> int:
    """Return what accounts are charged for a lease, from its committed counters."""
    return lease.counters.settled - lease.counters.corrected + lease.presumed if lease is not None else 0


def rest(lease: OpenLease | None) -> int:
    """Return what may still be spent on a lease at worst, from its committed counters."""
    if lease is None or lease.closed:
        return 0
    granted, settled, returned, _ = lease.counters
    return max(0, granted - returned - settled)


def lied(lease: OpenLease, old: OpenLease | None) -> int:
    """Return by how much a report alone, without what was granted on it, raised what a lease may come to: only liars do."""
    granted = old.counters.granted if old is not None else 0
    left = 0 if lease.closed else max(0, granted - lease.counters.returned - lease.counters.settled)
    return left + charge(lease) - rest(old) - charge(old)


MOST_COUNTED = 2**63 - 1  # what a column of the database holds


class Standing(NamedTuple):
    """What a transaction found: leases, and of accounts the exposure and what was allowed."""

    leases: dict[LeaseKey, OpenLease | None]
    exposed: dict[int, int]
    allowed: dict[int, int]


def most_counted(row: AccountRow) -> int:
    """Return the greatest of an account's counters."""
    counted = (row.outstanding, row.settled, row.denied, row.overage, row.corrected, row.carried, *row.slots.values())
    return max(map(abs, counted))


class Held:
    """What is true of one lease: who holds it, what its calls settled at, what its open calls may cost."""

    __slots__ = (
        "checked",
        "corrected",
        "ended_at",
        "finishes",
        "funded",
        "holds",
        "live_until",
        "over",
        "process",
        "settled",
        "slip",
    )

    def __init__(self, process: Process, slip: Slip) -> None:
        self.process = process
        self.slip = slip
        self.checked: Lease | None = (
            None  # what its holder believed when that was found right, and nothing has happened since
        )
        self.settled = 0
        self.corrected = 0
        self.ended_at: datetime | None = None  # when its last call ended
        self.holds = 0
        self.over = 0  # billed beyond bounds
        self.funded = not slip.path.only_warns
        self.finishes = slip.path.finishes
        self.live_until = float("-inf")  # real time, by the answers that arrived

    @property
    def spent(self) -> int:
        """What its holder knows that it may have cost: what was settled, what calls in flight and on credit hold."""
        return self.slip.lease.settled + max(0, self.slip.lease.held)


class Bill:
    """What is true of one account: what was billed, and what calls that go on may still be billed.

    A call that its caller gave up counts with its bound from then on, at that time, until its bill is known.
    """

    __slots__ = ("_recent", "billed", "days", "open", "over")

    def __init__(self, days: int | None) -> None:
        self.billed = 0
        self.open = 0
        self.over = 0
        self.days = days
        self._recent: list[tuple[datetime, int]] = []  # of an account that rolls, in order

    def add(self, amount: int, at: datetime, now: datetime) -> None:
        """Charge ``amount`` to the time ``at``."""
        if not self.days:
            self.billed += amount
        elif at >= self._oldest(now):
            self.billed += amount
            insort(self._recent, (at, amount))

    def _oldest(self, now: datetime) -> datetime:
        return now - timedelta(days=self.days or 0, seconds=-1)

    def due(self, now: datetime) -> int:
        """Return what was billed (in the window, when the account rolls) or still may be."""
        while self._recent and self._recent[0][0] < self._oldest(now):
            self.billed -= self._recent.pop(0)[1]
        return self.billed + self.open

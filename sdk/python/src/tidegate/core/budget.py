"""The arithmetic of a lease, as docs/protocol.md has it. Amounts are nano-USD, times are seconds of a clock that counts suspend.

Counters but ``held`` only grow, each has one author, and both sides merge by maximum: lost, repeated and reordered messages
are harmless.
"""

from __future__ import annotations

import math
from typing import NamedTuple

MAX_NUSD = 10**18
WANT_INTERVALS = 3
PACE_TAU_S = 5.0
PACE_LEAST_S = 0.25


class Lease(NamedTuple):
    granted: int = 0
    settled: int = 0
    returned: int = 0
    corrected: int = 0
    held: int = 0

    @property
    def room(self) -> int:
        """What may still be held: G − S − H − R. Negative when calls did cost more than their bounds."""
        return self.granted - self.settled - self.held - self.returned


def hold(lease: Lease, bound: int) -> Lease | None:
    """Return the lease with ``bound`` held, or ``None`` when it has no room for it."""
    return lease._replace(held=lease.held + bound) if lease.room >= bound else None


def hold_unfunded(lease: Lease, bound: int) -> Lease:
    """Hold without asking for room: for budgets that only warn, and for enforcement that only watches."""
    return lease._replace(held=lease.held + bound)


def settle(lease: Lease, *, bound: int, cost: int) -> Lease:
    """Replace a hold by what the call did cost; more than the bound is possible and is counted in full."""
    return lease._replace(held=lease.held - bound, settled=lease.settled + cost)


def correct(lease: Lease, nusd: int) -> Lease:
    """Take back what was settled by mistake, never more than was settled. It is not room: R and S stay."""
    return lease._replace(corrected=min(lease.settled, lease.corrected + nusd))


def merge_grant(lease: Lease, granted: int) -> Lease:
    return lease._replace(granted=granted) if granted > lease.granted else lease


def keep_at_most(lease: Lease, idle: int) -> Lease:
    """Give back for good what is held idle beyond ``idle``."""
    spare = lease.room - max(0, idle)
    return lease._replace(returned=lease.returned + spare) if spare > 0 else lease


class Pace(NamedTuple):
    """How fast a path spends: an exponential average that rises at once and falls slowly."""

    per_s: float = 0.0
    at: float | None = None
    settled: int = 0


def paced(pace: Pace, *, settled: int, now: float) -> Pace:
    """Return the pace after ``settled`` (cumulative) was seen at ``now``."""
    if pace.at is None:
        return Pace(0.0, now, settled)
    elapsed = now - pace.at
    if elapsed < PACE_LEAST_S:
        return pace  # a burst of calls within an instant says nothing about a second
    seen = max(0, settled - pace.settled) / elapsed
    kept = math.exp(-elapsed / PACE_TAU_S)
    per_s = seen if seen >= pace.per_s else seen * (1 - kept) + pace.per_s * kept
    return Pace(per_s, now, settled)


def wanted(*, per_s: float, interval_s: float, held: int, denied: int, typical: int) -> int:
    """Return what to ask for above G − S − R.

    What calls in flight hold, what was denied for lack of room, one call more, and what ``WANT_INTERVALS`` syncs of the
    present pace spend: one for the sync that is late, one for the one that is lost.
    """
    return min(MAX_NUSD, held + denied + typical + math.ceil(per_s * interval_s * WANT_INTERVALS))

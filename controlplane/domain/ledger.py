"""What one sync changed of one lease, as an entry of the ledger, and which slots of rolling windows an entry touches.

Every counter of leases, accounts and slots is the sum of such entries (docs/protocol.md, "The ledger").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal, NamedTuple

from controlplane.domain.grants import Counters
from controlplane.domain.leases import LeaseKey, OpenLease
from controlplane.domain.periods import slot_of

Kind = Literal["open", "grant", "settle", "return", "correct", "deny", "close", "revoke", "expire", "carry", "fold"]


class Stand(NamedTuple):
    """How a lease stood before it was changed."""

    counters: Counters
    presumed: int
    denied: int
    false_denied: int
    overage: int
    closed: bool


class Entry(NamedTuple):
    """One change of one lease. Amounts are differences in nano-USD; ``kind`` is the gravest thing that happened.

    What was charged counts from ``counts_at``, what was taken back from ``opened_at``: no window forgets a charge later
    than what was taken back of it.
    """

    kind: Kind
    key: LeaseKey
    path: tuple[int, ...]
    at: datetime
    opened_at: datetime
    counts_at: datetime
    granted: int = 0
    settled: int = 0
    returned: int = 0
    corrected: int = 0
    presumed: int = 0
    denied: int = 0
    false_denied: int = 0
    overage: int = 0
    closes: bool = False
    opens: bool = False

    @property
    def added(self) -> int:
        """What was charged."""
        return self.settled + max(0, self.presumed)

    @property
    def taken_back(self) -> int:
        """What had been charged and is not any more, as a positive amount."""
        return self.corrected + max(0, -self.presumed)

    @property
    def is_plain(self) -> bool:
        """Whether something was granted, settled or returned, and nothing else happened."""
        return not (
            self.closes
            or self.opens
            or self.corrected
            or self.presumed
            or self.denied
            or self.false_denied
            or self.overage
        )

    @property
    def amounts(self) -> tuple[int, ...]:
        return (
            self.granted, self.settled, self.returned, self.corrected, self.presumed, self.denied, self.false_denied,
            self.overage,
        )  # fmt: skip


def stand_of(lease: OpenLease) -> Stand:
    """Return how a lease stands, to be held against how it stands later."""
    return Stand(lease.counters, lease.presumed, lease.denied, lease.false_denied, lease.overage, lease.closed)


def entry_of(
    lease: OpenLease, before: Stand | None, *, now: datetime, counts_at: datetime | None = None
) -> Entry | None:
    """Return what changed of ``lease`` since ``before`` (``None``: it is new), or ``None`` when nothing did."""
    stood = before or _NEW
    counters, old = lease.counters, stood.counters
    amounts = (
        counters.granted - old.granted,
        counters.settled - old.settled,
        counters.returned - old.returned,
        counters.corrected - old.corrected,
        lease.presumed - stood.presumed,
        lease.denied - stood.denied,
        lease.false_denied - stood.false_denied,
        lease.overage - stood.overage,
    )
    opens, closes = before is None, lease.closed and not stood.closed
    if not (opens or closes or any(amounts)):
        return None
    kind = _kind(amounts, opens=opens, closes=closes)
    opened_at = lease.opened_at or now
    return Entry(kind, lease.key, tuple(lease.path), now, opened_at, counts_at or now, *amounts, closes, opens)


def folding_entry(lease: OpenLease, *, now: datetime) -> Entry:
    """Return the last entry of a closed lease that is to be folded: all that it came to, taken off it again, not off its accounts."""
    granted, settled, returned, corrected = lease.counters
    return Entry(
        "fold", lease.key, tuple(lease.path), now, lease.opened_at or now, now, granted=-granted, settled=-settled,
        returned=-returned, corrected=-corrected, presumed=-lease.presumed, denied=-lease.denied,
        false_denied=-lease.false_denied, overage=-lease.overage,
    )  # fmt: skip


_NEW = Stand(Counters(), 0, 0, 0, 0, closed=False)


def _kind(amounts: tuple[int, ...], *, opens: bool, closes: bool) -> Kind:
    """Return the gravest thing that happened."""
    granted, settled, returned, corrected, presumed, *_ = amounts
    if presumed > 0:
        return "expire"
    if corrected > 0 or presumed < 0:
        return "correct"
    if closes or opens:
        return "close" if closes else "open"
    if settled > 0:
        return "settle"
    if returned > 0:
        return "return"
    return "grant" if granted > 0 else "deny"


def slot_moves(entries: Iterable[Entry], rolling: Mapping[int, int]) -> dict[tuple[int, datetime], int]:
    """Return what entries add to slots, by account and start of slot; ``rolling`` are the days of rolling accounts."""
    moves: dict[tuple[int, datetime], int] = defaultdict(int)
    for entry in entries:
        for account in entry.path:
            days = rolling.get(account)
            if days is None:
                continue
            if entry.added:
                moves[account, slot_of(days, entry.counts_at)] += entry.added
            if entry.taken_back:
                moves[account, slot_of(days, entry.opened_at)] -= entry.taken_back
    return dict(moves)

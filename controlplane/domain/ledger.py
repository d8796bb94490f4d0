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

Kind = Literal["open", "grant", "settle", "return", "correct", "deny", "close", "revoke", "expire", "carry"]


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
    stood = before or Stand(Counters(), 0, 0, 0, 0, closed=False)
    entry = Entry(
        kind="open",
        key=lease.key,
        path=tuple(lease.path),
        at=now,
        opened_at=lease.opened_at or now,
        counts_at=counts_at or now,
        granted=lease.counters.granted - stood.counters.granted,
        settled=lease.counters.settled - stood.counters.settled,
        returned=lease.counters.returned - stood.counters.returned,
        corrected=lease.counters.corrected - stood.counters.corrected,
        presumed=lease.presumed - stood.presumed,
        denied=lease.denied - stood.denied,
        false_denied=lease.false_denied - stood.false_denied,
        overage=lease.overage - stood.overage,
        closes=lease.closed and not stood.closed,
        opens=before is None,
    )
    if not (entry.opens or entry.closes or any(entry.amounts)):
        return None
    return entry._replace(kind=_kind(entry))


def _kind(entry: Entry) -> Kind:
    gravest: list[tuple[bool, Kind]] = [
        (entry.presumed > 0, "expire"),
        (entry.corrected > 0 or entry.presumed < 0, "correct"),
        (entry.closes, "close"),
        (entry.opens, "open"),
        (entry.settled > 0, "settle"),
        (entry.returned > 0, "return"),
        (entry.granted > 0, "grant"),
    ]
    return next((kind for happened, kind in gravest if happened), "deny")


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

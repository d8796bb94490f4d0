"""What an operator takes back of what leases were charged, and what folded leases leave behind for that.

Budgets for all of time count what was charged long after the lease is folded. What can still be taken back of it stays on a **rest**: one
closed lease for all folded ones that were charged to the same such accounts. Clients can't name it: their numbers are not negative.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from uuid import UUID, uuid5

from controlplane.domain.grants import Counters
from controlplane.domain.leases import LeaseKey, OpenLease
from controlplane.domain.retention import Span

REST = -1  # the number of every rest
_RESTS = UUID("5f0c7d1e-3a86-4b53-9a57-0d1f2c9be4a7")


def taken_back(lease: OpenLease, nusd: int) -> OpenLease:
    """Return a lease after so much of what it was charged was taken back.

    What is presumed goes first: what is settled stays charged then, should the holder come back and replace what was presumed.
    """
    assert 0 <= nusd <= lease.charged  # noqa: S101  asked for by those who looked
    presumed = min(nusd, lease.presumed)
    granted, settled, returned, corrected = lease.counters
    counters = Counters(granted, settled, returned, corrected + nusd - presumed)
    return replace(lease, counters=counters, presumed=lease.presumed - presumed)


def lasting(path: Iterable[int], spans: Mapping[int, Span]) -> tuple[int, ...]:
    """Return the accounts on a path that count for all of time, in order of their ids."""
    return tuple(sorted(key for key in path if spans[key].ends_at is None and spans[key].days is None))


def rest_key(accounts: Sequence[int]) -> LeaseKey:
    """Return what names the rest on accounts that count for all of time."""
    return uuid5(_RESTS, ",".join(map(str, accounts))), REST


def rests_of(
    folded: Iterable[OpenLease], spans: Mapping[int, Span], known: Mapping[LeaseKey, OpenLease]
) -> dict[LeaseKey, OpenLease]:
    """Return the rests after leases were folded, those alone that changed; ``known`` are those that there are."""
    rests: dict[LeaseKey, OpenLease] = {}
    for lease in folded:
        accounts = lasting(lease.path, spans)
        if not accounts or not lease.charged:
            continue
        key = rest_key(accounts)
        rest = (
            rests.get(key) or known.get(key) or OpenLease(key, list(accounts), closed=True, opened_at=lease.opened_at)
        )
        granted, settled, returned, corrected = rest.counters
        counters = Counters(granted, settled + lease.counters.charged, returned, corrected)
        rests[key] = replace(rest, counters=counters, presumed=rest.presumed + lease.presumed)
    return rests

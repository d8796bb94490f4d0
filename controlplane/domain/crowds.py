"""How many hold leases on an account and how many are short of something: what decides how its last is divided.

Counts over all leases are taken from the rows now and then, and kept on the account; the group of reports that is being
merged is counted anew each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from controlplane.domain.leases import LeaseKey, OpenAccount, OpenLease, Report

# Counts are taken again when they are older than this, where they matter.
FRESH_FOR = timedelta(milliseconds=500)
# They matter while less is left than this many times what is asked for, for each who holds a lease.
TIGHT = 64
# Who was short of something counts as wanting it for so long after the last report.
WANTS_FOR = timedelta(seconds=5)
# Who has not been heard of for longer is not waited for: what it holds comes back when it reports, or not at all.
GIVES_BACK_WITHIN = timedelta(seconds=5)
# An account that denied somebody within this time is scarce: what others hold idle is called back.
SCARCE_FOR = timedelta(seconds=3)


def gather(
    reports: Iterable[Report], leases: Mapping[LeaseKey, OpenLease], accounts: Mapping[int, OpenAccount]
) -> dict[int, int]:
    """Note who asks for something in this group, and return the most that one lease is short of, by account."""
    most: dict[int, int] = {}
    for report in reports:
        lease = leases.get((report.incarnation, report.number))
        if lease is None:
            continue
        lease.asks = False
        if lease.closed or lease.revoked or report.final:
            continue
        granted, settled, returned, _ = lease.counters
        left = granted - max(returned, report.returned) - max(settled, report.settled)
        missing = report.want - max(0, left)
        lease.asks = missing > 0
        for key in lease.path:
            account = accounts[key]
            account.here += 1
            account.asking += lease.asks
            if missing > most.get(key, 0):
                most[key] = missing
    return most


def is_due(account: OpenAccount, missing: int, now: datetime) -> bool:
    """Return whether the holders of an account must be counted again before ``missing`` is granted on it."""
    if not account.state.blocks or missing <= 0 or account.state.room >= TIGHT * max(1, account.crowd.live) * missing:
        return False
    return account.counted_at is None or abs(now - account.counted_at) >= FRESH_FOR

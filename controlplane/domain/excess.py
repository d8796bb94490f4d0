"""Reports of which nothing counts: those that claim more than any calls come to, and what they hear."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.domain.leases import Answer, Denial, LeaseKey, OpenLease, Report

# By how much one report may say that more was spent than had been leased: a million dollars. One that says more is refused.
MOST_CLAIM_NUSD = 10**15


def is_excessive(report: Report, lease: OpenLease | None) -> bool:
    """Return whether a report says that far more was spent than was leased: no calls come to that."""
    if lease is None:
        return report.settled > MOST_CLAIM_NUSD
    return report.settled - lease.counters.settled - lease.outstanding - lease.presumed > MOST_CLAIM_NUSD


def drop_excessive(reports: Sequence[Report], leases: dict[LeaseKey, OpenLease]) -> set[LeaseKey]:
    """Take out of ``leases`` those whose reports are excessive, known or not, and return their keys: nothing of them counts."""
    found = set()
    for report in reports:
        if report.settled > MOST_CLAIM_NUSD:
            key = (report.incarnation, report.number)
            if is_excessive(report, leases.get(key)):
                leases.pop(key, None)
                found.add(key)
    return found


def refusal(report: Report, denied: Denial, *, never: bool, ttl_ms: int) -> Answer:
    """Return what a report hears that changes nothing; ``never``: its lease can't be opened at all, so that it is closed."""
    over = denied == "closed"  # it was, and has been folded
    said = None if over and report.final else denied
    return Answer(granted=0, cap=0, ttl_ms=ttl_ms, period_ms=None, closed=over or (never and report.final), denied=said)

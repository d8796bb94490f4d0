"""Calls of the time before the first policy: nothing governs them, but what they cost is not lost.

They are booked when the first policy is there, at its prices, and owed to the budgets that they would have been paid from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tidegate.guard import Guard
    from tidegate.ticket import Ticket

MAX_EARLY = 10_000  # calls that are kept until there is a policy
EARLY_S = 60.0  # and for how long
WithoutPolicy = Literal["pass", "refuse"]


def charge(guard: Guard, ticket: Ticket, now: float) -> None:
    """Have ``ticket`` hold what it may have cost, room or not. Who holds the guard's lock may do it."""
    ticket.ungoverned = False
    tenant = guard.tenant_of(ticket)
    ticket.lane = guard.lane(tenant, ticket.route)
    ticket.policy = ticket.lane.follow(guard.snapshot)
    ticket.key = ticket.key._replace(tenant=tenant or "")
    refs = guard.budgets_of(ticket)
    ticket.estimate = guard.estimate(ticket, now, learn=bool(refs))
    ticket.bound = max(1, ticket.estimate)
    if refs:
        ticket.path = guard.leases.path(refs)
        ticket.slip = guard.leases.hold(ticket.path, ticket.bound, now=now, boot=guard.clock.boot(), force=True)

"""Attempts beyond a call's first: what allows them, and what they are to the call."""

from __future__ import annotations

from tidegate.books import Books
from tidegate.core.backoff import spent
from tidegate.ticket import Ticket


class Attempts(Books):
    """Books that know of second attempts and of fallbacks."""

    def may_retry(self, ticket: Ticket) -> bool:
        """Take one retry from the lane's budget, if there is one."""
        rule, lane = ticket.policy.retry, ticket.lane
        with self.lock:
            left = spent(lane.retries, rule.budget_ratio) if lane is not None and rule is not None else None
            if left is None or lane is None:
                return False
            lane.retries = left
            return True

    def hedging(self, ticket: Ticket, twin: Ticket) -> None:
        """A second attempt begins beside the call's own, in its name."""
        with self.lock:
            twin.hedge = True
            twin.arrived, twin.deadline, twin.started = ticket.arrived, ticket.deadline, ticket.started
            twin.key, twin.attempts, twin.assignment = ticket.key, ticket.attempts, ticket.assignment
            if ticket.epoch == self.epoch:
                self.row(ticket.key).count("hedged")

    def absorb(self, ticket: Ticket, twin: Ticket, *, won: bool) -> None:
        """What the second attempt used is the call's; ``won``: it answered first."""
        with self.lock:
            ticket.total_cost += twin.total_cost
            ticket.total_input += twin.total_input
            ticket.total_cached += twin.total_cached
            ticket.total_output += twin.total_output
            if won and ticket.epoch == self.epoch:
                self.row(ticket.key).count("hedge_won")

    def fell_back(self, ticket: Ticket) -> None:
        """A fallback answered in the call's stead."""
        with self.lock:
            if ticket.epoch == self.epoch:
                self.row(ticket.key).fallbacks += 1

"""Which release calls get, and how they fare with it: what the guard asks of deployments, and nothing while there are none."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from tidegate.arms import ArmKey, ArmRow, Arms, CallOutcome
from tidegate.core.bucketing import PARTS
from tidegate.core.release import Assignment, Deployment, unit_of
from tidegate.core.snapshot import Snapshot
from tidegate.errors import Refused

if TYPE_CHECKING:
    from tidegate.ticket import Ticket

Rows = Callable[[ArmKey], ArmRow]


class Releases:
    """The arms of one incarnation. The guard's lock guards it."""

    def __init__(self, uniform: Callable[[], float] = random.random) -> None:
        self.region = os.environ.get("TIDEGATE_REGION", "")
        self._uniform = uniform
        self._arms = Arms()

    def assign(self, ticket: Ticket, snapshot: Snapshot, tenant: str | None) -> None:
        """Give a call that arrives the release of the deployment on its route, if there is one. A copy has its own already."""
        if ticket.assignment is not None:
            return
        deployment = snapshot.deployment_of(tenant, ticket.route)
        if deployment is not None:
            unit = unit_of(deployment, tenant=tenant or "", user=ticket.user, session=ticket.session)
            ticket.assignment = self.of(deployment, unit, tenant=tenant or "", user=ticket.user)
            ticket.counted_as = unit, deployment.window_s

    def of(
        self, deployment: Deployment, unit: str, *, tenant: str = "", user: str = "", region: str = ""
    ) -> Assignment:
        """Return what a unit gets; without a unit, what chance gives to this one request."""
        where = region or self.region
        if unit:
            return deployment.assign(unit, tenant=tenant, user=user, region=where)
        return deployment.at(int(self._uniform() * PARTS), tenant=tenant, user=user, region=where)

    def ended(self, ticket: Ticket, error: BaseException | None, now: float, rows: Rows) -> None:
        """A call that was let through is over. A refusal further in, or a cancellation, is no fault of the release."""
        failed = isinstance(error, Exception) and not isinstance(error, Refused)
        took_s = now - ticket.started if ticket.started is not None else 0.0
        outcome = CallOutcome(
            failed=failed,
            latency_us=max(0, int(took_s * 1_000_000)),
            ttft_us=_first_after_us(ticket),
            cost_nusd=ticket.total_cost,
            tokens=ticket.total_input + ticket.total_output,
            score=ticket.score,
        )
        self._count(ticket, outcome, now, rows)

    def refused(self, ticket: Ticket, now: float, rows: Rows) -> None:
        """A call was not let through at all. For a copy that is no sign of anything: it goes behind all others."""
        if ticket.assignment is None or ticket.assignment.arm != "shadow":
            self._count(ticket, CallOutcome(refused=True), now, rows)

    def _count(self, ticket: Ticket, outcome: CallOutcome, now: float, rows: Rows) -> None:
        if ticket.assignment is not None:
            unit, window_s = ticket.counted_as
            self._arms.count(ticket.assignment, unit, window_s, outcome, rows, now)

    def close(self, now: float, rows: Rows, *, everything: bool = False) -> None:
        """Report the units whose window is over; with ``everything`` all of them."""
        self._arms.close(rows, now, everything=everything)


def _first_after_us(ticket: Ticket) -> int | None:
    """Return how long the first of the answer took, over all attempts; ``None`` when the call did not say."""
    if ticket.first_at is None or ticket.started is None:
        return None
    return max(0, int((ticket.first_at - ticket.started) * 1_000_000))

"""How cells come by their credit: after a call was let through, more like it are paid for, as long as there is plenty of everything.

Only kinds of call that come often are lent to; others take the exact path each time, with a span each. A loan lasts for a tenth of
a second's calls or so, and never longer than ``LEND_S``. What is scarce is not lent at all: then every call asks for itself.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

from tidegate.cells import LENDS, MAX_CALL_NUSD, Cell, Lasting, Loan, Refusal
from tidegate.errors import Refused
from tidegate.harvest import Harvest
from tidegate.lanes import Lane
from tidegate.ticket import Ticket

if TYPE_CHECKING:
    from tidegate.guard import Guard
    from tidegate.leasing import Path

LEND_S = 1.0
AHEAD_S = 0.1  # a loan is what calls of this long need
LEAST, MOST = 4, 65_536
STEP = 8192  # calls that get credit at a time, of what is paid
WARM_CALLS, WARM_S = 16, 0.4  # a lane is lent to after so many calls in so long
MAX_CELLS = 20_000


class Lending(Harvest):
    """Lends. The caller holds the lock, except for ``top_up``."""

    warm_calls = WARM_CALLS

    def lend(self, ticket: Ticket, now: float) -> None:
        """Pay for more calls like ``ticket``, which was just let through, where that may be done."""
        if not LENDS or ticket.cell_key is None or not self._may_lend(ticket):
            return
        cell = self.cells.get(ticket.cell_key)
        if cell is not None:
            self._recall(cell, now)
            self.harvest(cell, now)
        calls = self._calls(cell, ticket, now)
        if calls < LEAST:
            return
        if cell is None or not cell.fits(ticket, self.book):
            cell = self._make(ticket)
        self._draw(cell, calls, ticket, now)

    def _may_lend(self, ticket: Ticket) -> bool:
        policy, lane = ticket.policy, ticket.lane
        if lane is None or policy.enforcement != "enforce" or lane.line.waiting or self.closed or self.snapshot is None:
            return False
        if self.snapshot.rules(lane.tenant).personal:
            return False  # who calls decides which budgets are touched
        if ticket.path is not None and ticket.path.warned_by is not None:
            return False  # each call is counted that would have been refused
        if ticket.assignment is not None and not self._is_everybodys(ticket, lane):
            return False  # each call gets a release of its own
        if policy.queue is not None and (policy.queue.adaptive is not None or policy.queue.scope == "fleet"):
            return False  # each call tells how it fared, or is demand that others make room for
        if policy.retry is not None and policy.retry.hedge_ms is not None:
            return False  # somebody watches how long it takes
        if ticket.circuit is not None:
            return ticket.leave is not None and ticket.circuit.lends(ticket.leave)
        return policy.breaker is None

    def _is_everybodys(self, ticket: Ticket, lane: Lane) -> bool:
        """Whether every call of the kind gets the same release."""
        deployment = self.snapshot.deployment_of(lane.tenant, lane.route) if self.snapshot is not None else None
        return deployment is not None and ticket.assignment is deployment.everybody

    def remember(self, ticket: Ticket, error: Refused, now: float, lasting: Lasting) -> None:
        """Refuse calls like ``ticket``, which was just refused, without asking again, as long as that would be the answer."""
        lane, key = ticket.lane, ticket.cell_key
        if not LENDS or key is None or lane is None or ticket.session or ticket.watched or ticket.attempts:
            return
        if ticket.assignment is not None and not self._is_everybodys(ticket, lane):
            return  # more becomes of such a call than that it is refused
        cell = self.cells.get(key)
        if (
            cell is None
            or cell.epoch != self.epoch
            or cell.lane is not lane
            or cell.policy is not ticket.policy
            or (cell.assignment is not ticket.assignment)
        ):
            cell = self._make(ticket)
        demand: dict[str, float] = {}
        amounts = [amount for _, amount in ticket.taken] + [lasting.amount] * (lasting.amount > 0)
        for limit, amount in zip(ticket.policy.limits, amounts, strict=False):
            if limit.scope == "fleet":
                demand[limit.unit] = demand.get(limit.unit, 0.0) + amount
        lasting = lasting._replace(until=min(lasting.until, now + LEND_S))
        cell.refusal = Refusal(error, now, lasting, bound=ticket.bound, demand=demand)
        self.active.add(cell)
        lane.cells.add(cell)

    def _make(self, ticket: Ticket) -> Cell:
        if self.cells.count >= MAX_CELLS:
            self.cells.keep(self.active)
        assert ticket.cell_key is not None  # noqa: S101  lend has looked
        cell = Cell(ticket, cast("Guard", self), self.book, self.clock.now)
        self.cells.add(ticket.cell_key, cell)
        return cell

    def _calls(self, cell: Cell | None, ticket: Ticket, now: float) -> int:
        """Return for how many calls to pay."""
        lane = ticket.lane
        assert lane is not None  # noqa: S101  _may_lend has looked
        wanted = self._wanted(cell, lane, now)
        if wanted < LEAST:
            return 0
        wanted = min(wanted, lane.room(ticket.policy, "requests", now))
        tokens = sum(amount for (_, unit, _), amount in ticket.taken if unit == "tokens")
        if tokens:
            wanted = min(wanted, lane.room(ticket.policy, "tokens", now) / tokens)
        if ticket.slip is not None and ticket.path is not None:
            if not ticket.path.slip.live(self.clock.boot()) or ticket.path.slip is not ticket.slip:
                return 0
            wanted = self.leases.lendable(ticket.path, max(ticket.bound, ticket.path.typical), wanted)
        return max(0, int(wanted))

    def _wanted(self, cell: Cell | None, lane: Lane, now: float) -> float:
        """Return how many calls of the kind are to be expected soon; 0 while it is not known to come often."""
        if cell is None or not cell.chunk:
            if now - lane.heated_at > WARM_S:
                lane.heat, lane.heated_at = 0, now
            lane.heat += 1
            return 2 * LEAST if lane.heat > self.warm_calls else 0
        elapsed = now - cell.drawn_at
        pace = cell.used / elapsed if elapsed > 0 else math.inf
        # What was lent is often called back before anybody could use it.
        least = cell.chunk / 2 if elapsed < AHEAD_S else 0.0
        wanted = min(max(least, pace * AHEAD_S), 4 * cell.chunk, MOST)
        if wanted < LEAST:
            cell.chunk = 0
        return wanted

    def _draw(self, cell: Cell, calls: int, ticket: Ticket, now: float) -> None:
        """Take for so many calls what each of them would take, and give credit for those that the line has room for."""
        tokens = calls * sum(amount for (_, unit, _), amount in ticket.taken if unit == "tokens")
        cell.lane.lend(cell.policy, "requests", float(calls), now)
        cell.lane.lend(cell.policy, "tokens", tokens, now)
        cell.turn(now)
        cell.lent = cell.chunk = cell.reserve = calls
        cell.lent_tokens = cell.allowance = tokens
        boot = self.clock.boot()
        cell.until = min(now + min(LEND_S, cell.lane.shares_until - boot), cell.good_until(now))
        if cell.slip is not None and cell.path is not None:
            nusd = calls * (max(ticket.bound, cell.path.typical) if cell.weighs else cell.bound)
            self.leases.lend(cell.slip, nusd)
            cell.funds = nusd
            cell.owed += nusd
            cell.learned = cell.lane.learned(now)
            cell.until = min(cell.until, now + cell.slip.ends_in(boot))
            cell.typical = self.outputs.bound(cell.key, None) if cell.lenient else None
        else:
            cell.funds = MAX_CALL_NUSD * calls
        cell.used, cell.drawn_at, cell.patience = 0, now, cell.calm_s
        self.active.add(cell)
        cell.lane.cells.add(cell)
        self._release_some(cell)

    def _release_some(self, cell: Cell) -> bool:
        """Give credit for what is paid, as far as the line has room; whether there was any."""
        room = self._room_in_line(cell)
        if room < 1:
            return False
        cell.reserve -= room
        cell.given += room
        cell.loan.begun += room
        cell.loan.until = math.inf
        cell.lane.line.running += room
        cell.credit = float(room)
        return True

    def _room_in_line(self, cell: Cell) -> int:
        """Return how many calls the line has room for: of what is free half, so that other kinds of calls find some, too.

        When they hold so much that it is not even half a fair share, what they don't use is called back.
        """
        lane, rule = cell.lane, cell.policy.queue
        reserve = min(cell.reserve, STEP)
        if rule is None:
            return reserve
        slots, kinds = lane.slots(rule), len(lane.cells)
        room = slots - lane.line.running
        if kinds > 1:
            if room < min(reserve, slots // kinds):
                self.call_back(lane.cells - {cell})
                room = slots - lane.line.running
            if len(lane.cells) > 1:
                room = (room + 1) // 2
        return min(reserve, room)

    def mind_shares(self, lane: Lane, now: float) -> None:
        """Stop using shares that have expired."""
        if lane.shares_until < math.inf and (boot := self.clock.boot()) >= lane.shares_until:
            lane.share_out(lane.shares, now=now, boot=boot)

    def call_in(self, path: Path) -> bool:
        """Call back what is lent on a path that has no room; whether there was anything."""
        cells = [cell for cell in self.active if cell.path is path]
        self.call_back(cells)
        return bool(cells)

    def top_up(self, cell: Cell) -> bool:
        """Give credit again for calls that are paid for, now that others have ended; whether there is some."""
        sort_ahead(cell.loan)
        with self.lock:
            if cell.epoch != self.epoch or cell.now() >= cell.until:
                return False
            if cell.credit >= 1.0:
                return True  # somebody else has just seen to it
            if not cell.reserve or cell.lane.line.waiting:
                return False
            if cell.loan.much:
                self.harvest(cell, cell.now())
            else:
                self._free(cell, cell.ended)
            return self._release_some(cell)


def sort_ahead(loan: Loan) -> None:
    """Sort how long calls took, where there is much to count, before the lock is taken; who counts them has no more to sort.

    Sorting numbers is one step for all other threads, and their order means nothing.
    """
    if loan.much:
        loan.times.sort()  # ATOMIC

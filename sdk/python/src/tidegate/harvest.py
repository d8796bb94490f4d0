"""Calls of cells, counted: what they took and cost goes into the books, and what was lent and not used goes back.

After ``gather`` the books say what they would say if every call had taken the lock. It goes before whatever reads them as a whole
(syncs, status) and before whatever changes what calls may do (a policy, an answer, closing).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Generator, Iterable

from tidegate.arms import key_of
from tidegate.attempts import Attempts
from tidegate.cells import NONE, NOTHING_TOLD, Cell, Loan, Refusal
from tidegate.core.backoff import earned
from tidegate.core.circuit import Circuit, Pass
from tidegate.core.outcome import Failure
from tidegate.lanes import Lane
from tidegate.report import Row, Spent
from tidegate.swift import SwiftCall
from tidegate.tally import Tally
from tidegate.ticket import Ticket

FEW = 64  # cells that are gathered in no time
ALARMED = -1.0  # a patience that each call has overtaxed
NOBODY = -1  # an epoch of no incarnation


class Harvest(Attempts):
    """Books that know cells. All but the methods for changes from outside expect the caller to hold the lock."""

    @property
    def in_flight(self) -> int:
        """Calls that were let through and have not ended."""
        self.catch_up()
        with self.lock:
            self.gather()
            return len(self.running) + sum(cell.in_flight for cell in self.active)

    def gather(self) -> None:
        """Call all credit back and count all that ended."""
        if self.active:
            self.call_back(self.active)

    def ease(self) -> Generator[None, None, None]:
        """Gather in steps, each under the lock for a moment: what ``gather`` has to do at once after it is little."""
        for cell in list(self.active) if len(self.active) > FEW else ():
            with self.lock:
                self.call_back([cell])
            yield

    def call_back(self, cells: Iterable[Cell]) -> None:
        """Call the credit of ``cells`` back and count what ended in them."""
        now = self.clock.now()
        cells = list(cells)
        for cell in cells:
            self._recall(cell, now)
            self.harvest(cell, now)
            refusing = cell.refusal
            if refusing is not None:
                cell.refusal = None
                self._count_refused(cell, refusing, now)
            elif not cell.in_flight:
                self.active.discard(cell)
                cell.lane.cells.discard(cell)
        for circuit in {cell.circuit for cell in cells if cell.slow_s < math.inf and cell.circuit is not None}:
            self.mind_hanging(circuit, now)

    def mind_hanging(self, circuit: Circuit, now: float) -> None:
        """Have a breaker know how many calls on credit hang; nobody has credit once it opens."""
        provider, cells = circuit.provider, self._of(circuit)
        generation = provider.generation
        mine = [cell for cell in cells if cell.leave is not None and cell.leave.permit.generation == generation]
        provider.hang(generation, circuit.rule, now=now, calls=sum([cell.hung(now) for cell in mine]))
        if provider.generation != generation:
            self.call_back(cells)

    def _count_refused(self, cell: Cell, refusal: Refusal, now: float) -> None:
        """Count the calls that were refused without asking, as if they had."""
        calls, cell.turned_away = cell.turned_away, 0  # ATOMIC
        if not calls:
            return
        lane, row, kind = cell.lane, self.row(cell.key), f"refused.{refusal.error.reason}"
        row.refused += calls
        row.kinds[kind] = row.kinds.get(kind, 0) + calls
        self._arrived(cell, calls, now)
        for unit, amount in refusal.demand.items():
            lane.unmet[unit] = lane.unmet.get(unit, 0.0) + amount * calls
        if cell.assignment is not None:
            self.arm(key_of(cell.assignment)).refuse_alone(calls)
        if refusal.lasting.breaker is not None:
            refusal.lasting.breaker.refused += calls
        if refusal.lasting.path is not None:
            self.leases.deny(refusal.lasting.path, refusal.bound, calls)

    def _recall(self, cell: Cell, now: float) -> None:
        left, cell.credit = cell.credit, NONE  # ATOMIC
        if not cell.lent:
            return
        idle = int(left) if left > 0 else 0
        unused, lane, policy = idle + cell.reserve, cell.lane, cell.policy
        used, tokens_back, nusd_back = cell.lent - unused, cell.allowance, cell.funds
        if not cell.weighs:
            tokens_back, nusd_back = cell.lent_tokens / cell.lent * unused, unused * cell.bound
        lane.take_back(policy, "requests", lent=float(cell.lent), unused=float(unused), now=now)
        if cell.lent_tokens:
            lane.take_back(policy, "tokens", lent=cell.lent_tokens, unused=tokens_back, now=now)
        if cell.slip is not None:
            self.leases.settle(cell.slip, bound=nusd_back, cost=0)
            cell.owed -= nusd_back
        lane.line.running -= idle
        cell.given -= idle
        cell.loan.begun -= idle
        cell.loan.until = now
        cell.lent = cell.reserve = cell.funds = 0
        cell.lent_tokens = cell.allowance = 0.0
        cell.used += used
        self._arrived(cell, used, now)

    def _arrived(self, cell: Cell, calls: int, now: float) -> None:
        """Do for so many calls what an arrival does."""
        if not calls:
            return
        cell.lane.used_at = now
        if cell.path is not None:
            cell.path.used_at = now
        if cell.policy.queue is not None:
            self.row(cell.key).queue_depth.add_same(cell.lane.line.waiting, calls)
        if cell.policy.retry is not None:
            cell.lane.retries = earned(cell.lane.retries, cell.policy.retry.budget_ratio * calls)

    def harvest(self, cell: Cell, now: float) -> None:
        """Count what ended."""
        times, calls = _ended(cell)
        ended = len(times) + len(calls)
        if not ended:
            return
        cell.harvested += ended
        self._free(cell, cell.harvested)
        row = Row()
        if times:
            self._count_quiet(cell, row, len(times))
        if calls:
            times += self._count_told(cell, row, calls, now)
        row.calls += ended
        middle = row.latency_us.add_seconds(times) / ended
        self._enter(cell, row)
        for _ in range(min(ended, 20)):  # its average remembers no more
            cell.lane.line.took(middle)
        if cell.circuit is not None and cell.leave is not None:
            self._tell_circuit(cell.circuit, cell.leave, times, now, slow_s=cell.slow_s)
        self.teach(cell.lane, now)

    def _enter(self, cell: Cell, found: Row) -> None:
        """Enter counts of calls into the window, and into the arm of their release."""
        self.row(cell.key).merge(found)
        if cell.assignment is not None:
            self.arm(key_of(cell.assignment)).add_alone(found.latency_us, found.call_cost_nusd, found.tokens)

    def _tell_circuit(self, circuit: Circuit, leave: Pass, times: list[float], now: float, *, slow_s: float) -> None:
        """Count calls that went well, the shortest first, and have no more lent where that may open the breaker."""
        slow = len(times) - bisect_right(times, slow_s)
        if slow:
            self.mind_hanging(circuit, now)  # those that ended hang no longer
        circuit.succeeded(leave, now=now, calls=len(times) - slow)
        circuit.succeeded(leave, now=now, calls=slow, slow=True)
        if not circuit.lends(leave):
            self.call_back(self._of(circuit))

    def teach(self, lane: Lane, now: float) -> None:
        """Call back what was lent to calls that have to hold more, now that one did cost more than any lately."""
        learned = lane.learned(now)
        wrong = [cell for cell in lane.cells if cell.learns and cell.learned < learned]
        for cell in wrong:
            cell.learned = learned
        self.call_back(wrong)

    def _account(self, ticket: Ticket, error: BaseException | None, failure: Failure | None, now: float) -> None:
        super()._account(ticket, error, failure, now)
        if ticket.lane is not None and ticket.lane.cells:
            self.teach(ticket.lane, now)

    def _free(self, cell: Cell, ended: int) -> None:
        """Give up the places in the line of calls that ended, ``ended`` being all of them ever."""
        line = cell.lane.line
        line.running -= ended - cell.freed
        cell.freed = ended
        if line.waiting:
            self.promote(cell.lane)

    def _count_quiet(self, cell: Cell, row: Row, calls: int) -> None:
        """Account for calls of which nothing is known but that they went well."""
        cost = cell.estimate
        if not cost:
            self.unpriced_calls += calls
        row.cost_nusd += cost * calls
        row.tokens.add_same(0, calls)
        row.call_cost_nusd.add_same(cost, calls)
        self._settle_lease(cell, bound=cell.bound * calls, cost=cost * calls)

    def _settle_lease(self, cell: Cell, *, bound: int, cost: int) -> None:
        if cell.slip is not None:
            self.leases.settle(cell.slip, bound=bound, cost=cost)
            cell.owed -= bound

    def _count_told(self, cell: Cell, row: Row, calls: list[SwiftCall], now: float) -> list[float]:
        """Account for calls that said something of themselves; return how long they took."""
        tally = Tally(cell, calls)
        self.unpriced_calls += tally.unpriced + tally.unknown
        if tally.unknown:
            row.kinds["unpriced"] = row.kinds.get("unpriced", 0) + tally.unknown
        cost = sum(tally.costs)
        row.cost_nusd += cost
        row.input_tokens += tally.input
        row.cached_input_tokens += tally.cached
        row.output_tokens += tally.output
        row.tokens.add_all(tally.tokens)
        row.call_cost_nusd.add_all(tally.costs)
        self._settle_lease(cell, bound=tally.bound, cost=cost)
        if tally.dearest >= 0:
            cell.lane.learn(tally.dearest, now)
            for output in tally.outputs:
                self.outputs.learn(cell.key, output)
            for key, _ in cell.taken:
                if key[1] == "tokens":
                    actual = float(tally.input + tally.output)
                    cell.lane.correct(key, estimated=float(tally.asked), actual=actual)
        if cell.people:
            self._remember_people(cell, calls, tally, now)
        return tally.times

    def _remember_people(self, cell: Cell, calls: list[SwiftCall], tally: Tally, now: float) -> None:
        spent: dict[str, list[int]] = {}
        sessions: dict[str, None] = {}  # in order
        for call, tokens, cost in zip(calls, tally.tokens, tally.costs, strict=True):
            user, session, _, _ = call.told or NOTHING_TOLD
            if user:
                of_user = spent.setdefault(user, [0, 0, 0])
                of_user[0] += 1
                of_user[1] += tokens
                of_user[2] += cost
            if session:
                sessions[session] = None
        for session in sessions:
            self.report.touch_session(cell.key.tenant, cell.key.route, session, now)
        if spent:
            window = self.report.window(self.clock.wall_ms())
            for user, sums_of_user in spent.items():
                window.add_user(cell.key.tenant, user, Spent(*sums_of_user))

    # Calls that don't stay in their cell

    def adopt(self, call: Ticket, cell: Cell, loan: Loan) -> None:
        """Have a call that is in flight on ``loan`` go on as a call of its own: it failed, or somebody wants to know more of it."""
        with self.lock:
            if cell.epoch == self.epoch:
                cell.adopted += 1
                loan.ended += 1
                if call.circuit is not None and call.leave is not None:
                    call.leave = call.circuit.joined(call.leave, call.since)
                if cell.slip is not None:
                    cell.owed -= call.bound
                self.running.add(call)
                if call.session:
                    self.report.touch_session(call.key.tenant, call.route, call.session, self.clock.now())

    def attend(self, cell: Cell) -> None:
        """A call has ended for which others wait."""
        if self.put_off(self.attend, cell):
            return
        with self.lock:
            if cell.epoch == self.epoch:
                self.call_back([cell])
                self.calm(cell.lane)

    def alarm(self, lane: Lane) -> None:
        """Have every call of ``lane`` that ends say so at once, and look who has ended already."""
        for cell in lane.cells:
            cell.patience = ALARMED
        self.call_back(lane.cells)

    def calm(self, lane: Lane) -> None:
        """Nobody may be waiting any more."""
        if not lane.line.waiting:
            for cell in lane.cells:
                cell.patience = cell.calm_s

    # Breakers: what went well is counted before what did not

    def _of(self, circuit: Circuit) -> list[Cell]:
        return [cell for cell in self.active if cell.circuit is circuit]

    def _tell_breaker(self, ticket: Ticket, now: float, error: BaseException | None, failure: Failure | None) -> None:
        circuit = ticket.circuit if failure is not None else None
        if circuit is not None and self.active:
            self.call_back(self._of(circuit))
        super()._tell_breaker(ticket, now, error, failure)

    def presume(self) -> None:
        super().presume()
        with self.lock:
            for cell in list(self.active):
                self._presume(cell)

    def _presume(self, cell: Cell) -> None:
        """Settle the calls in flight as if nobody will ever know, and listen to them no more."""
        calls, row = cell.in_flight, Row()
        cost = cell.owed if cell.slip is not None and cell.estimate else cell.estimate * calls
        row.calls += calls
        row.kinds["cancelled"] = row.kinds.get("cancelled", 0) + calls
        row.cost_nusd += cost
        row.tokens.add_same(0, calls)
        row.call_cost_nusd.add_same(cost // calls, calls - 1)
        row.call_cost_nusd.add(cost - cost // calls * (calls - 1))
        if cell.slip is not None:
            self.leases.settle(cell.slip, bound=cell.owed, cost=cost)
        self._enter(cell, row)
        cell.owed, cell.epoch = 0, NOBODY
        self.active.discard(cell)
        cell.lane.cells.discard(cell)


def _ended(cell: Cell) -> tuple[list[float], list[SwiftCall]]:
    """Take what is said of calls that ended."""
    times, calls = _taken(cell.loan)
    for loan in cell.loans:
        quiet, told = _taken(loan)
        times += quiet
        calls += told
    return times, calls


def _taken(loan: Loan) -> tuple[list[float], list[SwiftCall]]:
    """Take what is in the lists to which others append, and which they may sort meanwhile."""
    quiet: list[float] = []
    told: list[SwiftCall] = []
    times, loan.times = loan.times, quiet  # ATOMIC
    calls, loan.calls = loan.calls, told  # ATOMIC
    loan.ended += len(times) + len(calls)
    return times, calls

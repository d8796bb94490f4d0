"""What is true in the simulated world, whatever either side believes, and the invariants that must hold after every event.

Nothing here is computed by the code under test: exposure is summed from the committed counters of leases, liability from
what providers were asked and what they billed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from controlplane.domain.leases import Answer, LeaseKey, OpenLease
from controlplane.domain.periods import period_of
from tests.simulation.bills import MOST_COUNTED, Bill, Held, Standing, charge, lied, most_counted, rest
from tests.simulation.carries import carried_to, last_before
from tests.simulation.kernel import Broken
from tests.simulation.operators import Costs
from tests.simulation.store import AccountRow, Store, Written, key_of
from tidegate.leasing import Slip

if TYPE_CHECKING:
    from controlplane.budgets.schemas import LeaseReport
    from tests.simulation.process import Job, Process
    from tests.simulation.swift import Flight
    from tidegate.journal import LastWord


class Truth:
    """Watches one store and the processes that draw on it."""

    def __init__(self, store: Store, server_time: Callable[[], datetime]) -> None:
        self.store = store
        self.server_time = server_time
        self.held: dict[LeaseKey, Held] = {}
        self.bills: dict[int, Bill] = {}
        self.outstanding: dict[int, int] = {}  # per account, from the committed counters of its leases
        self.charged: dict[int, int] = {}
        self.folded: dict[LeaseKey, OpenLease] = {}  # closed leases that the server has no row of any more
        self.costs = Costs()
        self.claimed: dict[LeaseKey, int] = {}  # by liars, beyond what was granted
        self.checks = 0
        self.admitted = 0
        self.denied = 0

    # What processes do

    def watch(self, process: Process) -> None:
        """Learn of the leases that a process has opened, and check what it believes of all of them."""
        leases = process.guard.leases
        for number, slip in leases.slips.items():
            key = (process.incarnation, number)
            known = self.held.get(key)
            if known is None:
                known = self.held[key] = Held(process, slip)
            elif known.slip is not slip:
                raise Broken("I6 fencing", f"lease {number} is held by two processes")
            if known.checked is not slip.lease:
                self._check_client(key, known)

    def _check_client(self, key: LeaseKey, held: Held) -> None:
        self.checks += 1
        lease = held.slip.lease
        exact = not held.process.guard.active
        if exact:
            self._check_exact(key, held)
        else:
            self._check_lent(key, held)
        committed = self.store.leases.get(key) or self.folded.get(key)
        granted, settled, returned = committed.counters[:3] if committed else (0, 0, 0)
        if lease.granted > granted:
            raise Broken("I3 views", f"lease {key[1]}: the client saw {lease.granted}, granted are {granted}")
        said = lease.settled + (max(0, lease.held) if held.process.last else 0)
        if settled > said or returned > lease.returned:
            raise Broken("I3 views", f"lease {key[1]}: the server knows more than its client said")
        if held.funded and lease.settled + lease.held + lease.returned > lease.granted + held.over:
            raise Broken("I2 client", f"lease {key[1]} spends more than was granted: {lease}")
        held.checked = lease if exact else None

    def _check_exact(self, key: LeaseKey, held: Held) -> None:
        lease = held.slip.lease
        if (lease.settled, lease.held) != (held.settled, held.holds):
            said, true = (lease.settled, lease.held), (held.settled, held.holds)
            raise Broken("I5 exact accounting", f"lease {key[1]} settled and holds {said}, truth is {true}")

    def _check_lent(self, key: LeaseKey, held: Held) -> None:
        """While calls pass on credit, what they spend is held, and what they hold was held before."""
        lease = held.slip.lease
        spent, due = lease.settled + lease.held, held.settled + held.holds
        if lease.settled > held.settled or lease.held < held.holds or spent + held.over < due:
            raise Broken("I5 exact accounting", f"lease {key[1]} has {lease}, truth is {held.settled} and {held.holds}")

    def died(self, process: Process, words: Sequence[LastWord]) -> None:
        """A process is dead: what its journal says is what its leases came to at most, and none is missing."""
        said = {word.number: word.spent for word in words}
        for number, slip in process.guard.leases.slips.items():
            held = self.held.get((process.incarnation, number))
            if held is None or held.slip is not slip:
                continue
            spent, due = slip.lease.settled + max(0, slip.lease.held), held.settled + held.holds
            if said.get(number, 0) != spent or spent + held.over < due:
                raise Broken(
                    "I5 exact accounting", f"the journal says {said.get(number)} of lease {number}, not {spent}"
                )

    def gathered(self, process: Process) -> None:
        """A process has taken all credit back and counted what ended: now its books are exact."""
        for number, slip in process.guard.leases.slips.items():
            held = self.held.get((process.incarnation, number))
            if held is not None and held.slip is slip:
                self._check_exact((process.incarnation, number), held)

    def answered(self, process: Process, number: int, until: float) -> None:
        """An answer has reached its client: it may let calls through on this lease until ``until``."""
        held = self.held.get((process.incarnation, number))
        if held is not None:
            held.live_until = max(held.live_until, until)

    def let_through(self, process: Process, job: Job | Flight, *, now: float, slack: float) -> None:
        """A call was let through: it may be billed up to its bound from now on.

        ``slack``: so many seconds may the process's clock have gone wrong since it was told when its period ends.
        """
        self.admitted += 1
        slip = job.slip
        if slip is None:
            return
        self.watch_new(process, slip)
        key = (process.incarnation, slip.number)
        held = self.held[key]
        held.holds += job.bound
        self.costs.add(slip, job.bound)
        held.checked = None
        lease = self.store.leases.get(key)
        if held.funded and not getattr(job, "lent_before_suspend", False):
            self._check_fencing(held, key, lease, now, slack)
        for account in lease.path if lease else ():
            self.bill(account).open += job.bound
            self.check_liability(account)
        job.accounts = tuple(lease.path) if lease else ()

    def grew(self, process: Process, job: Job, more: int) -> None:
        """A call that goes on holds more, and may be billed that, too."""
        if job.slip is None:
            return
        held = self.held[process.incarnation, job.slip.number]
        held.holds += more
        self.costs.add(job.slip, more)
        held.checked = None
        for account in job.accounts:
            self.bill(account).open += more
            self.check_liability(account)

    def watch_new(self, process: Process, slip: Slip) -> None:
        self.held.setdefault((process.incarnation, slip.number), Held(process, slip))

    def _check_fencing(self, held: Held, key: LeaseKey, lease: OpenLease | None, now: float, slack: float) -> None:
        if lease is None or lease.closed:
            raise Broken("I6 fencing", f"a call on lease {key[1]}, which is {'closed' if lease else 'not known'}")
        if now >= held.live_until + 1e-6 and not (held.finishes and held.live_until > 0):
            raise Broken("I6 fencing", f"a call on lease {key[1]}, {now - held.live_until:.3f} s after its deadline")
        if held.finishes:  # by its own clock, for as long as it has not heard from the server
            slack += held.process.world.setup.drift * max(0.0, now - held.live_until)
        latest = self.server_time() - timedelta(seconds=slack)
        for account in lease.path:
            ends_at = self.store.accounts[account].ends_at
            if ends_at is not None and latest > ends_at:
                raise Broken("I9 attribution", f"a call on lease {key[1]} after the end of its period")

    def billed(self, job: Job | Flight, amount: int) -> None:
        """The provider bills a call, whatever its caller knows of that."""
        self.costs.add(job.slip, amount - job.bound)
        now = self.server_time()
        for account in job.accounts:
            bill = self.bill(account)
            bill.over += max(0, amount - job.bound)
            if job.settled_at is None:
                bill.open -= job.bound
                bill.add(amount, now, now)
            else:
                bill.add(amount - job.bound, job.settled_at, now)
            self.check_liability(account)
        job.accounts = ()

    def settled(self, process: Process, job: Job | Flight, cost: int) -> None:
        """A caller's call has ended for its process, at ``cost``; what is not billed yet may still be."""
        self._settle_bills(job, self.server_time())
        if job.slip is not None:
            held = self.held[process.incarnation, job.slip.number]
            held.holds -= job.bound
            held.settled += cost
            held.ended_at = self.server_time()
            held.checked = None
            held.over += max(0, cost - job.bound)

    def _settle_bills(self, job: Job | Flight, now: datetime) -> None:
        job.settled_at = now
        for account in job.accounts:
            bill = self.bill(account)
            bill.open -= job.bound
            bill.add(job.bound, now, now)

    def bill(self, account: int) -> Bill:
        bill = self.bills.get(account)
        if bill is None:
            days = self.store.budgets[self.store.accounts[account].budget].rule.days
            bill = self.bills[account] = Bill(days)
        return bill

    def check_liability(self, account: int) -> None:
        """Nothing may come of the calls of an account that it is not exposed to."""
        row = self.store.accounts[account]
        budget = self.store.budgets[row.budget]
        bill = self.bill(account)
        if not budget.blocks:
            return
        exposed = self.exposed(account)
        due = bill.due(self.server_time())
        if due > exposed + bill.over:
            raise Broken("I4 liability", f"account {account} may be billed {due}, its exposure is {exposed}")

    # What the server does

    def exposed(self, account: int) -> int:
        """Return the exposure of an account; of one that rolls, in its window."""
        row = self.store.accounts[account]
        if self.store.budgets[row.budget].rule.days:
            return self.outstanding.get(account, 0) + self.store.settled(row, self.server_time())
        return self.outstanding.get(account, 0) + self.charged.get(account, 0)

    def standing(self, reports: list[LeaseReport], written: Written) -> Standing:
        """Return how everything stands that a transaction is about to change."""
        leases = {key: self.store.leases.get(key) for key in map(key_of, reports)}
        known = [account for account in written.accounts if account in self.store.accounts]
        exposed = {account: self.exposed(account) for account in known}
        return Standing(leases, exposed, {account: self.allowed(account) for account in self.store.accounts})

    def committed(self, reports: list[LeaseReport], written: Written, stood: Standing) -> None:
        """A transaction has been committed: hold what it did against the law."""
        before = stood.leases
        touched: set[int] = set()
        raised: set[int] = set()
        for report in reports:
            key = (report.incarnation, report.number)
            lease, old = self.store.leases.get(key), before[key]
            self._check_folded(key, lease, written.answers[key])
            if lease is None:
                continue
            if old is None:
                self._check_opening(report, lease)
            if lease != old:
                self._check_reach(report, lease)
            self._check_only_grows(lease, old)
            self._move(lease, old)
            touched.update(lease.path)
            if lease.counters.granted > (old.counters.granted if old else 0):
                self._check_grant(report, lease, old)
                raised.update(lease.path)
            held = self.held.get(key)
            if held is not None:
                self._check_client(key, held)
                self._write_off(held, lease)
        for account in touched:
            self._check_account(account, stood, granted=account in raised)
        for report in reports:
            if (lease := self.store.leases.get(key_of(report))) is not None:
                self._check_cap(written.answers[lease.key], lease, stood)

    def _check_folded(self, key: LeaseKey, lease: OpenLease | None, answer: Answer) -> None:
        refused = lease is None and not answer.granted and (answer.closed or answer.denied == "excessive")
        if key in self.folded and not refused:
            raise Broken("I6 fencing", f"lease {key[1]} was folded, and is {lease}, answered {answer}")

    def _write_off(self, held: Held, lease: OpenLease) -> None:
        """When a lease was closed for its dead holder, its calls in flight count from then on, whenever they will be billed."""
        process, now = held.process, self.server_time()
        if process.alive or not lease.closed:
            return
        for job in (*process.guard.running, *process.flights):
            if job.slip is held.slip and job.settled_at is None:  # type: ignore[attr-defined]  # all tickets here are jobs
                self._settle_bills(job, now)  # type: ignore[arg-type]

    def ended(self, key: LeaseKey, old: OpenLease) -> None:
        """The lease of a lost holder was closed: what was presumed of it must be enough."""
        lease = self.store.leases[key]
        self._move(lease, old)
        if key in self.held:
            self._write_off(self.held[key], lease)
        for account in lease.path:
            self.check_liability(account)

    def _move(self, lease: OpenLease, old: OpenLease | None) -> None:
        idle, charged = rest(lease) - rest(old), charge(lease) - charge(old)
        for account in lease.path:
            self.outstanding[account] = self.outstanding.get(account, 0) + idle
            self.charged[account] = self.charged.get(account, 0) + charged
        if lease.key not in self.held:
            before = self.claimed.get(lease.key, 0)
            self.claimed[lease.key] = after = max(0, before + lied(lease, old))
            for account in lease.path:
                self.bill(account).over += after - before

    def _check_reach(self, report: LeaseReport, lease: OpenLease) -> None:
        for account in lease.path:
            budget = self.store.budgets[self.store.accounts[account].budget]
            if report.allowed is not None and budget.tenant not in (None, *report.allowed):
                raise Broken("I12 reach", f"a key for {set(report.allowed)} has touched a lease on {budget.tenant}")

    def _check_only_grows(self, lease: OpenLease, old: OpenLease | None) -> None:
        if old is None:
            return
        before, after = (*old.counters, old.denied, old.seq), (*lease.counters, lease.denied, lease.seq)
        if any(now < then for now, then in zip(after, before, strict=True)) or (old.closed and not lease.closed):
            raise Broken("I3 views", f"lease {lease.key[1]}: a counter went back from {before} to {after}")

    def _check_opening(self, report: LeaseReport, lease: OpenLease) -> None:
        for budget, account in zip(report.budgets, lease.path, strict=True):
            row = self.store.accounts[account]
            period = period_of(self.store.budgets[budget].rule, self.server_time())
            if row.budget != budget or row.key != period.key:
                raise Broken(
                    "I9 attribution", f"lease {lease.key[1]} draws on {row.budget} in {row.key}, not {period.key}"
                )

    def _check_grant(self, report: LeaseReport, lease: OpenLease, old: OpenLease | None) -> None:
        number, left = report.number, rest(lease)
        if old is not None and (old.closed or old.revoked):
            raise Broken("I6 fencing", f"lease {number} is closed and was granted more")
        for account in map(self.store.accounts.__getitem__, lease.path):
            if self.store.budgets[account.budget].archived:
                raise Broken("I1 escrow", f"lease {number} was granted more on an archived budget")
            if account.ends_at is not None and account.ends_at <= self.server_time():
                raise Broken("I9 attribution", f"lease {number} was granted more after the end of its period")
        if left > report.want:
            raise Broken("I10 level", f"lease {number} has {left} after a grant, wanted were {report.want}")
        if left - report.held < report.min_useful and left < report.want:
            raise Broken("I10 level", f"lease {number} was granted less than a call needs, {report.min_useful}")

    def _check_cap(self, answer: Answer, lease: OpenLease, stood: Standing) -> None:
        """Whoever draws on an account that is over its amount must give back what it holds idle.

        An account that was over before a transaction and is after it was so all the time, but for calls that cost more
        than their bounds.
        """
        for account in lease.path:
            budget = self.store.budgets[self.store.accounts[account].budget]
            exposed = min(stood.exposed.get(account, 0), self.exposed(account))
            allowed = max(stood.allowed.get(account, 0), self.allowed(account))
            if budget.blocks and answer.cap and exposed > allowed:
                raise Broken("I11 cap", f"account {account} is over its amount, its clients may keep {answer.cap}")

    def kept(self, process: Process, number: int, cap: int) -> None:
        """A client has heard how much it may keep idle."""
        held = self.held.get((process.incarnation, number))
        if held is not None and not held.slip.retiring and held.slip.lease.room > cap:
            raise Broken("I11 cap", f"lease {number} keeps {held.slip.lease.room} of {cap}")

    def _check_account(self, account: int, stood: Standing, *, granted: bool) -> None:
        self.checks += 1
        row = self.store.accounts[account]
        budget = self.store.budgets[row.budget]
        if row.outstanding != self.outstanding[account] or row.settled != self.charged[account]:
            kept, true = (row.outstanding, row.settled), (self.outstanding[account], self.charged[account])
            raise Broken("I7 conservation", f"account {account} says {kept}, its leases say {true}")
        if most_counted(row) > MOST_COUNTED:
            raise Broken("I13 bounds", f"account {account} counts {most_counted(row)}, which no column holds")
        if granted and budget.blocks:
            self._check_escrow(account, stood)
        self.check_liability(account)

    def _check_escrow(self, account: int, stood: Standing) -> None:
        """Whatever was granted was there, before the transaction or in the course of it; so was what the next period has of this one."""
        row = self.store.accounts[account]
        following = [
            other.id for other in self._periods_of(row) if last_before(self._periods_of(row), other.starts_at) is row
        ]
        for each in (account, *following):
            exposed, allowed = self.exposed(each), max(self.allowed(each), stood.allowed.get(each, 0))
            if exposed > allowed:
                raise Broken("I1 escrow", f"account {each}: {exposed} of {allowed} after a grant")

    def _periods_of(self, row: AccountRow) -> list[AccountRow]:
        return [other for other in self.store.accounts.values() if other.budget == row.budget]

    def allowed(self, account: int) -> int:
        """Return what an account may be exposed to: its amount, what was carried to it, and costs beyond bounds."""
        row = self.store.accounts[account]
        amount = self.store.budgets[row.budget].amount
        return amount + self.carried(row) + self.bill(account).over

    def carried(self, row: AccountRow) -> int:
        """Return what an account has of the periods before: what was left of them, or what was too much."""
        return carried_to(row, self._periods_of(row), self.store.budgets[row.budget], self.exposed)

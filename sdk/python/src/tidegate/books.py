"""The state of one incarnation, and what becomes of calls once they are over: holds settled, slots freed, costs booked.

One lock guards all of it. Nothing of the caller's runs under the lock, and there is no I/O. But wherever Python makes objects its garbage
collector may run finalizers, also those of the caller: of streams and generators that nobody refers to any more, whose calls end then.
What they do to the books is put off until the lock is free.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial

from tidegate.arms import ArmKey, ArmRow
from tidegate.cells import MAX_CALL_NUSD, NONE, Cell, Cells
from tidegate.clock import Clock
from tidegate.core import outcome
from tidegate.core.catalog import DAY_S, Context
from tidegate.core.circuit import Circuit
from tidegate.core.outcome import Failure
from tidegate.core.price import PriceBook
from tidegate.core.snapshot import Snapshot
from tidegate.core.usage import plain_classes
from tidegate.deadlines import Deadlines
from tidegate.early import MAX_EARLY, WithoutPolicy
from tidegate.errors import Refused
from tidegate.evidence import tell_adaptive, tell_breaker
from tidegate.giving_way import Lock
from tidegate.lanes import Lane, Share
from tidegate.leasing import Leases
from tidegate.releases import Releases
from tidegate.report import Report, Row, RowKey, Spent
from tidegate.reserving import Memory, lenient
from tidegate.ticket import Ticket, Usage
from tidegate.trace import Tracer

_log = logging.getLogger("tidegate")

MAX_LANES = 10_000
LANE_IDLE_S = 600.0


class Link:
    """What is known of the way to the control plane: kept by the client, read when a call can't be funded."""

    __slots__ = ("failed_at", "interval_s", "next_try_at")

    def __init__(self) -> None:
        self.failed_at = float("-inf")
        self.next_try_at = float("-inf")  # while backing off
        self.interval_s = 1.0


class Books:
    """What one incarnation knows, and how calls end. ``Guard`` adds how they begin."""

    def __init__(self, clock: Clock, poke: Callable[[], None]) -> None:
        self.clock = clock
        self._poke = poke  # asks for a sync at once; returns immediately
        self.tracer = Tracer(enabled=False)  # of the calls that cells pass, once they become calls of their own
        self.without_policy: WithoutPolicy = "pass"
        self.epoch = 0
        self.snapshot: Snapshot | None = None
        self.followers: list[Callable[[Snapshot], None]] = []  # told of every snapshot, outside of the lock
        self.book = PriceBook({})
        self.cells = Cells()
        self.active: set[Cell] = set()  # those that hold credit or have calls in flight
        self.deadlines = Deadlines(clock)
        self.reborn()
        clock.subscribe(self.wake_overdue)

    def reborn(self) -> None:
        """Start as a new incarnation that knows nothing but the policy: at first, and in a forked child."""
        self.lock = Lock()  # entered again by finalizers only, and they put off what they came for
        self._put_off: deque[Callable[[], object]] = deque()
        self.epoch += 1
        self.deadlines.renew()
        self.closed = False
        self.link = Link()
        self.leases = Leases()
        self.report = Report()
        self.report.priced_by(self.book.etag)
        self.releases = Releases()
        self.lanes: dict[tuple[str | None, str], Lane] = {}
        self.breakers: dict[tuple[str, str], Circuit] = {}
        self.shares: dict[tuple[str, str], dict[str, Share]] = {}
        self.waiting: set[Ticket] = set()
        self.running: set[Ticket] = set()
        self.unpriced_calls = 0
        self.outputs = Memory()
        self.early: list[tuple[Ticket, BaseException | None, Failure | None, float]] = []
        for cell in self.active:
            cell.credit = NONE
        self.cells.keep(set())
        self.active = set()

    def put_off(self, act: Callable[..., object], *args: object, **options: object) -> bool:
        """Have ``act`` wait if this thread holds the lock, and so is in the midst of the books; whether it does."""
        if not self.lock._is_owned():  # as threading.Condition asks
            return False
        self._put_off.append(partial(act, *args, **options))
        return True

    def catch_up(self) -> None:
        """Do what was put off. The caller does not hold the lock."""
        while self._put_off:
            try:
                act = self._put_off.popleft()
            except IndexError:  # another thread was faster
                return
            act()

    def gather(self) -> None:
        """Have the books say all that is known; ``Harvest`` does it. The caller holds the lock."""

    # Calls that end without having been let through

    def _refuse(self, ticket: Ticket, now: float, refusal: Refused) -> Refused:
        """Give back what was taken, count the refusal, and return it to be raised."""
        if ticket.epoch == self.epoch:
            self._release(ticket)
        if ticket.epoch == self.epoch and ticket.arrived is not None:
            row = self.row(ticket.key)
            row.count("hedge_refused" if ticket.hedge else f"refused.{refusal.reason}")
            if ticket.attempts == 0:
                row.refused += 1
                if ticket.assignment is not None:
                    self.releases.refused(ticket, now, self.arm)
        ticket.stage = "over"
        return refusal

    def _release(self, ticket: Ticket) -> None:
        self.waiting.discard(ticket)
        if ticket.path is not None:
            ticket.path.waiting.pop(ticket, None)
        if ticket.lane is not None:
            for key, amount in ticket.taken:
                ticket.lane.correct(key, estimated=amount, actual=0.0)
        circuit, leave = ticket.circuit, ticket.leave
        ticket.circuit = ticket.leave = None
        if circuit is not None and leave is not None:
            circuit.release(leave)
        self._leave_line(ticket)

    def abandon(self, ticket: Ticket) -> None:
        """The caller gave up while it waited: nothing was sent, everything taken goes back."""
        if self.put_off(self.abandon, ticket):
            return
        with self.lock:
            if ticket.epoch == self.epoch and ticket.stage in ("queued", "funding"):
                self._release(ticket)
                ticket.stage = "over"

    def _leave_line(self, ticket: Ticket) -> None:
        lane, entry = ticket.lane, ticket.entry
        if lane is None or entry is None:
            return
        lane.line.leave(entry)
        if lane.line.waiting:
            self.promote(lane)

    def promote(self, lane: Lane) -> None:
        """Wake those in line for whom there is room now."""
        policy = lane.follow(self.snapshot)
        rule = policy.queue if policy.enforcement == "enforce" else None
        slots = lane.slots(rule) if rule is not None else None
        for entry in lane.line.promote(rule, now=self.clock.now(), slots=slots):
            waiter = getattr(entry.owner, "waiter", None)
            if waiter is not None:
                waiter.wake()

    # Settling

    def settle(self, ticket: Ticket, error: BaseException | None, *, last: bool = True) -> None:
        """An attempt that was let through has ended; with ``last`` its call has, too."""
        with self.lock:
            self._settle(ticket, error, last=last)

    def _settle(self, ticket: Ticket, error: BaseException | None, *, last: bool) -> None:
        if ticket.epoch != self.epoch or ticket.stage != "running" or ticket.lane is None:
            return
        failed = isinstance(error, Exception) and not isinstance(error, Refused)
        failure = self._read(error) if failed and error is not None else None
        now = self.clock.now()
        self.running.discard(ticket)
        ticket.stage = "over"
        ticket.lane.line.took(now - ticket.since)
        if ticket.lane.adaptive is not None:
            tell_adaptive(ticket, ticket.lane, error, failure, now)
        self._leave_line(ticket)
        self._tell_breaker(ticket, now, error, failure)
        if ticket.ungoverned and self.snapshot is None and last and len(self.early) < MAX_EARLY:
            self.early.append((ticket, error, failure, now))  # what it did cost is known when there are prices
            return
        self._book(ticket, error, failure, now, last=last)

    def _book(
        self, ticket: Ticket, error: BaseException | None, failure: Failure | None, now: float, *, last: bool
    ) -> None:
        if ticket.ungoverned and self.snapshot is not None:
            self.charge(ticket, now)
        self._account(ticket, error, failure, now)
        if last:
            self._end(ticket, error, failure, now)

    def charge(self, ticket: Ticket, now: float) -> None:
        """Have a call that began before there was a policy be one of the policy's; ``Guard`` does it."""

    def book_early(self, before: float = math.inf) -> None:
        """Book the calls that ended ``before`` and had no policy; governed or not, they are counted. The caller holds the lock."""
        early, self.early = self.early, []
        for ticket, error, failure, now in early:
            if now < before:
                self._book(ticket, error, failure, now, last=True)
            else:
                self.early.append((ticket, error, failure, now))

    def end(self, ticket: Ticket, error: BaseException | None) -> None:
        """A call whose last attempt was settled before has ended."""
        failed = isinstance(error, Exception) and not isinstance(error, Refused)
        with self.lock:
            if ticket.epoch == self.epoch and ticket.started is not None:
                self._end(ticket, error, self._read(error) if failed and error is not None else None, self.clock.now())

    def _read(self, error: BaseException) -> Failure:
        return outcome.read(error, wall_s=self.clock.wall_ms() / 1000)

    def _tell_breaker(self, ticket: Ticket, now: float, error: BaseException | None, failure: Failure | None) -> None:
        tell_breaker(ticket, now, error, failure)

    def _account(self, ticket: Ticket, error: BaseException | None, failure: Failure | None, now: float) -> None:
        """Book what the attempt did cost, once in its lease and once in its window."""
        estimated = self._settle_by_progress(ticket)
        cost = min(MAX_CALL_NUSD, self.cost_of(ticket, error, failure))
        usage, lane = ticket.usage, ticket.lane
        assert lane is not None  # noqa: S101  the ticket was let through
        if ticket.slip is not None:
            self.leases.settle(ticket.slip, bound=ticket.bound, cost=cost)
        ticket.charged = cost
        ticket.total_cost += cost
        row = self.row(ticket.key)
        row.cost_nusd += cost
        if usage is None:
            if cost == 0 and ticket.estimate:
                self._correct_limits(ticket, lane, 0)
            return
        lane.learn(cost, now)
        if not estimated and ticket.path is not None and lenient(ticket.path.refs):
            self.outputs.learn(ticket.key, usage.output_tokens or 0)
        fresh, out = usage.input_tokens or 0, usage.output_tokens or 0
        row.input_tokens += fresh
        row.cached_input_tokens += usage.cached_input_tokens
        row.output_tokens += out
        if ticket.beyond:
            row.use(ticket.beyond)
        ticket.total_input += fresh
        ticket.total_cached += usage.cached_input_tokens
        ticket.total_output += out
        if usage.input_tokens is not None or usage.output_tokens is not None:
            self._correct_limits(ticket, lane, fresh + out)

    def _settle_by_progress(self, ticket: Ticket) -> bool:
        """Take what a call said while it ran for its usage when it did not say more; whether it was so."""
        if (
            ticket.usage is not None
            or not ticket.seen
            or ticket.input_tokens is None
            or ticket.declared_nusd is not None
        ):
            return False
        ticket.usage = Usage(ticket.input_tokens, ticket.seen, 0, None, None)
        self.row(ticket.key).count("estimated")
        return True

    def ask(self) -> None:
        """Have the control plane asked for what is short, at once. The caller holds the lock."""
        self._poke()

    def _correct_limits(self, ticket: Ticket, lane: Lane, tokens: int) -> None:
        for key, amount in ticket.taken:
            if key[1] == "tokens":
                lane.correct(key, estimated=amount, actual=float(tokens))

    def cost_of(self, ticket: Ticket, error: BaseException | None, failure: Failure | None) -> int:
        """Return the cost in nano-USD; what nobody recorded is presumed to have cost all it may."""
        usage = ticket.usage
        if usage is None:
            if isinstance(error, Refused) or (failure is not None and not failure.billed):
                return 0
            if not ticket.estimate and error is None:
                self.unpriced_calls += 1
            return ticket.estimate
        if usage.cost_nusd is not None:
            return usage.cost_nusd
        fresh, out = usage.input_tokens or 0, usage.output_tokens or 0
        cost = self.book.cost_nusd(
            usage.model or ticket.model,
            input_tokens=fresh,
            output_tokens=out,
            cached_input_tokens=usage.cached_input_tokens,
        )
        if cost is None:
            return self.unpriced(
                ticket, usage.model or ticket.model, plain_classes(fresh, usage.cached_input_tokens, out)
            )
        return cost

    def price(
        self, ticket: Ticket, usage: Mapping[str, int], model: str, provider: str | None, context: Context
    ) -> int:
        """Return what disjoint ``usage`` costs by the book, or what a model without a price is charged."""
        with self.lock:
            cost = self.book.usage_cost_nusd(model, usage, provider=provider, context=context)
            return self.unpriced(ticket, model, usage) if cost is None else cost

    def unpriced(self, ticket: Ticket, model: str, usage: Mapping[str, int]) -> int:
        """Return what a call of a model without a price is charged: what it declared, else what the book says of unknown models."""
        if ticket.declared_nusd is not None:
            return ticket.declared_nusd
        self.unpriced_calls += 1
        self.row(ticket.key).count("unpriced")
        return self.book.unknown.cost_nusd(model, usage)

    def _end(self, ticket: Ticket, error: BaseException | None, failure: Failure | None, now: float) -> None:
        row = self.row(ticket.key)
        row.calls += 1
        row.retries += max(0, ticket.attempts - 1)
        if isinstance(error, Exception):
            row.errors += 1
            row.count(f"error.{failure.kind if failure is not None else 'other'}")
        elif error is not None:
            row.count("cancelled")
        if ticket.started is not None:
            row.latency_us.add(max(0, int((now - ticket.started) * 1_000_000)))
        tokens = ticket.total_input + ticket.total_output
        row.tokens.add(tokens)
        if ticket.watched:
            row.count("shadow.calls")
            row.count("shadow.cost_nusd", ticket.total_cost)
        row.call_cost_nusd.add(ticket.total_cost)
        if ticket.user:
            spent_now = Spent(1, tokens, ticket.total_cost)
            self.report.window(self.clock.wall_ms()).add_user(ticket.key.tenant, ticket.user, spent_now)
        if ticket.assignment is not None:
            self.releases.ended(ticket, error, now, self.arm)

    def arm(self, key: ArmKey) -> ArmRow:
        """Return the row of an arm in the window that is open now."""
        return self.report.window(self.clock.wall_ms()).arm(key)

    def row(self, key: RowKey) -> Row:
        """Return the row of the window that is open now."""
        return self.report.window(self.clock.wall_ms()).row(key)

    def lane(self, tenant: str | None, route: str) -> Lane:
        """Return the lane of a tenant's route, made when somebody first calls there. The caller holds the lock."""
        lane = self.lanes.get((tenant, route))
        if lane is None:
            if len(self.lanes) >= MAX_LANES:
                self._forget_idle_lanes()
            lane = self.lanes[tenant, route] = Lane(tenant, route)
            shares = self.shares.get((tenant or "", route), {})
            lane.share_out(shares, now=self.clock.now(), boot=self.clock.boot())
        return lane

    def _forget_idle_lanes(self) -> None:
        since = self.clock.now() - LANE_IDLE_S
        busy = {k: v for k, v in self.lanes.items() if v.used_at >= since or v.line.running or v.line.waiting}
        self.lanes = busy
        self.cells.keep(self.active)

    # Changes from outside

    def follow(self, snapshot: Snapshot, book: PriceBook) -> None:
        """Govern by ``snapshot`` from now on; those who wait are judged anew."""
        with self.lock:
            self.gather()
            self.snapshot, self.book = snapshot, book
            book.turn(self.clock.wall_ms() // 1000 % DAY_S)
            self.report.priced_by(book.etag)
            self.book_early()
            for lane in self.lanes.values():
                if lane.line.waiting:
                    self.promote(lane)
            self._wake(list(self.waiting))
        for told in list(self.followers):
            try:
                told(snapshot)
            except Exception:  # noqa: BLE001  (their fault stays theirs)
                _log.exception("tidegate: somebody who was told of a new policy failed")

    def wake_overdue(self) -> None:
        """Wake those whose waiting is over, after the clock was moved by hand."""
        now = self.clock.now()
        with self.lock:
            self._wake([ticket for ticket in self.waiting if ticket.wait_until <= now])

    def _wake(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            if ticket.waiter is not None:
                ticket.waiter.wake()

    def wake_unfunded(self) -> None:
        """Have the calls that wait for funding look again. The caller holds the lock."""
        self._wake([ticket for ticket in self.waiting if ticket.stage == "funding"])

    def stop(self) -> None:
        """Let no more calls through; those that wait are refused."""
        self.catch_up()
        with self.lock:
            self.closed = True
            self.gather()
            self._wake(list(self.waiting))

    def presume(self) -> None:
        """Settle calls still in flight as if nobody will ever know: the gate closes without them."""
        self.catch_up()
        with self.lock:
            self.gather()
            for ticket in list(self.running):
                self._settle(ticket, SystemExit(), last=True)
            self.book_early()
        self.deadlines.close()

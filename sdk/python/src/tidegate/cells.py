"""What many calls of one kind share, so that most of them pass without a lock: a cell, with calls paid for in advance.

The slow path pays for some calls at once, under the guard's lock: it takes their requests from the limits, holds their cost on the
lease, counts them as running in the line, and asks the breaker. It writes their number into ``credit``. The fast path takes one off
and looks whether there was one; when it ends, it appends to the ``times`` or ``calls`` of the loan that it began on. Whatever has to
stop calls (a breaker that opens, a new policy, a budget or limit that has no room for somebody else, closing) takes the credit away
and gives what was not used back, and the exact code of ``Guard`` goes on with exact books. So no bound is ever passed: what is lent
was taken before.

Nobody knows when a call in flight has begun, but its loan tells: those that have not ended of a loan that was over long ago hang.

Why that is safe without a lock: CPython with a GIL changes threads only where a function begins, after a call, and on a jump
backwards. A line that loads, computes and stores, without a call in between, is one step for all other threads. Every place that
depends on it is marked ATOMIC; the stress tests run with a switch interval of a microsecond. Other interpreters, and builds
without a GIL, lend nothing (``LENDS``): there every call takes the lock.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from tidegate.core.breaker import Breaker
from tidegate.core.price import PriceBook
from tidegate.core.usage import plain_classes
from tidegate.errors import Refused
from tidegate.reserving import lenient
from tidegate.ticket import Ticket

if TYPE_CHECKING:
    from tidegate.guard import Guard
    from tidegate.leasing import Path
    from tidegate.swift import SwiftCall

MAX_CALL_NUSD = 10**14  # $100,000: more is a mistake, and sums must stay within what JSON carries exactly
LENDS = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()
LOAN_PART = 1 / 16  # of the time after which a call hangs: how well it is known since when it does
MANY_TIMES, MANY_CALLS = 8192, 512  # that ended on a loan and are counted at once, while they are in the caches
NONE = -math.inf  # no credit; taking some off leaves it as it is

# The route, and what else the caller said: the tenant alone, or a tuple in an order that ``Caller.call`` knows.
CellKey = tuple[str, Any]
Told = tuple[str, str, int | None, int | None]  # user, session, input tokens, most output tokens
Used = tuple[int, int | None, int, int | None, str | None]  # as ticket.Usage, of which it may be one
NOTHING_TOLD: Told = ("", "", None, None)
OVER = -1.0  # how a call that ended says how long it took: less that much


class Freed(Protocol):
    """What calls are refused for the lack of; ``freed`` changes whenever there may be more of it."""

    freed: int


class Lasting(NamedTuple):
    """How long the answer to a call stays the same: until then, or until ``source`` has more to give."""

    until: float
    source: Freed | None = None
    breaker: Breaker | None = None  # that counts whom it refuses
    path: Path | None = None  # that asks for what it was short of
    amount: float = 0.0  # of a limit, the last of those that were asked


class Refusal:
    """Why calls of a cell are refused, as long as nothing changes: who is refused again and again need not ask each time."""

    __slots__ = (
        "after",
        "blocked_by",
        "bound",
        "calm_s",
        "demand",
        "error",
        "freed",
        "kind",
        "lasting",
        "make",
        "source",
        "text",
        "until",
    )

    def __init__(self, error: Refused, now: float, lasting: Lasting, *, bound: int, demand: dict[str, float]) -> None:
        self.error = error
        self.kind, self.text, self.blocked_by = error.__class__, str(error), error.blocked_by
        self.make = self.kind.__new__  # makes another one without the checks of an __init__
        self.after = None if error.retry_after_s is None else now + error.retry_after_s
        self.lasting = lasting
        self.until, self.source = lasting.until, lasting.source
        self.freed = 0 if self.source is None else self.source.freed
        self.bound = bound
        self.demand = demand  # of the fleet's limits, per call

    def again(self, now: float) -> Refused | None:
        """Return the error for one more call, ``None`` when it has to ask."""
        source = self.source
        if now >= self.until or (source is not None and source.freed != self.freed):
            return None
        made, after = self.make(self.kind, self.text), self.after
        made.blocked_by = self.blocked_by
        made.retry_after_s = None if after is None else after - now if after > now else 0.0
        return made


class Loan:
    """Calls that began on credit while it lasted."""

    __slots__ = ("begun", "calls", "ended", "since", "times", "until")

    def __init__(self, since: float) -> None:
        self.since = since
        self.until = math.inf  # none began later
        self.begun = 0  # calls, and those that may begin still
        self.ended = 0  # calls that ended and were counted, or went on as calls of their own
        self.times: list[float] = []  # seconds that calls took of which nothing was said
        self.calls: list[SwiftCall] = []  # those with something to say

    @property
    def in_flight(self) -> int:
        """Calls that have not ended. Right while there is no credit."""
        return self.begun - self.ended - len(self.times) - len(self.calls)

    @property
    def much(self) -> bool:
        """Whether it is time to count the calls that ended."""
        return len(self.times) >= MANY_TIMES or len(self.calls) >= MANY_CALLS


class Cells:
    """The cells of a guard. Who reads ``of`` needs no lock; it is ``of[route][…]``, by the two halves of a ``CellKey``, and
    the same dictionary for good."""

    __slots__ = ("count", "of")

    def __init__(self) -> None:
        self.count = 0
        self.of: dict[str, dict[Any, Cell]] = {}

    def get(self, key: CellKey) -> Cell | None:
        route, said = key
        cells = self.of.get(route)
        return None if cells is None else cells.get(said)

    def add(self, key: CellKey, cell: Cell) -> None:
        """Have calls of ``key`` find ``cell`` from now on."""
        route, said = key
        cells = self.of.setdefault(route, {})
        self.count += said not in cells
        cells[said] = cell

    def keep(self, kept: set[Cell]) -> None:
        """Forget all but these."""
        for route, cells in list(self.of.items()):
            self.of[route] = {said: cell for said, cell in cells.items() if cell in kept}
            if not self.of[route]:
                del self.of[route]
        self.count = sum(map(len, self.of.values()))


def _flat_price(book: PriceBook, model: str | None) -> tuple[int, int, int, int]:
    """Return the unit of a price, what is added, and the prices of a token in and out; a unit of 0: it takes the book to tell."""
    priced = book.priced(model) if model else None
    if priced is None or priced.tiers or priced.hourly:
        return 0, 0, 0, 0
    unit, plus, per_input, _, per_output, _ = priced.flat
    return unit, plus, per_input, per_output


def _slow_s(ticket: Ticket) -> float:
    """Return after how many seconds the breaker takes such a call for slow; ``inf`` where none does."""
    breaker = ticket.policy.breaker if ticket.circuit is not None else None
    slow_ms = breaker.slow_call_ms if breaker is not None else None
    return math.inf if slow_ms is None else slow_ms / 1000


class Cell:
    """What calls have in common, what the fast path works with, and what belongs to who holds the guard's lock, in this order."""

    __slots__ = (
        "adopted",
        "allowance",
        "assignment",
        "book",
        "bound",
        "calm_s",
        "cell_key",
        "chunk",
        "circuit",
        "credential",
        "credit",
        "declared_nusd",
        "drawn_at",
        "epoch",
        "estimate",
        "fixed",
        "freed",
        "funds",
        "given",
        "guard",
        "harvested",
        "key",
        "lane",
        "learned",
        "learns",
        "leave",
        "lenient",
        "lent",
        "lent_tokens",
        "limits_tokens",
        "loan",
        "loans",
        "now",
        "owed",
        "path",
        "patience",
        "people",
        "per_input",
        "per_output",
        "plus",
        "policy",
        "refusal",
        "reserve",
        "slip",
        "slow_s",
        "taken",
        "target",
        "tenant",
        "timeout_s",
        "turned_away",
        "typical",
        "unit",
        "until",
        "used",
        "weighs",
    )  # fmt: skip

    def __init__(self, ticket: Ticket, guard: Guard, book: PriceBook, now: Callable[[], float]) -> None:
        """Make a cell for calls like ``ticket``, which was just let through."""
        assert ticket.lane is not None  # noqa: S101  it was let through
        self.guard = guard
        self.epoch = ticket.epoch
        self.key = ticket.key
        self.target, self.credential, self.tenant = ticket.target, ticket.credential, ticket.tenant
        self.lane = ticket.lane
        self.policy = ticket.policy
        self.circuit = ticket.circuit
        self.leave = ticket.leave
        self.path = ticket.path
        self.slip = ticket.slip
        self.book = book
        self.now = now
        self.cell_key, self.fixed = ticket.cell_key, ticket.fixed
        self.assignment = ticket.assignment
        self.declared_nusd = ticket.declared_nusd
        self.bound, self.estimate = ticket.bound, ticket.estimate
        self.taken = tuple(ticket.taken)
        self.limits_tokens = any(limit.unit == "tokens" for limit in ticket.policy.limits)
        self.weighs = not ticket.fixed and (self.limits_tokens or ticket.path is not None)
        # What calls hold depends on what others did cost.
        self.learns = ticket.path is not None and ticket.declared_nusd is None
        self.unit, self.plus, self.per_input, self.per_output = _flat_price(book, ticket.model)
        self.lenient = ticket.path is not None and lenient(ticket.path.refs)
        self.typical: int | None = None  # output tokens that such calls used to need, where that is what they hold
        timeout_ms = ticket.policy.timeout_ms
        self.timeout_s = None if timeout_ms is None else timeout_ms / 1000
        self.slow_s = _slow_s(ticket)
        self.calm_s = min(self.slow_s, guard.tracer.slow_s)  # the patience while nobody waits

        self.credit = NONE
        self.funds = 0  # nano-USD that calls which weigh may still hold
        self.allowance = 0.0  # tokens that they may still take
        self.learned = 0
        self.until = -math.inf  # of ``now``; the credit is worth nothing after it
        self.people = False  # calls name users or sessions
        self.patience = self.calm_s  # calls that took longer say so at once; all do while somebody waits for one to end
        self.loan = Loan(-math.inf)  # on which calls begin
        self.loans: list[Loan] = []  # older ones, with calls in flight

        self.lent = 0  # calls paid for since the last recall
        self.lent_tokens = 0.0
        self.reserve = 0  # of these, calls that found no room in the line yet
        self.given = 0  # calls that credit was given for and not taken back, ever
        self.harvested = 0  # calls that ended and were counted, ever
        self.adopted = 0  # calls that went on as calls of their own, ever
        self.freed = 0  # calls whose place in the line was given up, ever
        self.owed = 0  # nano-USD held for calls in flight and for those not made yet
        self.refusal: Refusal | None = None
        self.turned_away = 0  # calls that it refused
        self.chunk = 0
        self.used = 0  # calls made of what was lent last
        self.drawn_at = -math.inf

    def fits(self, ticket: Ticket, book: PriceBook) -> bool:
        """Return whether a call like ``ticket`` may share the cell: nothing of the first group would be different."""
        return (
            self.epoch == ticket.epoch
            and self.policy is ticket.policy
            and self.lane is ticket.lane
            and self.slip is ticket.slip
            and self.circuit is ticket.circuit
            and self.assignment is ticket.assignment
            and (self.leave and self.leave.generations) == (ticket.leave and ticket.leave.generations)
            and self.book is book
            and (self.weighs or (self.bound == ticket.bound and self.estimate == ticket.estimate))
        )

    @property
    def ended(self) -> int:
        """Calls that ended, ever."""
        loan = self.loan
        older = sum([len(each.times) + len(each.calls) for each in self.loans]) if self.loans else 0
        return self.harvested + len(loan.times) + len(loan.calls) + older

    def turn(self, now: float) -> None:
        """Begin a new loan, where it matters since when calls are in flight and those of the last began long ago."""
        loan = self.loan
        if loan.begun == loan.ended:
            loan.since = now
        elif now - loan.since > self.slow_s * LOAN_PART:
            self.loans = [each for each in (*self.loans, loan) if each.begun > each.ended]
            self.loan = Loan(now)

    def hung(self, now: float) -> int:
        """Return how many calls are in flight for longer than the breaker likes."""
        loans = (*self.loans, self.loan)
        return sum([each.in_flight for each in loans if now - min(each.until, self.until) > self.slow_s])

    def good_until(self, now: float) -> float:
        """Return how long a loan may last that begins now: it must tell since when its calls run, and is over when others hang."""
        ends = [each.until + self.slow_s for each in self.loans if each.in_flight]
        return min([now + self.slow_s * LOAN_PART, *(at for at in ends if at >= now)])

    @property
    def in_flight(self) -> int:
        """Calls that were let through and have not been counted. Right while there is no credit."""
        return self.given - self.harvested - self.adopted

    def weigh(self, input_tokens: int | None, max_output_tokens: int | None) -> int:
        """Return what a call may cost at most, in nano-USD, as ``Guard.estimate`` does."""
        known = None
        typical = self.typical
        if typical is not None and (max_output_tokens is None or typical < max_output_tokens):
            max_output_tokens = typical
        if input_tokens is not None and self.key.model:
            known, _ = self.priced(self.key.model, input_tokens, 0, max_output_tokens or 0)
        if known is None or max_output_tokens is None:
            return max(self.learned, known or 0)
        return known

    def teaches(self, used: Used | None) -> bool:
        """Whether a call did cost more than any lately, so that the next one must hold more."""
        if used is None:
            return False
        cost = used[3]
        return (self.cost_of(used)[0] if cost is None else cost) > self.learned

    def presumed(self, told: Told | None) -> int:
        """Return what a call of a cell that does not weigh did cost when nobody recorded it."""
        return self.estimate if self.fixed or told is None else self.weigh(told[2], told[3])

    def cost_of(self, used: Used) -> tuple[int, bool]:
        """Return what was used in nano-USD, and whether it has a price."""
        fresh, out, cached, cost, model = used
        if cost is not None:
            return min(cost, MAX_CALL_NUSD), True
        if self.unit == 0 or cached or model is not None:
            return self.priced(model or self.key.model, fresh, cached, out or 0)
        cost = (fresh * self.per_input + (out or 0) * self.per_output + self.plus) // self.unit
        return min(cost, MAX_CALL_NUSD), True

    def priced(self, model: str, fresh: int, cached: int, out: int) -> tuple[int, bool]:
        """Return what tokens cost by the book, or what it charges for a model without a price."""
        cost = self.book.cost_nusd(model, input_tokens=fresh, output_tokens=out, cached_input_tokens=cached)
        if cost is not None:
            return min(cost, MAX_CALL_NUSD), True
        return min(self.book.unknown.cost_nusd(model, plain_classes(fresh, cached, out)), MAX_CALL_NUSD), False

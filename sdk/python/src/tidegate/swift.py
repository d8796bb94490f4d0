"""A call that passes on the credit of its cell, without a lock; ``tidegate.caller`` makes them.

It is a ``Call`` like any other. As soon as somebody wants more of it than a cell can give (it failed, its traceparent is sent along,
it is tried again) it goes on as a call of its own, which the guard knows as all others.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tidegate.call import CALL_SLOTS, Call, OwnCall
from tidegate.cells import NOTHING_TOLD, OVER
from tidegate.core.queue import Entry
from tidegate.describing import MAX_TOKENS, CallOptions, Usd
from tidegate.errors import Refused
from tidegate.tally import charged
from tidegate.telling import explained
from tidegate.ticket import Usage
from tidegate.waiting import DONE

if TYPE_CHECKING:
    from tidegate.cells import Cell, Loan, Told, Used
    from tidegate.deadlines import Flight

NEW = 0.0  # ``begun`` of a swift call that has not begun; once it is over it is OVER, less what it took
_OF_CELL = frozenset({"assignment", "credential", "declared_nusd", "key", "lane", "policy", "target", "tenant"})
_OF_KEY = frozenset({"category", "model", "route"})
_NOTHING = frozenset({"beyond", "score", "usage"})
_TOLD = {"user": 0, "session": 1, "input_tokens": 2, "max_output_tokens": 3}


class SwiftCall(Call):
    """``cell`` is ``None`` once it has gone on as a call of its own, which is ``mine``: few calls ever need one."""

    if not TYPE_CHECKING:
        __slots__ = ("begun", "cell", "flight", "loan", "mine", "presumes", "told", "used")

    begun: float
    cell: Cell | None
    flight: Flight | None
    loan: Loan
    mine: OwnCall
    presumes: (
        int  # what it may cost at most, where calls of its cell weigh; it holds so much, and something in any case
    )
    told: Told | None
    used: Used | None

    if TYPE_CHECKING:

        def __init__(self) -> None:
            """Do nothing: who makes a call sets cell, begun, told and used."""
    else:
        __init__ = object.__init__

    def __enter__(self) -> Self:
        cell = self.cell
        if cell is not None and self.begun == NEW:
            now = cell.now
            begun = now()
            if begun < cell.until:
                if cell.weighs:
                    if self._pay(cell):
                        self.begun = begun
                        return self
                else:
                    credit = cell.credit = cell.credit - 1.0  # ATOMIC from here
                    if credit >= 0.0:
                        self.loan = cell.loan  # to here
                        self.begun = begun
                        return self
            if cell.refusal is not None:
                refused = self._refused(cell, begun)
                if refused is not None:
                    raise refused  # from here: each frame that it passes costs as much as all the rest
        if not self._taken():
            self.mine.admit()
            self.become_current()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        cell = self.cell
        if error is not None or cell is None:
            self.leave_current()
            self.settle(error, last=True)
            return
        now = cell.now
        took = now() - self.begun
        if self.told is None:
            self.begun = OVER
            self.loan.times.append(took)
        else:
            self.begun = OVER - took
            self.loan.calls.append(self)
            if cell.learns and cell.teaches(self.used):
                cell.guard.attend(cell)
        if took > cell.patience:
            outlasted(cell, took, self.told, self.used if self.told is not None else None)

    async def __aenter__(self) -> Self:
        cell = self.cell
        self.flight = None
        if cell is not None and self.begun == NEW and not cell.weighs:
            now = cell.now
            begun = now()
            if begun < cell.until:
                credit = cell.credit = cell.credit - 1.0  # ATOMIC from here
                if credit >= 0.0:
                    self.loan = cell.loan  # to here
                    self.begun = begun
                    if cell.timeout_s is not None:
                        self.flight = cell.guard.deadlines.watch(begun + cell.timeout_s)
                    return self
        if cell is None or not self._taken():
            await self.mine.admit_async()
            await self.mine.start_clock()
            self.become_current()
        elif cell.timeout_s is not None:
            self.flight = cell.guard.deadlines.watch(self.begun + cell.timeout_s)
        return self

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Awaitable[None]:
        cell, flight = self.cell, self.flight
        if error is not None or cell is None:
            return self._left(error)
        if flight is not None:
            self.flight = None
            if flight.late:
                cell.guard.deadlines.ended(flight, None)
            else:
                flight.task = None
                flight.under, flight.pile.top = flight.pile.top, flight  # ATOMIC
        now = cell.now
        took = now() - self.begun
        if self.told is not None or took > cell.patience:
            self.__exit__(None, None, None)
        else:
            self.begun = OVER
            self.loan.times.append(took)
        return DONE

    async def _left(self, error: BaseException | None) -> None:
        flight, self.flight = self.flight, None
        late = None if flight is None else self._guard.deadlines.ended(flight, error)
        if late is not None:
            self.leave_current()
            self.settle(late, last=True)
            raise explained(late, self.route, self.policy)
        await super()._left(error)

    def _take(self, cell: Cell) -> bool:
        """Begin, if the cell has credit; whether it had."""
        begun = cell.now()
        if begun >= cell.until:
            return False
        if cell.weighs:
            if not self._pay(cell):
                return False
        else:
            credit = cell.credit = cell.credit - 1.0  # ATOMIC from here
            if credit < 0.0:
                return False
            self.loan = cell.loan  # to here
        self.begun = begun
        return True

    def _pay(self, cell: Cell) -> bool:
        """Take what the call may cost, and its tokens, off what was lent to the cell; whether there was enough."""
        _, _, asked, most = self.told or NOTHING_TOLD
        if asked is None or most is None or cell.unit == 0 or cell.typical is not None:
            estimate = cell.weigh(asked, most)
        else:
            estimate = (asked * cell.per_input + most * cell.per_output + cell.plus) // cell.unit
        self.presumes = estimate
        bound = estimate or 1
        tokens = (asked or 0) + (most or 0) if cell.limits_tokens else 0
        funds = cell.funds  # ATOMIC from here
        if cell.credit >= 1.0 and bound <= funds and tokens <= cell.allowance:
            cell.credit -= 1.0
            self.loan = cell.loan
            cell.funds = funds - bound
            cell.allowance -= tokens
            return True  # to here
        return False

    # As the general code has it

    def own(self) -> OwnCall:
        if self.cell is not None:
            self._own(self.cell)
        return self.mine

    def admit(self) -> None:
        if not self._taken():
            self.mine.admit()

    async def admit_async(self) -> None:
        if not self._taken():
            await self.mine.admit_async()

    def _taken(self) -> bool:
        """Begin on credit, or become a call of its own that has not begun."""
        cell = self.cell
        if cell is None:
            return False
        if self.begun != NEW:
            self._own(cell)
            return False
        refused = self._refused(cell, cell.now())
        if refused is not None:
            raise refused
        if self._take(cell) or (cell.guard.top_up(cell) and self._take(cell)):
            return True
        self._own(cell)
        return False

    def _refused(self, cell: Cell, now: float) -> Refused | None:
        """Count and return the refusal of calls like this one, while they are refused without being asked."""
        refusal = cell.refusal
        if refusal is None or (self.told is not None and self.told[1]):
            return None
        refused = refusal.again(now)
        if refused is not None:
            cell.turned_away += 1  # ATOMIC
        return refused

    def settle(self, error: BaseException | None, *, last: bool) -> None:
        if error is None and last and self.cell is not None and self.begun > NEW:
            self.__exit__(None, None, None)
        elif not self._guard.put_off(self.settle, error, last=last):
            self.own().settle(error, last=last)

    def renew(self) -> None:
        self.own().renew()

    def end(self, error: BaseException | None = None) -> None:
        if not self._guard.put_off(self.end, error):
            self.own().end(error)

    def become_current(self) -> None:
        if self.cell is None:
            super().become_current()

    def leave_current(self) -> None:
        if self.cell is None:
            super().leave_current()

    def record(  # positional for CPython's sake, as Caller.call
        self,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cached_input_tokens: int = 0,
        cost_usd: Usd | None = None,
        model: str | None = None,
    ) -> None:
        cell = self.cell
        if (
            cost_usd is None and model is None and not cached_input_tokens
            and type(input_tokens) is int and type(output_tokens) is int
            and 0 <= input_tokens <= MAX_TOKENS and 0 <= output_tokens <= MAX_TOKENS
            and cell is not None and cell.unit and self.begun > NEW
        ):  # fmt: skip
            cost = (input_tokens * cell.per_input + output_tokens * cell.per_output + cell.plus) // cell.unit
            self.used = (input_tokens, output_tokens, 0, cost, None)
            if self.told is None:
                self.told = NOTHING_TOLD
            return
        super().record(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cached_input_tokens=cached_input_tokens,
            cost_usd=cost_usd,
            model=model,
        )

    def use(self, usage: Usage, beyond: dict[str, int] | None) -> None:
        if self.cell is None or self.begun <= NEW or beyond:
            if not self._guard.put_off(self.use, usage, beyond):
                self.own().use(usage, beyond)
        else:
            self.used = usage
            if self.told is None:
                self.told = NOTHING_TOLD

    def progress(self, *, output_tokens: int | None = None) -> None:
        cell = self.cell
        if cell is None or output_tokens is not None or cell.assignment is not None:
            self.own().progress(output_tokens=output_tokens)  # where queues adapt, nothing is lent

    # Becoming a call of its own

    def _own(self, cell: Cell) -> None:
        """Go on as a call of its own, at the stage that it has reached."""
        begun, told = self.begun, self.told or NOTHING_TOLD
        used = self.used if self.told is not None else None
        mine = _call_like(cell, told)
        mine.declared_nusd = cell.declared_nusd
        mine.cell_key, mine.fixed = cell.cell_key, cell.fixed
        mine.epoch, mine.key = cell.epoch, cell.key
        if begun <= OVER:
            mine.stage, mine.attempts = "over", 1
            mine.lane, mine.policy, mine.path, mine.slip = cell.lane, cell.policy, cell.path, cell.slip
            mine.charged = mine.total_cost = charged(cell, self)
            mine.usage = None if used is None else Usage(*used)
            cell.guard.attend(cell)  # so that it is counted before it is amended
        elif begun > NEW:
            mine.bound, mine.estimate = self.bound, self.estimate
            _go_on(mine, cell, begun)
            mine.usage = None if used is None else Usage(*used)
            cell.guard.adopt(mine, cell, self.loan)
        self.mine = mine
        self.cell = None


def _call_like(cell: Cell, told: Told) -> OwnCall:
    options: CallOptions = {
        "tenant": cell.tenant, "category": cell.key.category, "model": cell.key.model, "target": cell.target,
        "credential": cell.credential, "user": told[0], "session": told[1], "input_tokens": told[2], "max_output_tokens": told[3],
    }  # fmt: skip
    return OwnCall(cell.guard, cell.guard.tracer, cell.key.route, options)


def outlasted(cell: Cell, took: float, told: Told | None = None, used: Used | None = None) -> None:
    """A call on credit that went well took longer than the patience: let others on, and give it a span if it was slow."""
    cell.guard.attend(cell)
    if took < cell.guard.tracer.slow_s:
        return
    call = _call_like(cell, told or NOTHING_TOLD)
    call.key, call.assignment, call.attempts = cell.key, cell.assignment, 1
    call.total_cost = cell.estimate
    if used is not None:
        call.total_input, call.total_output = used[0], used[1] or 0
        call.total_cost, _ = cell.cost_of(used)
    call.begun_before(took)
    call.trace_end(None)


def _go_on(call: OwnCall, cell: Cell, since: float) -> None:
    """Have ``call`` look as if the guard had let it through at ``since``."""
    call.stage = "running"
    call.attempts = 1
    call.arrived = call.started = call.since = since
    call.lane, call.policy, call.assignment = cell.lane, cell.policy, cell.assignment
    call.circuit, call.leave, call.path, call.slip = cell.circuit, cell.leave, cell.path, cell.slip
    tokens = float((call.input_tokens or 0) + (call.max_output_tokens or 0))
    call.taken = [(key, tokens if key[1] == "tokens" and not cell.fixed else amount) for key, amount in cell.taken]
    call.entry = Entry(call, since, "running")
    if cell.timeout_s is not None:
        call.deadline = since + cell.timeout_s
    call._begun_ns = call._waited_ns = time.time_ns() - int((cell.now() - since) * 1e9)


class _Rest:
    """What a swift call has no slot for: as its cell and what it was told have it, or as it is of the call that it has become."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, call: SwiftCall, owner: type[SwiftCall]) -> Any:
        cell, name = call.cell, self.name
        if cell is None:
            return getattr(call.mine, name)
        if name in _OF_CELL:
            return getattr(cell, name)
        if name in _OF_KEY:
            return getattr(cell.key, name)
        if name in _TOLD:
            return (call.told or NOTHING_TOLD)[_TOLD[name]]
        if name in _NOTHING:
            return None
        if name == "_guard":
            return cell.guard
        if name in _OF_FLIGHT and call.begun > NEW:
            return _OF_FLIGHT[name](call, cell)
        return getattr(call.own(), name)

    def __set__(self, call: SwiftCall, value: Any) -> None:
        setattr(call.own(), self.name, value)


_OF_FLIGHT: dict[str, Callable[[SwiftCall, Cell], Any]] = {
    "since": lambda call, _: call.begun,
    "deadline": lambda call, cell: None if cell.timeout_s is None else call.begun + cell.timeout_s,
    "bound": lambda call, cell: (call.presumes or 1) if cell.weighs else cell.bound,
    "estimate": lambda call, cell: call.presumes if cell.weighs else cell.presumed(call.told),
}
for _name in CALL_SLOTS:
    setattr(SwiftCall, _name, _Rest(_name))

"""A call that passes on the credit of its cell, without a lock; ``tidegate.caller`` makes them.

It is a ``Call`` like any other. As soon as somebody wants more of it than a cell can give (it failed, its traceparent is sent along,
it is tried again) it turns into a call of its own, and the guard goes on with it as with all others.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tidegate.call import CALL_SLOTS, Call
from tidegate.core.queue import Entry
from tidegate.describing import MAX_TOKENS, CallOptions, Usd
from tidegate.telling import explained
from tidegate.ticket import Usage

if TYPE_CHECKING:
    from tidegate.cells import Cell, Loan, Told, Used
    from tidegate.deadlines import Flight

_SLOTS = ("bound", "cell", "estimate", "flight", "loan", "rest", "since", "told", "used")
NEW, OVER = 0.0, -1.0  # ``since`` of a swift call that has not begun, and of one that took no time; less what it took
_OF_CELL = frozenset({"assignment", "credential", "declared_nusd", "key", "lane", "policy", "target", "tenant"})
_OF_KEY = frozenset({"category", "model", "route"})
NOTHING_TOLD: Told = ("", "", None, None)
_NOTHING = frozenset({"beyond", "score", "usage"})
_TOLD = {"user": 0, "session": 1, "input_tokens": 2, "max_output_tokens": 3}


class SwiftCall(Call):
    """``cell`` is ``None`` once it is a call of its own, whose state is in ``rest``: few calls ever need one."""

    if not TYPE_CHECKING:
        __slots__ = _SLOTS

    cell: Cell | None
    flight: Flight | None
    loan: Loan
    rest: dict[str, Any]
    told: Told | None
    used: Used | None

    if TYPE_CHECKING:

        def __init__(self) -> None:
            """Do nothing: who makes a call sets cell, since, told and used."""
    else:
        __init__ = object.__init__

    def __enter__(self) -> Self:
        cell = self.cell
        if cell is not None and self.since == NEW:
            now = cell.now
            since = now()
            if since < cell.until:
                if cell.weighs:
                    if self._pay(cell):
                        self.since = since
                        return self
                else:
                    credit = cell.credit = cell.credit - 1.0  # ATOMIC from here
                    if credit >= 0.0:
                        self.loan = cell.loan  # to here
                        self.since = since
                        return self
        if not self._taken():
            super().admit()
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
        took = now() - self.since
        if self.told is None:
            self.since = OVER
            self.loan.times.append(took)
        else:
            self.since = OVER - took
            self.loan.calls.append(self)
            if cell.learns and cell.teaches(self.used):
                cell.guard.attend(cell)
        if took > cell.patience:
            cell.guard.attend(cell)

    async def __aenter__(self) -> Self:
        cell, self.flight = self.cell, None
        if cell is not None and self.since == NEW and self._take(cell):
            if cell.timeout_s is not None:
                self.flight = cell.guard.deadlines.watch(self.since + cell.timeout_s)
            return self
        return await super().__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        late = None if self.flight is None else self._guard.deadlines.ended(self.flight, error)
        if late is not None:
            self.leave_current()
            self.settle(late, last=True)
            raise explained(late, self.route, self.policy)
        if error is None and self.cell is not None:
            self.__exit__(None, None, None)
        else:
            await super().__aexit__(kind, error, trace)

    def _take(self, cell: Cell) -> bool:
        """Begin, if the cell has credit; whether it had."""
        since = cell.now()
        if since >= cell.until:
            return False
        if cell.weighs:
            if not self._pay(cell):
                return False
        else:
            credit = cell.credit = cell.credit - 1.0  # ATOMIC from here
            if credit < 0.0:
                return False
            self.loan = cell.loan  # to here
        self.since = since
        return True

    def _pay(self, cell: Cell) -> bool:
        """Take what the call may cost, and its tokens, off what was lent to the cell; whether there was enough."""
        _, _, asked, most = self.told or NOTHING_TOLD
        if asked is None or most is None or cell.unit == 0 or cell.typical is not None:
            estimate = cell.weigh(asked, most)
        else:
            estimate = (asked * cell.per_input + most * cell.per_output + cell.plus) // cell.unit
        self.estimate = estimate
        self.bound = bound = estimate or 1
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

    def admit(self) -> None:
        if not self._taken():
            super().admit()

    async def admit_async(self) -> None:
        if not self._taken():
            await super().admit_async()

    def _taken(self) -> bool:
        """Begin on credit, or become a call of its own that has not begun."""
        cell = self.cell
        if cell is None:
            return False
        if self.since != NEW:
            self._own(cell)
            return False
        refusal = cell.refusal
        if refusal is not None and (self.told is None or not self.told[1]):
            error = refusal.again(cell.now())
            if error is not None:
                cell.turned_away += 1  # ATOMIC
                raise error
        if self._take(cell) or (cell.guard.top_up(cell) and self._take(cell)):
            return True
        self._own(cell)
        return False

    def settle(self, error: BaseException | None, *, last: bool) -> None:
        if self.cell is None or self.since <= NEW:
            super().settle(error, last=last)
        elif error is None and last:
            self.__exit__(None, None, None)
        else:
            self._own(self.cell)
            super().settle(error, last=last)

    def become_current(self) -> None:
        if self.cell is None:
            super().become_current()

    def leave_current(self) -> None:
        if self.cell is None:
            super().leave_current()

    def record(
        self,
        *,
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
            and cell is not None and cell.unit and self.since > NEW
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
        if self.cell is None or self.since <= NEW or beyond:
            super().use(usage, beyond)
        else:
            self.used = usage
            if self.told is None:
                self.told = NOTHING_TOLD

    def progress(self, *, output_tokens: int | None = None) -> None:
        if output_tokens is not None or (self.cell is not None and self.cell.assignment is not None):
            self.own()
        if self.cell is None:  # where queues adapt, nothing is lent
            super().progress(output_tokens=output_tokens)

    # Becoming a call of its own

    def own(self) -> None:
        """Become a call of its own."""
        if self.cell is not None:
            self._own(self.cell)

    def _own(self, cell: Cell) -> None:
        """Become a call of its own, at the stage that it has reached."""
        since, told = self.since, self.told
        used = self.used if told is not None else None
        if since > NEW and not cell.weighs:
            self.bound, self.estimate = cell.bound, cell.presumed(told)
        bound, estimate = (self.bound, self.estimate) if since > NEW else (0, 0)
        user, session, asked, most = told or NOTHING_TOLD
        options: CallOptions = {
            "tenant": cell.tenant, "category": cell.key.category, "model": cell.key.model, "target": cell.target,
            "credential": cell.credential, "user": user, "session": session, "input_tokens": asked, "max_output_tokens": most,
        }  # fmt: skip
        self.cell = None
        self.rest = {}
        Call.__init__(self, cell.guard, cell.guard.tracer, cell.key.route, options)
        self.declared_nusd = cell.declared_nusd
        self.cell_key, self.fixed = cell.cell_key, cell.fixed
        self.epoch, self.key = cell.epoch, cell.key
        if since <= OVER:
            self.stage = "over"
        elif since > NEW:
            self._go_on(cell, since, bound, estimate)
            self.usage = None if used is None else Usage(*used)
            cell.guard.adopt(self, cell)

    def _go_on(self, cell: Cell, since: float, bound: int, estimate: int) -> None:
        """Look as if the guard had let the call through at ``since``."""
        self.stage = "running"
        self.attempts = 1
        self.arrived = self.started = self.since = since
        self.epoch, self.lane, self.policy, self.key = cell.epoch, cell.lane, cell.policy, cell.key
        self.circuit, self.leave, self.path, self.slip = cell.circuit, cell.leave, cell.path, cell.slip
        self.bound, self.estimate, self.assignment = bound, estimate, cell.assignment
        tokens = float((self.input_tokens or 0) + (self.max_output_tokens or 0))
        self.taken = [(key, tokens if key[1] == "tokens" and not cell.fixed else amount) for key, amount in cell.taken]
        self.entry = Entry(self, since, "running")
        if cell.timeout_s is not None:
            self.deadline = since + cell.timeout_s
        self._begun_ns = self._waited_ns = time.time_ns() - int((cell.now() - since) * 1e9)


class _Rest:
    """What a swift call has no slot for: as its cell and what it was told have it, or its own once it is a call of its own."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, call: SwiftCall, owner: type[SwiftCall]) -> Any:
        cell, name = call.cell, self.name
        if cell is None:
            return call.rest[name]
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
        if name == "deadline" and call.since > NEW:
            return None if cell.timeout_s is None else call.since + cell.timeout_s
        call.own()
        return call.rest[name]

    def __set__(self, call: SwiftCall, value: Any) -> None:
        if call.cell is not None:
            call.own()
        call.rest[self.name] = value


for _name in {*CALL_SLOTS} - {*_SLOTS}:
    setattr(SwiftCall, _name, _Rest(_name))

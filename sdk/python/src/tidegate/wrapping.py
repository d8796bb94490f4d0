"""Functions that are guarded as a whole, by ``Gate.guarded``.

A function that does not ask for its call, and whose calls are all alike, passes on credit with nothing but a clock read before and
after; what goes wrong, and what finds no credit, runs as any other call.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from tidegate.call import Call
from tidegate.caller import Caller
from tidegate.cells import Cell, CellKey, Loan
from tidegate.describing import CallOptions
from tidegate.running import Plan, RetryOn, aresume, arun, resume, run
from tidegate.swift import SwiftCall, outlasted
from tidegate.telling import explained

F = TypeVar("F", bound=Callable[..., Any])
_ALIKE = {"tenant", "category", "model", "target", "credential", "input_tokens", "max_output_tokens", "cost_usd"}


class _NoCell:
    """Stands where no cell is known yet."""

    until = -math.inf
    credit = -math.inf


NO_CELL = cast("Cell", _NoCell())


class Wrapped:
    """A guarded function: who makes its calls, and how they are tried again."""

    def __init__(self, caller: Caller, route: str, retry_on: RetryOn | None, options: CallOptions) -> None:
        self.caller = caller
        self.route = route
        self.options = options
        self.key: CellKey | None = None
        if _ALIKE.issuperset(options):
            self.key = (route, ("guarded", *sorted(options.items(), key=lambda item: item[0])))
        self.plan = Plan(caller.guard, self.make, retry_on)

    def make(self, route: str) -> Call:
        """Return a call of its own, in the name of the cell that may pass others after it."""
        if route != self.route or self.key is None:
            return self.caller.call(route, **self.options)
        return self.caller.own_call(route, self.key, fixed=True, **self.options)

    def decorate(self, fn: F) -> F:
        """Return ``fn`` guarded, ``def`` or ``async def``; ``ValueError`` for generators, which end long after they return."""
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            raise ValueError("A generator can't be guarded as a whole: use gate.call inside it.")
        asynchronous = inspect.iscoroutinefunction(fn)
        if "call" in inspect.signature(fn).parameters or self.key is None:
            wrapper = self._async_with_call(fn) if asynchronous else self._with_call(fn)
        else:
            wrapper = self._async_swift(fn) if asynchronous else self._swift(fn)
        return cast("F", functools.wraps(fn)(wrapper))

    def _with_call(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        plan, route, bind = self.plan, self.route, _binder(fn)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return run(plan, route, bind(args, kwargs))

        return wrapper

    def _async_with_call(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        plan, route, bind = self.plan, self.route, _binder(fn)

        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            return await arun(plan, route, bind(args, kwargs))

        return wrapper

    def _swift(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        guard, plan, route, bind = self.caller.guard, self.plan, self.route, _binder(fn)
        now, cell_with_credit = guard.clock.now, self.cell_with_credit
        known = NO_CELL

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal known
            cell = known
            while True:
                since = now()
                if since < cell.until:
                    credit = cell.credit = cell.credit - 1.0  # ATOMIC from here
                    if credit >= 0.0:
                        loan = cell.loan  # to here
                        break
                cell = known = cell_with_credit()
                if cell is NO_CELL:
                    return run(plan, route, bind(args, kwargs))
            try:
                answer = fn(*args, **kwargs) if kwargs else fn(*args)  # no words: no table of them is made anew
            except BaseException as error:  # noqa: BLE001  it goes on from there
                return resume(plan, caught(cell, loan, since), bind(args, kwargs), error)
            took = now() - since
            loan.times.append(took)
            if took > cell.patience:
                outlasted(cell, took)
            return answer

        return wrapper

    def _async_swift(self, fn: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        guard, plan, route, bind = self.caller.guard, self.plan, self.route, _binder(fn)
        now, cell_with_credit, deadlines = guard.clock.now, self.cell_with_credit, self.caller.guard.deadlines
        known = NO_CELL

        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal known
            cell = known
            while True:
                since = now()
                if since < cell.until:
                    credit = cell.credit = cell.credit - 1.0  # ATOMIC from here
                    if credit >= 0.0:
                        loan = cell.loan  # to here
                        break
                cell = known = cell_with_credit()
                if cell is NO_CELL:
                    return await arun(plan, route, bind(args, kwargs))
            flight = None if cell.timeout_s is None else deadlines.watch(since + cell.timeout_s)
            try:
                answer = await (fn(*args, **kwargs) if kwargs else fn(*args))
            except BaseException as error:  # noqa: BLE001  it goes on from there
                late = None if flight is None else deadlines.ended(flight, error)
                failed = error if late is None else explained(late, route, cell.policy)
                return await aresume(plan, caught(cell, loan, since), bind(args, kwargs), failed)
            took = now() - since
            if flight is not None:
                if flight.late:
                    deadlines.ended(flight, None)
                else:
                    flight.task = None
                    flight.under, flight.pile.top = flight.pile.top, flight  # ATOMIC
            loan.times.append(took)
            if took > cell.patience:
                outlasted(cell, took)
            return answer

        return wrapper

    def cell_with_credit(self) -> Cell:
        """Return the cell of the function's calls if there is credit to be had, else ``NO_CELL``."""
        guard = self.caller.guard
        cell = None if self.key is None else guard.cells.get(self.key)
        if cell is None:
            return NO_CELL
        if cell.refusal is not None and not cell.policy.fallbacks:
            error = cell.refusal.again(cell.now())
            if error is not None:
                cell.turned_away += 1  # ATOMIC
                raise error
        return cell if guard.top_up(cell) else NO_CELL


def caught(cell: Cell, loan: Loan, since: float) -> Call:
    """Return the call that failed, as a call of its own."""
    call = SwiftCall()
    call.cell, call.loan, call.begun, call.told = cell, loan, since, None
    return call.own()


def _binder(fn: Callable[..., Any]) -> Callable[[tuple[Any, ...], dict[str, Any]], Callable[[Call], Any]]:
    wants_call = "call" in inspect.signature(fn).parameters

    def bind(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[Call], Any]:
        return lambda call: fn(*args, **kwargs, call=call) if wants_call else fn(*args, **kwargs)

    return bind

"""Calls that pass on credit that the guard has lent to their kind, without its lock (tidegate.cells), in the simulation."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from tidegate.caller import Caller
from tidegate.cells import Cell, CellKey
from tidegate.swift import SwiftCall

if TYPE_CHECKING:
    from tests.simulation.process import Process

MODEL = "m"
PRICES = {"format": 1, "models": {MODEL: {"input": 10**6, "output": 10**6}}}  # a nano-dollar for each token


class Flight:
    """One such call, from its beginning to its end."""

    def __init__(self, process: Process, call: SwiftCall, cell: Cell) -> None:
        self.process = process
        self.slip = cell.slip
        self.bound, self.estimate = (
            (call.bound, call.estimate) if cell.weighs else (cell.bound, cell.presumed(call.told))
        )
        self.accounts: tuple[int, ...] = ()  # that will be billed for it
        self.settled_at: datetime | None = None
        self.cost = 0  # at which it was settled, and then amended
        self.stage = "running"
        self.attempts = 1
        self.lent_before_suspend = cell.drawn_at <= process.suspended_at
        self._call = call

    @property
    def presumed(self) -> int:
        """What it is charged when it does not say what it did cost."""
        return self.estimate

    def end(self, error: BaseException | None, cost: int | None) -> None:
        """Leave the call; ``cost`` is what it heard that it costs."""
        self.stage = "over"
        if cost is not None:
            self._call.record(input_tokens=cost, output_tokens=0)
        self._call.__exit__(None if error is None else type(error), error, None)

    def hear_late(self, cost: int) -> None:
        """Say what it did cost, now that it is over."""
        self._call.record(input_tokens=cost, output_tokens=0)


def begin(process: Process, tenant: str, category: str, bound: int) -> Flight | CellKey | None:
    """Begin a call on credit; when there is none, return the name of its kind. Raises ``Refused``."""
    caller = Caller(process.guard, process.guard.tracer)
    call = caller.call("chat", tenant, category=category or None, model=MODEL, input_tokens=bound, max_output_tokens=0)
    if not isinstance(call, SwiftCall):
        return call.cell_key
    cell = call.cell
    assert cell is not None
    return Flight(process, call, cell) if call._taken() else cell.cell_key

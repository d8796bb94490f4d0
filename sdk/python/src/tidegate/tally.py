"""What calls of one cell that had something to say came to, taken together.

Each call is looked at once, when it has long left the caches: that costs more than what is done with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.cells import MAX_CALL_NUSD, NOTHING_TOLD, OVER, Cell

if TYPE_CHECKING:
    from tidegate.swift import SwiftCall


class Tally:
    """Sums, and an entry for each call, in order, in ``times`` (seconds), ``tokens`` and ``costs`` (nano-USD)."""

    __slots__ = (
        "asked", "bound", "cached", "costs", "dearest", "input", "output", "outputs", "times", "tokens", "unknown", "unpriced",
    )  # fmt: skip

    def __init__(self, cell: Cell, calls: list[SwiftCall]) -> None:
        self.times: list[float] = []
        self.costs: list[int] = []
        self.tokens: list[int] = []
        self.outputs: list[int] = []  # of calls that were recorded, where such calls hold what they used to need
        self.unpriced = self.unknown = 0  # calls of which nothing is known, and of models without a price
        asked = bound = inputs = cached_inputs = 0
        dearest = -1
        weighs, limits_tokens, lenient = cell.weighs, cell.limits_tokens, cell.lenient
        took, costs, tokens = self.times.append, self.costs.append, self.tokens.append
        for call in calls:
            took(OVER - call.begun)
            if weighs:
                bound += call.presumes or 1
            used = call.used
            if used is None:
                tokens(0)
                unsaid = presumed(cell, call)
                self.unpriced += not unsaid
                costs(unsaid)
                continue
            fresh, out, cached, cost, _ = used
            if cost is None or cost > MAX_CALL_NUSD:
                cost, known = cell.cost_of(used)
                self.unknown += not known
            if cost > dearest:
                dearest = cost
            costs(cost)
            tokens(fresh + (out or 0))
            inputs += fresh
            if cached:
                cached_inputs += cached
            if lenient:
                self.outputs.append(out or 0)
            if limits_tokens:
                _, _, given, most = call.told or NOTHING_TOLD
                asked += (given or 0) + (most or 0)
        self.bound = bound if weighs else cell.bound * len(calls)
        self.dearest = dearest  # of those that were recorded
        self.asked = asked  # tokens that were taken from limits for those
        self.input, self.cached, self.output = inputs, cached_inputs, sum(self.tokens) - inputs


def presumed(cell: Cell, call: SwiftCall) -> int:
    """Return what a call is charged of which nobody said what it used."""
    return call.presumes if cell.weighs else cell.presumed(call.told)


def charged(cell: Cell, call: SwiftCall) -> int:
    """Return what a call that has ended is charged, in nano-USD."""
    if call.told is None:
        return cell.estimate
    return presumed(cell, call) if call.used is None else cell.cost_of(call.used)[0]

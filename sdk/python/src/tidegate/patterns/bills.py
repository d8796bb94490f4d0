"""Calls of which more may be heard when they are over: the last chunk of a stream, the reply to an agent that was cancelled."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.call import Call
from tidegate.patterns.board import Record
from tidegate.patterns.purse import Purse


@dataclass
class Bill:
    """What the attempts of one call were counted as, in nano-USD, in its step's record and in the purses."""

    path: str
    calls: list[Call]
    purse: Purse
    record: Record
    counted: int

    def catch_up(self) -> int:
        """Count in the purses what was heard since then, and return it; below zero when it was less than presumed."""
        more = sum(call.total_cost for call in self.calls) - self.counted
        self.purse.settle(0, 0, cost=more, calls=0)
        self.counted += more
        return more

"""What a run of agents may still spend. An agent's purse draws from its parent's: a call must fit all of them, up to the run's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tidegate.client import Gate
from tidegate.describing import CallOptions, nusd_of
from tidegate.errors import BudgetExhausted
from tidegate.reserving import priced_for


@dataclass
class Purse:
    """Amounts are nano-USD; a limit of ``None`` is none. Belongs to one event loop: between looking and holding nobody else runs.

    ``spent_nusd`` and ``calls`` are what it begins with, when a run is resumed.
    """

    name: str
    limit_nusd: int | None = None
    limit_calls: int | None = None
    parent: Purse | None = None
    spent_nusd: int = 0
    calls: int = 0
    held_nusd: int = field(default=0, init=False)
    held_calls: int = field(default=0, init=False)

    def left(self) -> tuple[int | None, int | None]:
        """Return how much money and how many calls may still be held, here and in all above."""
        money = [p.limit_nusd - p.spent_nusd - p.held_nusd for p in self._up() if p.limit_nusd is not None]
        calls = [p.limit_calls - p.calls - p.held_calls for p in self._up() if p.limit_calls is not None]
        return min(money, default=None), min(calls, default=None)

    def hold(self, nusd: int, calls: int = 1) -> None:
        """Hold in all purses, or raise ``BudgetExhausted`` and hold in none."""
        for purse in self._up():
            purse._must_have(nusd, calls)
        for purse in self._up():
            purse.held_nusd += nusd
            purse.held_calls += calls

    def settle(self, held_nusd: int, held_calls: int, *, cost: int, calls: int) -> None:
        """Replace what was held by what came of it; more than that is counted in full."""
        for purse in self._up():
            purse.held_nusd -= held_nusd
            purse.held_calls -= held_calls
            purse.spent_nusd += cost
            purse.calls += calls

    def _up(self) -> Iterator[Purse]:
        purse: Purse | None = self
        while purse is not None:
            yield purse
            purse = purse.parent

    def _must_have(self, nusd: int, calls: int) -> None:
        if self.limit_calls is not None and self.calls + self.held_calls + max(1, calls) > self.limit_calls:
            raise BudgetExhausted(f"{self.name} may make {self.limit_calls} calls, no more.", blocked_by=self.name)
        if self.limit_nusd is None:
            return
        left = self.limit_nusd - self.spent_nusd - self.held_nusd
        if left < max(1, nusd):
            text = f"{self.name} has {_usd(left)} left of {_usd(self.limit_nusd)}; the call may cost {_usd(nusd)}."
            raise BudgetExhausted(text, blocked_by=self.name)


def _usd(nusd: int) -> str:
    return f"${nusd / 1e9:.6f}"


def bound_nusd(gate: Gate, options: CallOptions) -> int:
    """Return what an attempt may cost by what is said of it: ``cost_usd``, or its tokens at the price of its model.

    Without ``max_output_tokens`` this is less than the worst case, and that call may overdraw a purse.
    """
    declared = options.get("cost_usd")
    if declared is not None:
        return nusd_of(declared)
    usage = {"input": options.get("input_tokens") or 0, "output": options.get("max_output_tokens") or 0}
    return priced_for(gate.guard.book, options.get("model") or "").cost_nusd(usage)

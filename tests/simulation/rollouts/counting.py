"""Many runs of a rule in a world: how often it rolls back, and after how many canary units."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable
from typing import NamedTuple

from tests.simulation.rollouts.rules import Looking, Rule
from tests.simulation.rollouts.worlds import World


class Outcome(NamedTuple):
    """``median`` is of canary units until the roll-back, of the runs that had one."""

    runs: int
    rolled_back: int
    median: float | None

    @property
    def rate(self) -> float:
        return self.rolled_back / self.runs


def rolled_back_after(rule: Rule, world: World, dice: random.Random) -> int | None:
    """Return after how many canary units a rule rolls back; ``None`` when it never does."""
    units = 0
    for seen in world.ticks(dice):
        units += seen.n
        if rule.tick(seen):
            return units
    return None


def count(make: Callable[[], Rule], world: World, *, runs: int, seed: int = 1) -> Outcome:
    """Run ``runs`` rollouts, the same ones for every rule."""
    found = [rolled_back_after(make(), world, random.Random(f"{seed}/{world.name}/{number}")) for number in range(runs)]
    caught = [units for units in found if units is not None]
    return Outcome(runs, len(caught), statistics.median(caught) if caught else None)


def peaks(make: Callable[[], Looking], world: World, *, runs: int, seed: int = 1) -> list[float]:
    """Return the most that our evidence of harm ever reached in each run: one pass for every α."""
    found = []
    for number in range(runs):
        ours = make()
        found.append(max(ours.look(seen) for seen in world.ticks(random.Random(f"{seed}/{world.name}/{number}"))))
    return found


def most_by_chance(alpha: float, runs: int) -> float:
    """Return the rate that ``runs`` may show when the true one is at most ``alpha``: three standard errors more."""
    return alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)

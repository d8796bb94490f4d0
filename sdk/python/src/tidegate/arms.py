"""What the arms of a rollout come to: sums per call, and one outcome per unit.

Where the unit is the request, every call is an outcome. Otherwise a unit has one outcome per step of a rollout and process: the
worst of what its calls were within ``window_s`` of its first one. So errors that cluster in a session count once, and an
outcome is reported when its window is over, whatever it is: how long it takes does not depend on how it went.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, NamedTuple

from tidegate.core.release import Assignment
from tidegate.core.window import Distribution

MAX_UNITS = 50_000
MAX_ARM_ROWS = 500

_COUNTS = (
    "calls",
    "failed",
    "refused",
    "cost_nusd",
    "tokens",
    "exposed",
    "asked",
    "units",
    "bad",
    "refusing",
    "scored",
    "loss_ppm",
)
_DISTRIBUTIONS = ("latency_us", "unit_latency_us", "unit_ttft_us", "unit_cost_nusd", "unit_tokens")


class ArmKey(NamedTuple):
    """Who is counted: units of a deployment, under the rules of one step, with one release, in an arm of a ring."""

    deployment: int
    step: int
    release: str
    arm: str
    ring: int


def key_of(assignment: Assignment) -> ArmKey:
    """Return by whom a call is counted that got ``assignment``."""
    return ArmKey(assignment.number, assignment.step, assignment.release, assignment.arm, assignment.ring)


class ArmRow:
    """Counts of one arm in one window. ``asked`` units had a call or a refusal, ``units`` a call; ``bad`` of them failed."""

    __slots__ = (*_COUNTS, *_DISTRIBUTIONS)

    def __init__(self) -> None:
        self.calls = self.failed = self.refused = self.cost_nusd = self.tokens = 0
        self.exposed = self.asked = self.units = self.bad = self.refusing = self.scored = self.loss_ppm = 0
        self.latency_us = Distribution()
        self.unit_latency_us = Distribution()
        self.unit_ttft_us = Distribution()
        self.unit_cost_nusd = Distribution()
        self.unit_tokens = Distribution()

    def add_alone(self, latency_us: Distribution, costs: Distribution, tokens: Distribution) -> None:
        """Add calls that went well, each a unit of its own."""
        calls = costs.count
        self.calls += calls
        self.exposed += calls
        self.asked += calls
        self.units += calls
        self.cost_nusd += costs.total
        self.tokens += tokens.total
        self.latency_us.merge(latency_us)
        self.unit_latency_us.merge(latency_us)
        self.unit_cost_nusd.merge(costs)
        self.unit_tokens.merge(tokens)

    def refuse_alone(self, calls: int) -> None:
        """Add calls that were refused, each a unit of its own."""
        self.refused += calls
        self.exposed += calls
        self.asked += calls
        self.refusing += calls

    def merge(self, other: ArmRow) -> None:
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in _DISTRIBUTIONS:
            getattr(self, name).merge(getattr(other, name))

    def as_sent(self, key: ArmKey) -> dict[str, Any]:
        sent: dict[str, Any] = key._asdict()
        sent.update({name: getattr(self, name) for name in _COUNTS})
        sent.update({name: getattr(self, name).packed() for name in _DISTRIBUTIONS})
        return sent


class CallOutcome(NamedTuple):
    """How a call ended. A call that was refused did not begin; a score is from 0 (useless) to 1.

    ``ttft_us``: until the first of its answer, for calls that said when that came.
    """

    failed: bool = False
    refused: bool = False
    latency_us: int = 0
    ttft_us: int | None = None
    cost_nusd: int = 0
    tokens: int = 0
    score: float | None = None


class _Unit:
    """The worst of a unit's calls in its window."""

    __slots__ = ("began", "closes_at", "failed", "key", "loss_ppm", "over", "refused", "ttft_us", "worst")

    def __init__(self, key: ArmKey, closes_at: float) -> None:
        self.key = key
        self.closes_at = closes_at
        self.over = self.began = self.failed = self.refused = False
        self.worst = (0, 0, 0)
        self.ttft_us: int | None = None
        self.loss_ppm: int | None = None

    def add(self, outcome: CallOutcome) -> None:
        if outcome.refused:
            self.refused = True
            return
        self.began = True
        self.failed = self.failed or outcome.failed
        latency, cost, tokens = self.worst
        self.worst = max(latency, outcome.latency_us), max(cost, outcome.cost_nusd), max(tokens, outcome.tokens)
        if outcome.ttft_us is not None:
            self.ttft_us = max(self.ttft_us or 0, outcome.ttft_us)
        if outcome.score is not None:
            self.loss_ppm = max(self.loss_ppm or 0, loss_of(outcome.score))

    def settle(self, row: ArmRow) -> None:
        self.over = True
        row.asked += 1
        row.refusing += self.refused
        if not self.began:
            return
        row.units += 1
        row.bad += self.failed
        row.unit_latency_us.add(self.worst[0])
        if self.ttft_us is not None:
            row.unit_ttft_us.add(self.ttft_us)
        row.unit_cost_nusd.add(self.worst[1])
        row.unit_tokens.add(self.worst[2])
        if self.loss_ppm is not None:
            row.scored += 1
            row.loss_ppm += self.loss_ppm


def loss_of(score: float) -> int:
    """Return how far a score is from 1, in millionths."""
    return round((1.0 - min(1.0, max(0.0, score))) * 1_000_000)


class Arms:
    """The units of one incarnation that have an outcome to come, or had one in this step."""

    def __init__(self) -> None:
        self._units: OrderedDict[tuple[int, int, str, str], _Unit] = OrderedDict()
        self._open: deque[_Unit] = deque()  # in the order in which they came

    def count(
        self,
        assignment: Assignment,
        unit: str,
        window_s: float,
        outcome: CallOutcome,
        row: Callable[[ArmKey], ArmRow],
        now: float,
    ) -> None:
        """Count a call that ended; ``unit`` is empty where every request is one. ``row`` finds the row of the open window."""
        key = key_of(assignment)
        sums = row(key)
        if outcome.refused:
            sums.refused += 1
        else:
            sums.calls += 1
            sums.failed += outcome.failed
            sums.cost_nusd += outcome.cost_nusd
            sums.tokens += outcome.tokens
            sums.latency_us.add(outcome.latency_us)
        if not unit:
            sums.exposed += 1
            alone = _Unit(key, now)
            alone.add(outcome)
            alone.settle(sums)
            return
        whole = key.deployment, key.step, key.arm, unit  # a unit has one arm, and another one for its copies
        known = self._units.get(whole)
        if known is None:
            sums.exposed += 1
            known = self._units[whole] = _Unit(key, now + window_s)
            self._open.append(known)
            if len(self._units) > MAX_UNITS:
                oldest = self._units.popitem(last=False)[1]
                if not oldest.over:
                    oldest.settle(row(oldest.key))
        if not known.over and now < known.closes_at:
            known.add(outcome)

    def close(self, row: Callable[[ArmKey], ArmRow], now: float, *, everything: bool = False) -> None:
        """Report the units whose window is over; with ``everything`` all of them."""
        while self._open and (everything or self._open[0].closes_at <= now):
            unit = self._open.popleft()
            if not unit.over:
                unit.settle(row(unit.key))

"""What is remembered of one tenant on one route: its policy, buckets, line, retry budget, costs and demand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from tidegate.core import bucket
from tidegate.core.adaptive import Adaptive
from tidegate.core.backoff import RetryBudget
from tidegate.core.bucket import Bucket
from tidegate.core.policy import NOTHING, Limit, Policy, QueueRule
from tidegate.core.queue import Line
from tidegate.core.snapshot import Snapshot

if TYPE_CHECKING:
    from tidegate.cells import Cell

UNKNOWN_SHARE = 0.1
LEARN_S = 300.0
DEMAND_TAU_S = 5.0
LEAST_DEMAND = 1e-3

BucketKey = tuple[int, str, float]


class Share(NamedTuple):
    """The part of a fleet-wide limit that this instance may use until ``until``, on the clock that counts suspend."""

    part: float
    until: float


class Lane:
    __slots__ = (
        "_learned", "_learned_at", "_learned_before", "adaptive", "buckets", "cells", "demand", "freed", "heat", "heated_at", "line", "loans", "policy",
        "retries", "route", "shares", "shares_until", "snapshot", "tenant", "unmet", "used_at",
    )  # fmt: skip

    def __init__(self, tenant: str | None, route: str) -> None:
        self.tenant = tenant
        self.route = route
        self.snapshot: Snapshot | None = None
        self.policy: Policy = NOTHING
        self.line = Line()
        self.buckets: dict[BucketKey, Bucket] = {}
        self.loans: dict[BucketKey, float] = {}  # taken for cells that may not have used it yet
        self.cells: set[Cell] = set()  # those that hold credit or have calls in flight
        self.freed = 0  # times that a limit may have got more room than it earned
        self.heat = 0  # calls since ``heated_at``
        self.heated_at = -math.inf
        self.adaptive: Adaptive | None = None
        self.shares: Mapping[str, Share] = {}
        self.shares_until = math.inf  # when the first of them expires
        self.unmet: dict[str, float] = {}  # asked for since the last sync, per unit
        self.demand: dict[str, float] = {}  # per second, averaged
        self.retries = RetryBudget()
        self.used_at = -math.inf
        self._learned = self._learned_before = 0
        self._learned_at = -math.inf

    def follow(self, snapshot: Snapshot | None) -> Policy:
        """Return the policy that holds under ``snapshot``."""
        if self.snapshot is not snapshot:
            self.snapshot = snapshot
            self.policy = snapshot.policy_for(self.tenant, self.route) if snapshot is not None else NOTHING
        return self.policy

    def learned(self, now: float) -> int:
        """Return the most that a call here did cost in the last five to ten minutes, in nano-USD; 0 when none is known."""
        if now - self._learned_at > LEARN_S:
            self._learned_before = self._learned if now - self._learned_at <= 2 * LEARN_S else 0
            self._learned, self._learned_at = 0, now
        return max(self._learned, self._learned_before)

    def learn(self, cost: int, now: float) -> None:
        self.learned(now)
        self._learned = max(self._learned, cost)

    def take(self, number: int, limit: Limit, amount: float, now: float, *, again: bool = False) -> float:
        """Take ``amount`` of a limit; return the seconds to wait, 0.0 if taken. Asking ``again`` is no more demand."""
        if limit.scope == "fleet" and not again:
            self.unmet[limit.unit] = self.unmet.get(limit.unit, 0.0) + amount
        key = (number, limit.unit, limit.per_s)
        held = self._filled(key, limit, now)
        rate, burst = self._enforced(limit)
        self.buckets[key], wait = bucket.take(held, now=now, rate=rate, burst=burst, amount=amount)
        return wait

    def _filled(self, key: BucketKey, limit: Limit, now: float) -> Bucket:
        """Return the bucket as it is at ``now``. What is lent counts as if it were in the bucket still: both together never
        exceed the burst, so that what cells pass at once and what the bucket passes at once don't add up to more."""
        rate, burst = self._enforced(limit)
        held = self.buckets.get(key)
        if held is None:
            return bucket.full(burst, now)
        return bucket.filled(held, now=now, rate=rate, burst=burst - self.loans.get(key, 0.0))

    def correct(self, key: BucketKey, *, estimated: float, actual: float) -> None:
        """Replace what was taken on an estimate by what was used."""
        number, limits = key[0], self.policy.limits
        held = self.buckets.get(key)
        if held is not None and number < len(limits) and estimated != actual:
            burst = self._enforced(limits[number])[1] - self.loans.get(key, 0.0)
            self.freed += 1
            self.buckets[key] = bucket.correct(held, estimated=estimated, actual=actual, burst=burst)

    def room(self, policy: Policy, unit: str, now: float) -> float:
        """Return how many requests or tokens may be lent: a part of what there is, so that others find some, too."""
        room = math.inf
        for number, limit in enumerate(policy.limits):
            if limit.unit == unit:
                held = self._filled((number, unit, limit.per_s), limit, now)
                room = min(room, held.tokens / 4, self._enforced(limit)[1] / 8)
        return room

    def lend(self, policy: Policy, unit: str, amount: float, now: float) -> None:
        """Take ``amount`` for a cell; the room for it is there."""
        for number, limit in enumerate(policy.limits):
            if limit.unit == unit:
                key = (number, unit, limit.per_s)
                held = self._filled(key, limit, now)
                self.buckets[key] = held._replace(tokens=held.tokens - amount)
                self.loans[key] = self.loans.get(key, 0.0) + amount

    def take_back(self, policy: Policy, unit: str, *, lent: float, unused: float, now: float) -> None:
        """End a loan: what was not used goes back, what was used counts as demand."""
        self.freed += 1
        for number, limit in enumerate(policy.limits):
            if limit.unit != unit:
                continue
            key = (number, unit, limit.per_s)
            held = self._filled(key, limit, now)
            rest = self.loans.pop(key, 0.0) - lent
            if rest > 0:
                self.loans[key] = rest
            burst = self._enforced(limit)[1] - max(0.0, rest)
            self.buckets[key] = bucket.correct(held, estimated=unused, actual=0.0, burst=burst)
            if limit.scope == "fleet":
                self.unmet[unit] = self.unmet.get(unit, 0.0) + lent - unused

    def _enforced(self, limit: Limit) -> tuple[float, float]:
        """Return rate and burst that this instance enforces: its share of a fleet's limit, all of its own."""
        part = self.part(limit.unit) if limit.scope == "fleet" else 1.0
        return limit.rate * part, limit.burst * part

    def part(self, unit: str) -> float:
        """Return the part of a fleet's limit that this instance may use: its share; a tenth while it has none."""
        share = self.shares.get(unit)
        return UNKNOWN_SHARE if share is None else share.part

    def share_out(self, shares: Mapping[str, Share], *, now: float, boot: float) -> None:
        """Use ``shares`` from now on. What buckets earned until now they earned under those before."""
        self.freed += 1
        for number, limit in enumerate(self.policy.limits):
            key = (number, limit.unit, limit.per_s)
            if limit.scope == "fleet" and key in self.buckets:
                self.buckets[key] = self._filled(key, limit, now)
        live = {}
        for unit, share in shares.items():
            live[unit] = share if boot < share.until else Share(min(share.part, UNKNOWN_SHARE), math.inf)
        self.shares = live
        self.shares_until = min((share.until for share in live.values()), default=math.inf)

    def used_share(self, unit: str) -> float:
        """Return the part that was given and is used still, 0.0 when there is none."""
        share = self.shares.get(unit)
        return 0.0 if share is None or share.until == math.inf else share.part

    def slots(self, rule: QueueRule) -> int:
        """Return how many calls may run now: what the rule says, this instance's part of that, and what was found to be good."""
        most = rule.max_concurrent
        if rule.scope == "fleet":
            most = int(most * self.part("calls") + 1e-6)
            if "calls" not in self.shares:
                most = max(1, most)
        if rule.adaptive is None:
            return most
        if self.adaptive is None:
            self.adaptive = Adaptive(most)
        return min(most, self.adaptive.bounded(min(rule.min_concurrent, max(1, most)), max(1, most)))

    def capacity(self, unit: str) -> float:
        """Return the whole of the fleet's limit of ``unit``: units per second, or calls at once."""
        queue = self.policy.queue
        if unit == "calls":
            return float(queue.max_concurrent) if queue is not None else 0.0
        return min(
            (each.rate for each in self.policy.limits if each.unit == unit and each.scope == "fleet"), default=0.0
        )

    def measure(self, elapsed_s: float) -> dict[str, float]:
        """Return the demand per second and unit, averaged over some seconds, and start counting anew.

        Of ``calls``: the most that ran or waited at once.
        """
        elapsed_s = max(elapsed_s, 1e-3)
        kept = math.exp(-elapsed_s / DEMAND_TAU_S)
        average = {unit: per_s * kept for unit, per_s in self.demand.items()}
        for unit, asked in self.unmet.items():
            average[unit] = average.get(unit, 0.0) + asked / elapsed_s * (1 - kept)
        line, queue = self.line, self.policy.queue
        present = line.running + line.waiting
        if queue is not None and queue.scope == "fleet":
            average["calls"] = max(average.get("calls", 0.0), float(max(line.peak, present)))
        line.peak = present
        self.demand = {unit: per_s for unit, per_s in average.items() if per_s >= LEAST_DEMAND}
        self.unmet.clear()
        return self.demand

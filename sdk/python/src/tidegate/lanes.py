"""What is remembered of one tenant on one route: its policy, buckets, line, retry budget, costs and demand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tidegate.core import bucket
from tidegate.core.backoff import RetryBudget
from tidegate.core.bucket import Bucket
from tidegate.core.policy import NOTHING, Limit, Policy, Snapshot
from tidegate.core.queue import Line

if TYPE_CHECKING:
    from tidegate.cells import Cell

UNKNOWN_SHARE = 0.1
LEARN_S = 300.0
DEMAND_TAU_S = 5.0

BucketKey = tuple[int, str, float]


class Lane:
    __slots__ = (
        "_learned", "_learned_at", "_learned_before", "buckets", "cells", "demand", "heat", "heated_at", "line", "loans", "policy",
        "retries", "route", "shares", "snapshot", "tenant", "unmet", "used_at",
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
        self.heat = 0  # calls since ``heated_at``
        self.heated_at = -math.inf
        self.shares: dict[str, float] = {}
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
        share = self.shares.get(limit.unit, UNKNOWN_SHARE) if limit.scope == "fleet" else 1.0
        return limit.rate * share, limit.burst * share

    def measure(self, elapsed_s: float) -> dict[str, float]:
        """Return the demand per second and unit, averaged over some seconds, and start counting anew."""
        kept = math.exp(-elapsed_s / DEMAND_TAU_S)
        for unit in {*self.unmet, *self.demand}:
            seen = self.unmet.get(unit, 0.0) / max(elapsed_s, 1e-3)
            average = seen * (1 - kept) + self.demand.get(unit, 0.0) * kept
            if average < 1e-3:
                self.demand.pop(unit, None)
            else:
                self.demand[unit] = average
        self.unmet.clear()
        return self.demand

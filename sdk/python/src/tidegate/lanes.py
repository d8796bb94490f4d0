"""What is remembered of one tenant on one route: its policy, buckets, line, retry budget, costs and demand."""

from __future__ import annotations

import math

from tidegate.core import bucket
from tidegate.core.backoff import RetryBudget
from tidegate.core.bucket import Bucket
from tidegate.core.policy import NOTHING, Limit, Policy, Snapshot
from tidegate.core.queue import Line

UNKNOWN_SHARE = 0.1
LEARN_S = 300.0
DEMAND_TAU_S = 5.0

BucketKey = tuple[int, str, float]


class Lane:
    __slots__ = (
        "_learned", "_learned_at", "_learned_before", "buckets", "demand", "line", "policy", "retries", "route", "shares",
        "snapshot", "tenant", "unmet", "used_at",
    )  # fmt: skip

    def __init__(self, tenant: str | None, route: str) -> None:
        self.tenant = tenant
        self.route = route
        self.snapshot: Snapshot | None = None
        self.policy: Policy = NOTHING
        self.line = Line()
        self.buckets: dict[BucketKey, Bucket] = {}
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

    def take(self, number: int, limit: Limit, amount: float, now: float) -> float:
        """Take ``amount`` of a limit; return the seconds to wait, 0.0 if taken."""
        if limit.scope == "fleet":
            self.unmet[limit.unit] = self.unmet.get(limit.unit, 0.0) + amount
        rate, burst = self._enforced(limit)
        key = (number, limit.unit, limit.per_s)
        held = self.buckets.get(key) or bucket.full(burst, now)
        self.buckets[key], wait = bucket.take(held, now=now, rate=rate, burst=burst, amount=amount)
        return wait

    def correct(self, key: BucketKey, *, estimated: float, actual: float) -> None:
        """Replace what was taken on an estimate by what was used."""
        number, limits = key[0], self.policy.limits
        held = self.buckets.get(key)
        if held is not None and number < len(limits) and estimated != actual:
            burst = self._enforced(limits[number])[1]
            self.buckets[key] = bucket.correct(held, estimated=estimated, actual=actual, burst=burst)

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

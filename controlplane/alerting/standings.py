"""Where service levels stand, how their budgets were spent, and how fast they burn in a long and a short window."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from controlplane.alerting.levels import WINDOWS_S, slo_counts, slo_steps
from controlplane.alerting.models import Slo
from controlplane.domain.slo import BURNS, Burn, Count, budget_left, burn_rate, burns, exhausted_in_s


@dataclass(frozen=True)
class Standing:
    """Where a service level is in its window: ``left`` of 1 is all of the error budget, below 0 is overspent."""

    slo: Slo
    count: Count
    left: float | None
    rates: dict[int, float | None]
    burn: Burn | None
    gone_in_s: float | None

    @property
    def good(self) -> float | None:
        """The share of calls that were good."""
        return 1 - self.count.bad / self.count.total if self.count.total else None

    @property
    def tone(self) -> str:
        if self.left is None:
            return "mute"
        if self.left <= 0 or (self.burn is not None and self.burn.severity == "page"):
            return "trouble"
        return "watch" if self.left < 0.25 or self.burn is not None else "ok"


def standing_of(slo: Slo, now: datetime) -> Standing:
    """Return where a service level stands."""
    whole = slo.days * 86_400
    counts = slo_counts(slo, sorted({*WINDOWS_S, whole}), now)
    count = counts[whole]
    rates = {length: burn_rate(counts[length], slo.objective) for length in WINDOWS_S}
    left = budget_left(count, slo.objective)
    pace = rates[BURNS[1].long_s]
    return Standing(slo, count, left, rates, burns(rates, slo.objective), exhausted_in_s(left, pace, whole))


@dataclass(frozen=True)
class BurnPoint:
    """One step of the course of a budget: what was left of it, and how fast it burned in that step."""

    at: datetime
    left: float | None
    rate: float | None
    count: Count


def burn_course(slo: Slo, now: datetime, steps: int = 56) -> list[BurnPoint]:
    """Return how the budget of the window was spent, the oldest step first."""
    step_s = max(1, slo.days * 24 // steps) * 3600
    length = timedelta(seconds=step_s)
    steps = slo.days * 86_400 // step_s
    until = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    since = until - length * steps
    counts = slo_steps(slo, since, until, step_s)
    total = sum(count.total for count in counts)
    allowed = total * (1 - slo.objective)
    points, bad = [], 0
    for number, count in enumerate(counts, 1):
        bad += count.bad
        left = 1 - bad / allowed if allowed else None
        points.append(BurnPoint(since + length * number, left, burn_rate(count, slo.objective), count))
    return points


@dataclass(frozen=True)
class PairPoint:
    """How fast a budget burned at one time, seen over the long and the short window of a pair."""

    at: datetime
    long: float | None
    short: float | None


_SPANS = {14.4: (86_400, 300), 6.0: (3 * 86_400, 1_800), 3.0: (7 * 86_400, 3_600), 1.0: (14 * 86_400, 3_600)}


def pair_course(slo: Slo, burn: Burn, now: datetime) -> list[PairPoint]:
    """Return how fast the budget burned by both windows of a pair, the oldest first."""
    span_s, step_s = _SPANS[burn.factor]
    until = datetime.fromtimestamp(now.timestamp() // step_s * step_s, now.tzinfo)
    lead = burn.long_s // step_s
    since = until - timedelta(seconds=span_s + burn.long_s)
    totals, bads = [0], [0]
    for count in slo_steps(slo, since, until, step_s):
        totals.append(totals[-1] + count.total)
        bads.append(bads[-1] + count.bad)

    def rate(end: int, length_s: int) -> float | None:
        begin = end - length_s // step_s
        return burn_rate(Count(totals[end] - totals[begin], bads[end] - bads[begin]), slo.objective)

    return [
        PairPoint(since + timedelta(seconds=step_s * end), rate(end, burn.long_s), rate(end, burn.short_s))
        for end in range(lead, len(totals))
    ]

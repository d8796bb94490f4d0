"""What the arms of rollouts came to, how far the evidence is, and which clients run the newest config."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from controlplane.domain.arms import SPREADS, SUMS, Memory, Shares, Side, Total, part_of, remembered
from controlplane.domain.rollout import RingPlan
from controlplane.domain.verdict import Verdict, errors_to_rollback, judge, requests_to_promote
from controlplane.rollouts.models import ArmTotal, ArmWindow, Rollout
from tidegate.core.bucketing import PARTS
from tidegate.core.window import Distribution, quantile

SIDES = {"canary": Side.CANARY, "shadow": Side.CANARY, "baseline": Side.BASELINE, "stable": Side.STABLE}


def totals_of(rollout: Rollout) -> list[Total]:
    """Return the totals of the rollout's newest two steps, as far as chance put units on both sides."""
    first = max(rollout.first_step, rollout.step - 1)
    rows = ArmTotal.objects.filter(deployment_id=rollout.deployment_id, step__gte=first, ring__gte=0)
    rows = rows.filter(release__in=[rollout.release.name, rollout.previous.name])
    return [
        Total(row.step, row.ring, SIDES[row.arm], {name: getattr(row, name) for name in (*SUMS, *SPREADS)})
        for row in rows.order_by("step", "ring", "arm")
    ]


def shares_of(rollout: Rollout) -> list[Shares]:
    """Return what chance gives the arms of each ring, of the units compared there.

    In the shadow at most: who sends copies may leave some out, but sends none twice.
    """
    return [_shares(ring, baseline=rollout.baseline) for ring in rollout.plan.rings]


def _shares(ring: RingPlan, *, baseline: bool) -> Shares:
    canary = ring.share / PARTS
    if ring.shadow:
        return Shares(canary, at_most=True)
    return Shares(canary, canary if baseline and ring.share <= PARTS // 2 else 0.0)


class ArmFigures(NamedTuple):
    """What one release's calls came to since the rollout began."""

    calls: int = 0
    failed: int = 0
    refused: int = 0
    cost_nusd: int = 0
    tokens: int = 0
    units: int = 0
    bad: int = 0
    p50_us: int = 0
    p99_us: int = 0
    ttft_p50_us: int = 0  # until the first of the answer, where calls said when that came

    @property
    def error_rate(self) -> float:
        return self.failed / self.calls if self.calls else 0.0

    @property
    def tokens_per_call(self) -> float:
        return self.tokens / self.calls if self.calls else 0.0


class Figures(NamedTuple):
    stable: ArmFigures
    candidate: ArmFigures


def figures_of(rollouts: Iterable[Rollout]) -> dict[int, Figures]:
    """Return, by rollout, what its two releases came to since this attempt began."""
    wanted = list(rollouts)
    by_deployment: dict[int, list[ArmTotal]] = {}
    for row in ArmTotal.objects.filter(deployment_id__in={rollout.deployment_id for rollout in wanted}):
        by_deployment.setdefault(row.deployment_id, []).append(row)
    figures: dict[int, Figures] = {}
    for rollout in wanted:
        mine = [row for row in by_deployment.get(rollout.deployment_id, ()) if _belongs(row, rollout)]
        figures[rollout.pk] = Figures(
            _summed(row for row in mine if row.release == rollout.previous.name),
            _summed(row for row in mine if row.release == rollout.release.name),
        )
    return figures


def _belongs(row: ArmTotal, rollout: Rollout) -> bool:
    last = rollout.step - 1 if rollout.phase in {"rolled_back", "aborted"} else rollout.step
    return bool(rollout.first_step) and rollout.first_step <= row.step <= last


def _summed(rows: Iterable[ArmTotal]) -> ArmFigures:
    sums = dict.fromkeys(("calls", "failed", "refused", "cost_nusd", "tokens", "units", "bad"), 0)
    latency, ttft = Distribution(), Distribution()
    for row in rows:
        for name in sums:
            sums[name] += getattr(row, name)
        latency.merge(Distribution.from_packed(row.latency_us))
        ttft.merge(Distribution.from_packed(row.unit_ttft_us))
    packed = latency.packed()
    first_us = quantile(ttft.packed(), 0.5)
    return ArmFigures(**sums, p50_us=quantile(packed, 0.5), p99_us=quantile(packed, 0.99), ttft_p50_us=first_us)


class Findings(NamedTuple):
    """How far the evidence is. ``errors_left`` would roll back, ``units_left`` promote at the rates seen; ``None``: never."""

    verdict: Verdict
    compared: int
    errors_left: int | None
    units_left: int | None


def findings_of(rollout: Rollout) -> Findings:
    """Return the evidence as of the last tick."""
    memory = remembered(rollout.evidence)
    if memory.step != rollout.step:
        memory = memory._replace(so_far={})
    part, rules = part_of(memory), rollout.rules
    return Findings(
        judged(rollout, memory),
        compared_of(memory),
        errors_to_rollback(memory.evidence, rules, part=part),
        requests_to_promote(memory.evidence, rules, so_far=memory.so_far),
    )


def compared_of(memory: Memory) -> int:
    """Return how many canary units had something to be compared with in this step."""
    errors = memory.so_far.get("errors")
    return int(errors.n) if errors is not None and errors.n_stable else 0


def judged(rollout: Rollout, memory: Memory) -> Verdict:
    """Return the verdict on what is remembered. The guardrail looks at all calls of the candidate in this step."""
    rows = ArmTotal.objects.filter(
        deployment_id=rollout.deployment_id, step=rollout.step, release=rollout.release.name
    ).values_list("calls", "failed")
    calls, failed = (sum(column) for column in zip(*rows, strict=True)) if rows else (0, 0)
    return judge(memory.evidence, rollout.rules, canary_calls=calls, canary_failed=failed)


def course_of(rollout: Rollout, *, since: datetime) -> list[ArmWindow]:
    """Return what the two releases came to in slices of ten seconds, the oldest first."""
    names = [rollout.release.name, rollout.previous.name]
    rows = ArmWindow.objects.filter(deployment_id=rollout.deployment_id, starts_at__gte=since, release__in=names)
    return list(rows.order_by("starts_at"))

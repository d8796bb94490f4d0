"""What rollouts do by themselves, every few seconds: read the arms, judge, act."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from django.db import transaction

from controlplane.domain.arms import Memory, kept, remembered, ticked
from controlplane.domain.rollout import ENDED, OPEN, SERVED, Decision, Facts, decide
from controlplane.rollouts.actions.moving import carry_out
from controlplane.rollouts.convergence import Convergence, convergence_of
from controlplane.rollouts.findings import compared_of, judged, shares_of, totals_of
from controlplane.rollouts.models import ArmTotal, ArmWindow, Deployment, Rollout
from controlplane.rollouts.queries import frozen

log = structlog.get_logger(__name__)

WINDOWS_KEPT = timedelta(hours=24)
STEPS_KEPT = 50
WATCHED_AFTER = timedelta(seconds=60)  # its end: how fast the clients took it


def tick(*, now: datetime) -> list[Decision]:
    """Let every open rollout decide; return what was decided. One that fails does not keep the others from it."""
    decisions = []
    for rollout in Rollout.objects.filter(phase__in=OPEN).select_related("deployment__tenant", "release", "previous"):
        try:
            decision = _one(rollout, now)
        except Exception:
            log.exception("rollout.not_ticked", deployment=rollout.deployment.slug)
            continue
        if decision is not None:
            log.info("rollout.decided", deployment=rollout.deployment.slug, verb=decision.verb, reason=decision.reason)
            decisions.append(decision)
    for rollout in Rollout.objects.filter(phase__in=ENDED, ended_at__gt=now - WATCHED_AFTER).select_related(
        "deployment__tenant"
    ):
        _note_applied(rollout, convergence_of(rollout, now=now))
    return decisions


def _one(rollout: Rollout, now: datetime) -> Decision | None:
    convergence = convergence_of(rollout, now=now)
    _note_applied(rollout, convergence)
    memory = remembered(rollout.evidence)
    if rollout.phase in SERVED and rollout.strategy != "blue_green":
        copies = 1 if rollout.deployment.unit == "request" else max(1, convergence.clients)
        memory = _look(rollout, copies, now)
    facts = Facts(
        verdict=judged(rollout, memory) if rollout.phase in SERVED else None,
        compared=compared_of(memory),
        refused=convergence.refused[0] if convergence.refused else "",
        converged=convergence.whole,
        frozen=frozen(rollout.deployment, now=now),
    )
    decision = decide(rollout.state, rollout.plan, facts, now)
    if decision is not None and carry_out(rollout=rollout, decision=decision, now=now) is None:
        return None
    return decision


def _note_applied(rollout: Rollout, convergence: Convergence) -> None:
    """Keep how fast the clients took the last change: later ones of other things hide it."""
    known = rollout.applied if rollout.applied.get("step") == rollout.step else {}
    clients = len(convergence.took_ms)
    if clients > known.get("clients", 0):
        rollout.applied = {"step": rollout.step, "clients": clients, "p99_ms": convergence.p99_ms}
        Rollout.objects.filter(pk=rollout.pk, step=rollout.step).update(applied=rollout.applied)


@transaction.atomic
def _look(rollout: Rollout, copies: int, now: datetime) -> Memory:
    """Take in what the arms came to since the last look, once, whoever looks; return what is known now."""
    current = Rollout.objects.select_for_update(of=("self",)).get(pk=rollout.pk)
    memory = remembered(current.evidence)
    if current.step != rollout.step:  # somebody acted just now: the next tick will see
        return memory
    at_s = int(now.timestamp())
    memory = ticked(memory, totals_of(rollout), step=rollout.step, shares=shares_of(rollout), copies=copies, at_s=at_s)
    rollout.evidence = kept(memory)
    Rollout.objects.filter(pk=rollout.pk).update(evidence=rollout.evidence)
    return memory


def retain(*, now: datetime) -> None:
    """Delete slices that no chart shows, and totals of steps long over."""
    ArmWindow.objects.filter(starts_at__lt=now - WINDOWS_KEPT).delete()
    firsts = dict(Rollout.objects.filter(phase__in=OPEN).values_list("deployment_id", "first_step"))
    for pk, step in Deployment.objects.values_list("pk", "step"):
        oldest = min(firsts.get(pk, step), step - STEPS_KEPT)
        ArmTotal.objects.filter(deployment_id=pk, step__lt=oldest).delete()

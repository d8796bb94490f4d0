"""Taking a rollout from one state to the next in the rows, whoever decided it, and telling the SDKs when it concerns them."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from controlplane import live
from controlplane.domain import rollout as domain
from controlplane.domain.arms import FRESH, kept, remembered
from controlplane.domain.rollout import ENDED, SERVED, Decision, State
from controlplane.rollouts.actions.deployments import publish
from controlplane.rollouts.models import Deployment, Rollout, RolloutEvent
from controlplane.tenancy.actions.audit import record
from controlplane.tenancy.queries import SYSTEM, Asker

_DECIDED = {
    "hold": "Held", "ask": "Asks for approval of", "begin": "Began", "advance": "Advanced", "finish": "Finished the rings of",
    "complete": "Completed", "rollback": "Rolled back",
}  # fmt: skip


# What people want to hear of: it waits for somebody, goes back, is everybody's.
TOLD = frozenset({"hold", "ask", "start", "rollback", "abort", "complete", "switch"})


def locked(pk: int) -> Rollout:
    """Return the rollout with its deployment, both locked until the transaction ends, the deployment first."""
    Deployment.objects.select_for_update().get(rollouts=pk)
    found = Rollout.objects.select_for_update(of=("self",))
    return found.select_related("deployment__tenant", "deployment__stable", "release", "previous").get(pk=pk)


def move(*, by: Asker, rollout: Rollout, verb: str, state: State, reason: str, now: datetime) -> None:
    """Take over ``state``; publish when it changes who gets what. Inside the caller's transaction and locks."""
    deployment, before = rollout.deployment, rollout.state
    moved = state.step != before.step
    if moved:
        # One line of numbers for all rollouts of a deployment, so that counts never mix.
        deployment.step += 1
        state = state._replace(step=deployment.step)
    if reason and reason != state.reason:
        state = state._replace(reason=f"{state.reason} {reason}".strip())
    rollout.follow(state)
    if moved and state.phase in SERVED and (before.phase not in SERVED or state.attempt != before.attempt):
        rollout.first_step, rollout.evidence, rollout.started_at, rollout.ended_at = state.step, kept(FRESH), now, None
    if verb == "resume":
        _forget_mismatch(rollout)
    if state.phase in ENDED:
        rollout.ended_at = now
    _settle(rollout, state, reason or state.reason, now)
    deployment.save(update_fields=["step", "stable"])
    rollout.save()
    if moved:
        summary = f"{deployment.slug} {rollout.release.version}: {state.phase.replace('_', ' ')}"
        said = {"phase": state.phase, "ring": state.ring, "release": rollout.release.version}
        rollout.revision = publish(by=by, deployment=deployment, summary=summary, after=said)
        rollout.save(update_fields=["revision"])
    note(rollout, by, verb, reason or state.reason, now)
    live.changed("intent")


def _forget_mismatch(rollout: Rollout) -> None:
    """A person has seen that the arms' sizes were off and goes on all the same."""
    memory = remembered(rollout.evidence)
    rollout.evidence = kept(memory._replace(evidence=memory.evidence._replace(sizes={})))


def _settle(rollout: Rollout, state: State, reason: str, now: datetime) -> None:
    """Make the release everybody's when it is complete, the one before when it is taken back."""
    deployment, release = rollout.deployment, rollout.release
    if state.phase == "complete":
        deployment.stable = release
    elif state.phase == "rolled_back":
        if deployment.stable_id == release.pk:
            deployment.stable = rollout.previous
        release.bad_at, release.bad_reason = now, reason[:500]
        release.save(update_fields=["bad_at", "bad_reason"])


def note(rollout: Rollout, by: Asker, verb: str, reason: str, now: datetime) -> None:
    """Add a line to the rollout's history."""
    RolloutEvent.objects.create(
        rollout=rollout,
        at=now,
        actor=by.name,
        verb=verb,
        phase=rollout.phase,
        ring=rollout.ring,
        version=rollout.version,
        reason=reason[:500],
        told=not rollout.deployment.notify or verb not in TOLD,
    )


def recorded(by: Asker, verb: str, rollout: Rollout, summary: str, reason: str, *, before: State | None = None) -> None:
    """Write the audit entry of what was done to a rollout."""
    record(
        by=by,
        action=f"rollout.{verb}",
        target_kind="rollout",
        target=f"{rollout.deployment.slug}/{rollout.pk}",
        tenant=rollout.deployment.tenant,
        summary=summary,
        before={"phase": before.phase, "ring": before.ring} if before else None,
        after={"phase": rollout.phase, "ring": rollout.ring},
        reason=reason,
    )


@transaction.atomic
def carry_out(*, rollout: Rollout, decision: Decision, now: datetime) -> Rollout | None:
    """Do what a rollout decided by itself at ``rollout.version``; ``None`` when somebody was faster."""
    seen = rollout.version
    rollout = locked(rollout.pk)
    if rollout.version != seen:
        return None
    if decision.verb == "rollback" and rollout.previous.bad_at is not None:
        decision = Decision("hold", f"{decision.reason} The release before is marked bad, too: a person has to choose.")
        if rollout.phase == "held":
            return None
    before = rollout.state
    state = domain.carried_out(before, rollout.plan, decision, now)
    move(by=SYSTEM, rollout=rollout, verb=decision.verb, state=state, reason=decision.reason, now=now)
    summary = f"{_DECIDED[decision.verb]} {rollout.deployment.slug} {rollout.release.version}"
    recorded(SYSTEM, decision.verb, rollout, summary, decision.reason, before=before)
    return rollout

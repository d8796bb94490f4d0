"""Making rollouts, and what people tell them to do. Every verb says which version of the rollout it is meant for."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from django.db import transaction

from controlplane.domain import rollout as domain
from controlplane.domain.arms import FRESH, kept
from controlplane.domain.rollout import ENDED, GATES, GOES_ON, OPEN, STRATEGIES, WAITING, Impossible, RingPlan, State
from controlplane.problems import Conflict, Forbidden, Invalid
from controlplane.rollouts.actions.deployments import may_change
from controlplane.rollouts.actions.moving import locked, move, note, recorded
from controlplane.rollouts.models import Deployment, Release, Rollout
from controlplane.rollouts.queries import authors_of, frozen
from controlplane.tenancy.queries import Asker
from tidegate.core.bucketing import PARTS

MAX_RINGS = 12
MAX_NAMES = 1000
MAX_S = 30 * 86400
EVERYONE = RingPlan("Everyone", PARTS, bake_s=60, patience_s=60, gate="time")
RINGS = (RingPlan("Canary", 50_000, bake_s=120), RingPlan("Early", 250_000, bake_s=120), EVERYONE)
SHADOW = RingPlan("Shadow", 250_000, bake_s=120, shadow=True)
DEFAULTS: dict[str, tuple[RingPlan, ...]] = {
    "rings": RINGS, "canary": (RINGS[0], EVERYONE), "shadow": (SHADOW, RINGS[0], EVERYONE), "blue_green": (),
}  # fmt: skip
_DONE = {
    "start": "Started", "approve": "Approved", "pause": "Paused", "resume": "Resumed", "promote": "Promoted",
    "promote_fully": "Promoted to everybody:", "switch": "Switched the sides of", "skip": "Skipped the rest of a ring of",
    "abort": "Aborted", "rollback": "Rolled back", "retry": "Began again with", "extend": "Extended the analysis of",
}  # fmt: skip


class Wish(NamedTuple):
    """How a release is to go out. Without rings, those of the strategy.

    ``baseline``: compare time, cost and tokens with a concurrent arm of the candidate's size; ``None``: a canary does.
    """

    strategy: str = "rings"
    rings: tuple[RingPlan, ...] = ()
    alpha: float = 0.01
    beta: float = 0.05
    max_error_rate: float | None = None
    baseline: bool | None = None
    starts_at: datetime | None = None


@transaction.atomic
def create_rollout(
    *,
    by: Asker,
    deployment: Deployment,
    release: Release,
    wish: Wish,
    now: datetime,
    start: bool = False,
    reason: str = "",
) -> Rollout:
    """Make a rollout of a release, a draft unless it is to ``start`` at once. One per deployment at a time."""
    may_change(by, deployment.tenant)
    owned = Deployment.objects.select_for_update(of=("self",)).select_related("stable", "tenant")
    deployment = owned.get(pk=deployment.pk)
    wished = _wished(wish)
    if deployment.rollouts.filter(phase__in=OPEN).exists():
        raise Conflict(f"{deployment.slug} has a rollout that is not over: there is one at a time.")
    rollout = Rollout.objects.create(
        deployment=deployment,
        release=release,
        previous=_previous(deployment, release),
        evidence=kept(FRESH),
        created_by=by.name,
        **wished,
    )
    note(rollout, by, "create", reason, now)
    recorded(by, "create", rollout, f"Made a rollout of {deployment.slug} {release.version}", reason)
    if start:
        return act(by=by, rollout=rollout, verb="start", expected_version=rollout.version, now=now, reason=reason)
    return rollout


@transaction.atomic
def edit_rollout(
    *,
    by: Asker,
    rollout: Rollout,
    release: Release,
    wish: Wish,
    expected_version: int | None,
    now: datetime,
    reason: str = "",
) -> Rollout:
    """Change a rollout that has not begun. It is a draft again: nobody has approved what it is now."""
    rollout = locked(rollout.pk)
    may_change(by, rollout.deployment.tenant)
    if expected_version is not None and expected_version != rollout.version:
        raise _moved_on(rollout, expected_version)
    try:
        state = domain.edit(rollout.state, wish.starts_at)
    except Impossible as impossible:
        raise Conflict(str(impossible)) from None
    wished, before = _wished(wish), rollout.state
    rollout.release, rollout.previous = release, _previous(rollout.deployment, release)
    for name, value in wished.items():
        setattr(rollout, name, value)
    move(by=by, rollout=rollout, verb="edit", state=state, reason=reason, now=now)
    summary = f"Edited the rollout of {rollout.deployment.slug} {release.version}"
    recorded(by, "edit", rollout, summary, reason, before=before)
    return rollout


def rings_of(wish: Wish) -> tuple[RingPlan, ...]:
    """Return the rings that are wished for; without any, those of the strategy."""
    return wish.rings or DEFAULTS.get(wish.strategy, ())


def faults_of(wish: Wish) -> dict[str, str]:
    """Return what is wrong with a wish, by field."""
    return _faults(wish, rings_of(wish))


def _wished(wish: Wish) -> dict[str, Any]:
    """Return the columns that a wish fills; ``Invalid`` names what is wrong with it."""
    faults = faults_of(wish)
    if faults:
        raise Invalid("The rollout is not valid: nothing was changed.", errors=faults)
    baseline = wish.strategy == "canary" if wish.baseline is None else wish.baseline
    return {**wish._asdict(), "rings": [ring._asdict() for ring in rings_of(wish)], "baseline": baseline}


def _previous(deployment: Deployment, release: Release) -> Release:
    """Return the release that everybody gets now; ``Conflict`` when ``release`` can't follow it."""
    if deployment.stable is None or deployment.stable_id == release.pk:
        raise Conflict(f"Release {release.version} is what everybody gets already.")
    if release.bad_at is not None:
        raise Conflict(f"Release {release.version} is marked bad: {release.bad_reason or 'it was rolled back'}")
    return deployment.stable


def _moved_on(rollout: Rollout, expected_version: int) -> Conflict:
    return Conflict(f"The rollout is at version {rollout.version}, not {expected_version}: look again before you act.")


def _faults(wish: Wish, rings: tuple[RingPlan, ...]) -> dict[str, str]:
    faults: dict[str, str] = {}
    if wish.strategy not in STRATEGIES:
        faults["strategy"] = f"must be one of {', '.join(STRATEGIES)}"
    elif wish.strategy == "blue_green" and rings:
        faults["rings"] = "a blue-green rollout has none"
    elif wish.strategy != "blue_green" and not 1 <= len(rings) <= MAX_RINGS:
        faults["rings"] = f"must be 1 to {MAX_RINGS} rings"
    faults |= _order_faults(wish.strategy, rings)
    for name in ("alpha", "beta"):
        if not 0.0001 <= getattr(wish, name) <= 0.5:
            faults[name] = "must be a number from 0.0001 to 0.5"
    if wish.max_error_rate is not None and not 0 < wish.max_error_rate < 1:
        faults["max_error_rate"] = "must be a number between 0 and 1"
    for number, ring in enumerate(rings):
        faults |= {f"rings[{number}].{field}": text for field, text in _ring_faults(ring).items()}
    return faults


def _order_faults(strategy: str, rings: tuple[RingPlan, ...]) -> dict[str, str]:
    """Copies are compared before anybody is served, and something is served in the end."""
    shadows = [number for number, ring in enumerate(rings) if ring.shadow]
    if strategy == "shadow" and rings and not shadows:
        return {"rings": "a shadow rollout begins with a ring that is a shadow"}
    if shadows and len(shadows) == len(rings):
        return {"rings": "after the shadow comes at least one ring that serves"}
    late = [number for number in shadows if number >= len(shadows)]
    return {f"rings[{number}].shadow": "a shadow comes before the rings that serve" for number in late}


def _ring_faults(ring: RingPlan) -> dict[str, str]:
    faults: dict[str, str] = {}
    if not 1 <= len(ring.name) <= 40:
        faults["name"] = "has 1 to 40 characters"
    if not _whole(ring.share, 1, PARTS):
        faults["share"] = f"must be a whole number from 1 to {PARTS} parts per million"
    if ring.gate not in GATES:
        faults["gate"] = f"must be one of {', '.join(GATES)}"
    elif ring.gate == "verdict" and ring.share == PARTS:
        faults["gate"] = "with a share of 100 % there is nothing to compare with: choose time or manual"
    for name in ("bake_s", "patience_s"):
        if not _whole(getattr(ring, name), 0, MAX_S):
            faults[name] = "must be a whole number of seconds up to 30 days"
    for name in ("tenants", "users", "regions"):
        if len(getattr(ring, name)) > MAX_NAMES or not all(isinstance(each, str) for each in getattr(ring, name)):
            faults[name] = f"must be at most {MAX_NAMES} names"
    return faults


def _whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


@transaction.atomic
def act(
    *,
    by: Asker,
    rollout: Rollout,
    verb: str,
    expected_version: int | None,
    now: datetime,
    seconds: int = 0,
    reason: str = "",
) -> Rollout:
    """Do ``verb``. Said again for the same version, it is done once; ``Conflict`` when the rollout has moved on since.

    Without an expected version it is meant for whatever there is. A freeze forbids what goes on, never what goes back, nor what waits
    (for a time, for a person).
    """
    rollout = locked(rollout.pk)
    may_change(by, rollout.deployment.tenant)
    if expected_version is not None and expected_version != rollout.version:
        if _done_already(rollout, by, verb, expected_version):
            return rollout
        raise _moved_on(rollout, expected_version)
    _allowed(by, rollout, verb)
    before = rollout.state
    try:
        state = _after(rollout, verb, seconds, now)
    except Impossible as impossible:
        raise Conflict(str(impossible)) from None
    cold = frozen(rollout.deployment, now=now) if verb in GOES_ON and state.phase not in WAITING else ""
    if cold:
        raise Conflict(cold)
    move(by=by, rollout=rollout, verb=verb, state=state, reason=reason, now=now)
    summary = f"{_DONE[verb]} {rollout.deployment.slug} {rollout.release.version}"
    recorded(by, verb, rollout, summary, reason, before=before)
    return rollout


def _done_already(rollout: Rollout, by: Asker, verb: str, expected_version: int) -> bool:
    done = rollout.events.filter(version=expected_version + 1, verb=verb, actor=by.name)
    return rollout.version == expected_version + 1 and done.exists()


def _allowed(by: Asker, rollout: Rollout, verb: str) -> None:
    deployment = rollout.deployment
    if verb == "approve" and rollout.phase == "approval" and by.name in authors_of(rollout):
        raise Forbidden("Whoever made or edited a rollout does not approve it: ask another person.")
    if verb == "rollback":
        _may_go_back(rollout)
    if verb in {"retry", "rollback"} and rollout.phase in ENDED and deployment.rollouts.filter(phase__in=OPEN).exists():
        raise Conflict(f"{deployment.slug} has another rollout that is not over.")
    if verb in GOES_ON | {"resume", "extend"} and rollout.release.bad_at is not None:
        raise Conflict(f"Release {rollout.release.version} is marked bad: it is never returned to. Make a new one.")
    if verb == "retry" and deployment.stable_id != rollout.previous_id:
        raise Conflict(f"{deployment.slug} has another stable release by now: make a new rollout.")


def _may_go_back(rollout: Rollout) -> None:
    deployment, previous = rollout.deployment, rollout.previous
    if previous.bad_at is not None:
        raise Conflict(f"Release {previous.version} is marked bad: it is never returned to. Roll out another one.")
    if rollout.phase == "complete" and deployment.stable_id != rollout.release_id:
        now_stable = deployment.stable.version if deployment.stable else "nothing"
        raise Conflict(f"{deployment.slug} has gone on to {now_stable}.")


def _after(rollout: Rollout, verb: str, seconds: int, now: datetime) -> State:
    if verb == "extend":
        return domain.extend(rollout.state, rollout.plan, now, seconds=seconds)
    if verb not in domain.VERBS:
        raise Impossible(f"There is no verb {verb!r}; known are {', '.join([*domain.VERBS, 'extend'])}.")
    return domain.VERBS[verb](rollout.state, rollout.plan, now)

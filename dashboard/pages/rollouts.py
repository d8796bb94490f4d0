"""Rollouts: the board by ring, the chosen one's evidence and history, and what is frozen."""

from __future__ import annotations

import json

from controlplane.domain.rollout import OPEN, RingPlan
from controlplane.rollouts import queries
from controlplane.rollouts.actions.rollouts import DEFAULTS
from controlplane.rollouts.convergence import convergence_of
from controlplane.rollouts.models import Rollout
from controlplane.tenancy.models import Role
from dashboard.asking import Asking
from dashboard.diffs import lines_of
from dashboard.page import Context, Page, Params
from dashboard.rollout_board import columns_of, converged_of
from dashboard.rollout_course import arm_course

MOST = 60
MOST_EVENTS = 40
STRATEGIES = (
    ("rings", "Ring by ring"),
    ("canary", "Canary beside a baseline of its size, then everybody"),
    ("shadow", "Copies in the shadow first, then canary, then everybody"),
    ("blue_green", "Blue-green: both ready, switched by hand"),
)


def build(asking: Asking, params: Params) -> Context:
    rollouts = list(queries.rollouts_seen_by(asking.asker)[:MOST])
    chosen = _chosen(rollouts, params.value("rollout"))
    live = [each for each in rollouts if each.phase in OPEN]
    number = chosen.pk if chosen else None
    return {
        "title": "Rollouts",
        "columns": columns_of(rollouts, now=asking.now, chosen=number, may_operate=asking.asker.may(Role.OPERATOR)),
        "running": sum(each.phase in {"running", "promoting"} for each in live),
        "waiting": sum(each.phase in {"held", "paused", "approval"} or each.asks for each in live),
        "any": bool(rollouts),
        "deployments": list(queries.deployments_seen_by(asking.asker)[:MOST]),
        "freezes": list(queries.freezes_seen_by(asking.asker, now=asking.now)[:20]),
        "chosen": chosen,
        "may_all": asking.asker.tenant is None,
        **(_detail(asking, chosen) if chosen else {}),
    }


def _chosen(rollouts: list[Rollout], number: str) -> Rollout | None:
    if number:
        return next((each for each in rollouts if str(each.pk) == number), None)
    running = [each for each in rollouts if each.phase in OPEN and each.strategy != "blue_green"]
    return next(iter(running or rollouts), None)


def _detail(asking: Asking, chosen: Rollout) -> Context:
    events = list(queries.history_of(chosen)[:MOST_EVENTS])
    convergence = convergence_of(chosen, now=asking.now)
    return {
        "course": arm_course(chosen, events, asking.now),
        "events": events,
        "diff": lines_of(chosen.previous.config, chosen.release.config),
        "convergence": convergence,
        "converged": converged_of(chosen, convergence),
    }


PAGE = Page(
    name="rollouts",
    section="rollouts",
    template="pages/rollouts.html",
    parts={
        "rollout_summary": "rollouts/summary.html",
        "rollout_board": "rollouts/board.html",
        "rollout_course": "rollouts/course.html",
        "rollout_convergence": "rollouts/convergence.html",
        "rollout_history": "rollouts/history.html",
        "rollout_diff": "rollouts/diff.html",
        "rollout_deployments": "rollouts/deployments.html",
        "rollout_freezes": "rollouts/freezes.html",
    },
    build=build,
    params=frozenset({"rollout"}),
)


def build_new(asking: Asking, params: Params) -> Context:
    asking.asker.must(Role.OPERATOR)
    found = list(queries.deployments_seen_by(asking.asker).exclude(stable=None)[:MOST])
    chosen = next((each for each in found if each.slug == params.value("deployment")), found[0] if found else None)
    return {
        "title": "New rollout",
        "deployments": found,
        "chosen": chosen,
        "releases": list(chosen.releases.filter(bad_at=None)[:20]) if chosen else [],
        "strategies": STRATEGIES,
        "rings": rings_text(DEFAULTS["rings"]),
        "stable_config": chosen.stable.config if chosen and chosen.stable else {},
    }


def rings_text(rings: tuple[RingPlan, ...]) -> str:
    """Return rings as people edit them: shares in percent, what is empty left out."""
    shown = []
    for ring in rings:
        parts = {name: value for name, value in ring._asdict().items() if value or name == "bake_s"}
        shown.append({**parts, "share": ring.share / 10_000})
    return "[" + ",\n ".join(json.dumps(each, ensure_ascii=False) for each in shown) + "]"


NEW = Page(
    name="rollout-new",
    section="rollouts",
    template="pages/rollout_new.html",
    parts={},
    build=build_new,
    params=frozenset({"deployment"}),
)


def build_deployment(asking: Asking, params: Params) -> Context:  # noqa: ARG001
    asking.asker.must(Role.OPERATOR)
    units = (("session", "Session"), ("user", "User"), ("request", "Request"), ("tenant", "Tenant"))
    return {"title": "New deployment", "may_all": asking.asker.tenant is None, "units": units}


DEPLOYMENT = Page(
    name="deployment-new",
    section="rollouts",
    template="pages/deployment_new.html",
    parts={},
    build=build_deployment,
    params=frozenset(),
)

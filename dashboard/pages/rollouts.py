"""Rollouts: the board by ring, the chosen one's evidence and history, and what is frozen."""

from __future__ import annotations

from controlplane.domain.rollout import OPEN
from controlplane.rollouts import queries
from controlplane.rollouts.convergence import convergence_of
from controlplane.rollouts.models import Rollout
from controlplane.tenancy.models import Role
from dashboard.asking import Asking
from dashboard.diffs import lines_of
from dashboard.page import Context, Page, Params
from dashboard.rollout_board import columns_of
from dashboard.rollout_course import arm_course
from dashboard.rollout_words import converged_of

MOST = 60
MOST_EVENTS = 40


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

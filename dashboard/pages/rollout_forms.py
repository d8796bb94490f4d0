"""The forms of a rollout, new or to be edited, and of a deployment."""

from __future__ import annotations

from typing import Any

from controlplane.domain.rollout import WAITING
from controlplane.problems import Conflict
from controlplane.rollouts import queries
from controlplane.rollouts.models import Deployment, Rollout
from controlplane.tenancy.models import Role
from dashboard.asking import Asking
from dashboard.forms import Form
from dashboard.page import Context, Page, Params
from dashboard.rollout_form import STRATEGIES, preview_of, values_of

MOST = 60
MOST_RELEASES = 20
UNITS = (("session", "Session"), ("user", "User"), ("request", "Request"), ("tenant", "Tenant"))


def build_new(asking: Asking, params: Params) -> Context:
    asking.asker.must(Role.OPERATOR)
    found = list(queries.deployments_seen_by(asking.asker).exclude(stable=None)[:MOST])
    chosen = next((each for each in found if each.slug == params.value("deployment")), found[0] if found else None)
    context = {"title": "New rollout", "deployments": found, "draft": None}
    return {**context, **(_fields(asking, chosen) if chosen else {"chosen": None})}


def build_edit(asking: Asking, params: Params) -> Context:
    asking.asker.must(Role.OPERATOR)
    number = params.value("number")
    draft = queries.rollout_numbered(asking.asker, int(number) if number.isdecimal() else 0)
    if draft.phase not in WAITING:
        raise Conflict("This rollout has begun: it can be told what to do, and not be edited any more.")
    return {"title": "Edit rollout", "draft": draft, **_fields(asking, draft.deployment, draft)}


def _fields(asking: Asking, deployment: Deployment, draft: Rollout | None = None) -> dict[str, Any]:
    """Return what the form needs; the config to begin with is the draft's, or else the stable one."""
    values, begun_with = (values_of(draft), draft.release) if draft else ({}, deployment.stable)
    return {
        "chosen": deployment,
        "releases": list(deployment.releases.filter(bad_at=None).exclude(pk=deployment.stable_id or 0)[:MOST_RELEASES]),
        "strategies": STRATEGIES,
        "values": values,
        "config": begun_with.config if begun_with else {},
        "preview": preview_of(deployment, Form(values), asking.now) if draft else None,
    }


NEW = Page(
    name="rollout-new",
    section="rollouts",
    template="pages/rollout_new.html",
    parts={},
    build=build_new,
    params=frozenset({"deployment"}),
)
EDIT = Page(
    name="rollout-edit",
    section="rollouts",
    template="pages/rollout_new.html",
    parts={},
    build=build_edit,
    params=frozenset({"number"}),
)


def build_deployment(asking: Asking, params: Params) -> Context:  # noqa: ARG001
    asking.asker.must(Role.OPERATOR)
    return {"title": "New deployment", "may_all": asking.asker.tenant is None, "units": UNITS}


DEPLOYMENT = Page(
    name="deployment-new",
    section="rollouts",
    template="pages/deployment_new.html",
    parts={},
    build=build_deployment,
    params=frozenset(),
)

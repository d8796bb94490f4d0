"""Rollouts and deployments made and edited by their forms."""

from __future__ import annotations

from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone

from controlplane.problems import Invalid
from controlplane.rollouts import queries
from controlplane.rollouts.actions import deployments
from controlplane.rollouts.actions import rollouts as actions
from controlplane.rollouts.models import Rollout
from controlplane.tenancy import queries as tenancy
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import Asker
from dashboard.forms import Form
from dashboard.rollout_form import document_of, preview_of, release_of, wish_of
from dashboard.views.acts import acting, say, submit
from dashboard.views.rollouts import address_of
from dashboard.views.show import asker_behind

_BECAME = {
    "draft": "a draft", "approval": "submitted: another person has to approve it", "scheduled": "scheduled", "running": "running",
}  # fmt: skip


@acting
def create(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)

    def do(form: Form) -> str:
        deployment = queries.deployment_seen_by(asker, form.text("deployment"))
        wish = wish_of(form)
        release = release_of(asker, deployment, form)
        made = actions.create_rollout(
            by=asker, deployment=deployment, release=release, wish=wish, now=timezone.now(),
            start=form.text("do") != "draft", reason=form.text("reason"),
        )  # fmt: skip
        return _told(request, made)

    params = {"deployment": request.POST.get("deployment", "")}
    return submit(request, do, page="rollout-new", params=params)


@acting
def edit(request: HttpRequest, number: int) -> HttpResponse:
    asker = asker_behind(request)

    def do(form: Form) -> str:
        rollout = queries.rollout_numbered(asker, number)
        wish, version = wish_of(form), form.whole("expected_version")
        if version is None:
            raise Invalid("The form is not one of ours.", errors={"expected_version": "is missing"})
        release = release_of(asker, rollout.deployment, form)
        now, reason = timezone.now(), form.text("reason")
        edited = actions.edit_rollout(
            by=asker, rollout=rollout, release=release, wish=wish, expected_version=version, now=now, reason=reason
        )
        if form.text("do") != "draft":
            edited = _started(asker, edited, reason)
        return _told(request, edited)

    return submit(request, do, page="rollout-edit", params={"number": str(number)})


def _started(asker: Asker, rollout: Rollout, reason: str) -> Rollout:
    return actions.act(
        by=asker, rollout=rollout, verb="start", expected_version=rollout.version, now=timezone.now(), reason=reason
    )


def _told(request: HttpRequest, rollout: Rollout) -> str:
    became = _BECAME.get(rollout.phase, rollout.phase.replace("_", " "))
    say(request, f"{rollout.deployment.slug} {rollout.release.version} is {became}.")
    return address_of(rollout)


@acting
def preview(request: HttpRequest) -> HttpResponse:
    """Answer the fragment that says what the form would do."""
    asker = asker_behind(request)
    asker.must(Role.OPERATOR)
    form = Form.of(request.POST.dict())
    deployment = queries.deployment_seen_by(asker, form.text("deployment"))
    return render(request, "rollouts/preview.html", {"preview": preview_of(deployment, form, timezone.now())})


@acting
def create_deployment(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)

    def do(form: Form) -> str:
        tenant = tenancy.tenant_if_named(asker, form.text("tenant"))
        description = deployments.Description(
            routes=tuple(form.text("routes").replace(",", " ").split()),
            unit=form.text("unit"),
            schema=document_of(form, "schema") if form.text("schema") else None,
            needs_approval=form.text("needs_approval") == "yes",
            notify=tuple(form.text("notify").replace(",", " ").split()),
        )
        made = deployments.create_with_release(
            by=asker,
            slug=form.text("slug"),
            tenant=tenant,
            description=description,
            config=document_of(form, "config"),
            version=form.text("version"),
        )
        say(request, f"{made.slug} is there; its calls get its first release within a second.")
        return f"{reverse('rollout-new')}?{urlencode({'deployment': made.slug})}"

    return submit(request, do, page="deployment-new")

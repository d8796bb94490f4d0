"""Rollouts: made, told what to do, frozen; deployments made."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone

from controlplane.domain.rollout import RingPlan
from controlplane.problems import Invalid
from controlplane.rollouts import queries
from controlplane.rollouts.actions import deployments, freezes
from controlplane.rollouts.actions import rollouts as actions
from controlplane.rollouts.models import Deployment, Rollout
from controlplane.tenancy import queries as tenancy
from controlplane.tenancy.queries import Asker
from dashboard.forms import Form
from dashboard.views.acts import acting, say, submit
from dashboard.views.show import asker_behind

_SAID = {
    "start": "started", "approve": "approved", "pause": "paused", "resume": "resumed", "promote": "promoted",
    "promote_fully": "on its way to everybody", "switch": "switched", "skip": "past its analysis", "abort": "aborted",
    "rollback": "rolled back", "retry": "begun again", "extend": "extended",
}  # fmt: skip


def _address(rollout: Rollout) -> str:
    return f"{reverse('rollouts')}?{urlencode({'rollout': rollout.pk})}"


@acting
def act(request: HttpRequest) -> HttpResponse:
    """Tell a rollout what to do: ``verb:number:version[:seconds]``, as the button says it."""
    asker = asker_behind(request)

    def do(form: Form) -> str:
        verb, number, version, seconds, *more = [*form.text("do").split(":"), "", "", ""]
        readable = (
            number and version and (number + version + seconds).isdecimal() and len(number + version + seconds) < 19
        )
        if verb not in _SAID or any(more) or not readable:
            raise Invalid("The button is not one of ours.", errors={"do": "is not readable"})
        rollout = queries.rollouts_seen_by(asker).filter(pk=int(number)).first()
        slug = rollout.deployment.slug if rollout else ""
        done = actions.act(
            by=asker,
            rollout=queries.rollout_seen_by(asker, slug, int(number)),
            verb=verb,
            expected_version=int(version),
            now=timezone.now(),
            seconds=int(seconds or 0),
            reason=form.text("reason"),
        )
        say(
            request,
            f"{done.deployment.slug} {done.release.version} is {_SAID[verb]}. Clients hear of it within a second.",
        )
        return _address(done)

    return submit(request, do, page="rollouts", form="act_form")


@acting
def create(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)

    def do(form: Form) -> str:
        deployment = queries.deployment_seen_by(asker, form.text("deployment"))
        wish = actions.Wish(
            strategy=form.text("strategy"),
            rings=_rings(form) if form.text("strategy") == "rings" else (),
            alpha=_number(form, "alpha", 0.01) or 0.01,
            max_error_rate=_percentage(form, "max_error_rate"),
            starts_at=_moment(form, "starts_at"),
        )
        release = _release(asker, deployment, form)
        made = actions.create_rollout(
            by=asker, deployment=deployment, release=release, wish=wish, now=timezone.now(), start=True,
            reason=form.text("reason"),
        )  # fmt: skip
        say(request, f"{deployment.slug} {release.version} is {made.phase.replace('_', ' ')}.")
        return _address(made)

    params = {"deployment": request.POST.get("deployment", "")}
    return submit(request, do, page="rollout-new", params=params)


def _release(asker: Asker, deployment: Deployment, form: Form) -> Any:
    """Return the release that is named, or make the one whose config was typed."""
    if form.text("release"):
        return queries.release_of(deployment, form.text("release"))
    config = _json(form, "config")
    return deployments.create_release(
        by=asker, deployment=deployment, config=config, version=form.text("version"), notes=form.text("notes")
    )


def _json(form: Form, name: str) -> Any:
    try:
        return json.loads(form.text(name))
    except ValueError as error:
        raise Invalid("A document is not readable.", errors={name: f"is not JSON: {error}"}) from None


def _rings(form: Form) -> tuple[RingPlan, ...]:
    said = _json(form, "rings")
    rings = []
    if not isinstance(said, list):
        raise Invalid("The rings are not readable.", errors={"rings": "must be a list of rings"})
    for number, each in enumerate(said):
        unknown = set(each) - set(RingPlan._fields) if isinstance(each, dict) else {"it"}
        if unknown or not isinstance(each.get("share"), int | float) or "name" not in each:
            fault = f"must have a name and a share in percent, and nothing unknown ({', '.join(sorted(unknown))})"
            raise Invalid("The rings are not readable.", errors={f"rings[{number}]": fault})
        names = {part: tuple(each.get(part, ())) for part in ("tenants", "users", "regions")}
        rings.append(RingPlan(**{**each, **names, "share": round(each["share"] * 10_000)}))
    return tuple(rings)


def _number(form: Form, name: str, otherwise: float | None = None) -> float | None:
    text = form.text(name)
    if not text:
        return otherwise
    try:
        return float(text)
    except ValueError:
        raise Invalid("A number is not readable.", errors={name: "must be a number"}) from None


def _percentage(form: Form, name: str) -> float | None:
    value = _number(form, name)
    return None if value is None else value / 100


def _moment(form: Form, name: str) -> datetime | None:
    """Read a time in UTC as browsers send it: ``2026-11-25T14:00``."""
    text = form.text(name)
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid("A time is not readable.", errors={name: "must be like 2026-11-25T14:00"}) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@acting
def create_deployment(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)

    def do(form: Form) -> str:
        owner = form.text("tenant")
        tenant = tenancy.tenant_seen_by(asker, owner) if owner else None
        description = deployments.Description(
            routes=tuple(form.text("routes").replace(",", " ").split()),
            unit=form.text("unit"),
            needs_approval=form.text("needs_approval") == "yes",
            notify=tuple(form.text("notify").replace(",", " ").split()),
        )
        config = _json(form, "config")
        made = deployments.create_with_release(
            by=asker,
            slug=form.text("slug"),
            tenant=tenant,
            description=description,
            config=config,
            version=form.text("version"),
        )
        say(request, f"{made.slug} is there; its calls get its first release within a second.")
        return f"{reverse('rollout-new')}?{urlencode({'deployment': made.slug})}"

    return submit(request, do, page="deployment-new")


@acting
def freeze(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)

    def do(form: Form) -> str:
        owner, now = form.text("tenant"), timezone.now()
        ends_at = _moment(form, "ends_at")
        if ends_at is None:
            raise Invalid("A freeze has an end.", errors={"ends_at": "is missing"})
        made = freezes.add_freeze(
            by=asker,
            tenant=tenancy.tenant_seen_by(asker, owner) if owner else None,
            starts_at=_moment(form, "starts_at") or now,
            ends_at=ends_at,
            reason=form.text("reason"),
        )
        say(request, f"Nothing goes on until {made.ends_at:%Y-%m-%d %H:%M} UTC. Rolling back always may.")
        return reverse("rollouts")

    return submit(request, do, page="rollouts", form="freeze_form")


@acting
def thaw(request: HttpRequest, number: int) -> HttpResponse:
    asker, now = asker_behind(request), timezone.now()

    def do(_form: Form) -> str:
        freezes.end_freeze(by=asker, freeze=queries.freeze_seen_by(asker, number, now=now), now=now)
        say(request, "The freeze is over.")
        return reverse("rollouts")

    return submit(request, do, page="rollouts", form="freeze_form")

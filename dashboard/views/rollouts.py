"""Rollouts told what to do, and frozen."""

from __future__ import annotations

from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone

from controlplane.problems import Conflict, Forbidden, Invalid
from controlplane.rollouts import queries
from controlplane.rollouts.actions import freezes
from controlplane.rollouts.actions import rollouts as actions
from controlplane.rollouts.models import Rollout
from controlplane.tenancy import queries as tenancy
from dashboard.forms import Form
from dashboard.views.acts import acting, say, submit
from dashboard.views.show import asker_behind

_SAID = {
    "start": "started", "approve": "approved", "pause": "paused", "resume": "resumed", "promote": "promoted",
    "promote_fully": "on its way to everybody", "switch": "switched", "skip": "past its analysis", "abort": "aborted",
    "rollback": "rolled back", "retry": "begun again", "extend": "extended",
}  # fmt: skip


def address_of(rollout: Rollout) -> str:
    """Return where a rollout is looked at."""
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
        done = actions.act(
            by=asker,
            rollout=queries.rollout_numbered(asker, int(number)),
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
        return address_of(done)

    return submit(request, do, page="rollouts", form="act_form", told=(Invalid, Conflict, Forbidden))


@acting
def freeze(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)

    def do(form: Form) -> str:
        now = timezone.now()
        made = freezes.add_freeze(
            by=asker,
            tenant=tenancy.tenant_if_named(asker, form.text("tenant")),
            starts_at=form.moment("starts_at") or now,
            ends_at=form.due_moment("ends_at"),
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

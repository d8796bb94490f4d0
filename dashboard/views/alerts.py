"""Alerts: looked after and silenced; maintenance planned."""

from __future__ import annotations

import glob
from datetime import timedelta
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone

from controlplane.alerting import queries
from controlplane.alerting.actions import silencing
from controlplane.alerting.models import SilenceKind
from controlplane.problems import Invalid
from controlplane.tenancy import queries as tenancy
from controlplane.tenancy.models import Role
from dashboard.forms import Form
from dashboard.pages.alert_rules import named
from dashboard.views.acts import acting, say, submit
from dashboard.views.show import asker_behind

HOURS = {"1": 1, "4": 4, "24": 24, "168": 168}


@acting
def acknowledge(request: HttpRequest, number: int) -> HttpResponse:
    asker = asker_behind(request)

    def do(form: Form) -> str:
        alert, now = queries.alert_seen_by(asker, number), timezone.now()
        hours = HOURS.get(form.text("hours"))
        until = None if hours is None else now + timedelta(hours=hours)
        silencing.acknowledge(by=asker, alert=alert, now=now, until=until)
        ends = "it is over" if until is None else f"{until:%Y-%m-%d %H:%M} UTC, or it is over"
        say(request, f"You look after {alert.rule.name} {alert.label}".strip() + f" until {ends}.")
        return _shown(number)

    return submit(request, do, page="alerts", params={"alert": str(number)}, form="silence_form")


def _shown(number: int) -> str:
    return f"{reverse('alerts')}?{urlencode({'alert': number})}"


@acting
def silence(request: HttpRequest, number: int) -> HttpResponse:
    asker = asker_behind(request)
    asker.must(Role.OPERATOR)

    def do(form: Form) -> str:
        alert, now = queries.alert_seen_by(asker, number), timezone.now()
        hours = HOURS.get(form.text("hours"))
        if hours is None:
            raise Invalid("The silence has no end.", errors={"hours": "must be one of the choices"})
        made = silencing.create_silence(
            by=asker,
            tenant=alert.rule.tenant,
            rule=alert.rule,
            label=glob.escape(alert.label),
            starts_at=now,
            ends_at=now + timedelta(hours=hours),
            reason=form.text("reason"),
        )
        say(request, f"Nobody is told of it until {made.ends_at:%Y-%m-%d %H:%M} UTC.")
        return _shown(number)

    return submit(request, do, page="alerts", params={"alert": str(number)}, form="silence_form")


@acting
def plan_maintenance(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)
    asker.must(Role.OPERATOR)

    def do(form: Form) -> str:
        rule = named(asker, form.text("rule")) if form.text("rule") else None
        made = silencing.create_silence(
            by=asker,
            tenant=tenancy.tenant_if_named(asker, form.text("tenant")),
            rule=rule,
            label=form.text("label") or "*",
            starts_at=form.due_moment("starts_at"),
            ends_at=form.due_moment("ends_at"),
            reason=form.text("why"),
            kind=SilenceKind.MAINTENANCE,
            repeats=form.text("repeats"),
        )
        say(request, f"Maintenance is planned from {made.starts_at:%Y-%m-%d %H:%M} to {made.ends_at:%H:%M} UTC.")
        return reverse("alerts")

    return submit(request, do, page="alerts", form="maintenance_form")


@acting
def end_silence(request: HttpRequest, number: int) -> HttpResponse:
    asker = asker_behind(request)

    def do(_form: Form) -> str:
        silencing.end_silence(by=asker, silence=queries.silence_seen_by(asker, number), now=timezone.now())
        say(request, "The silence is over. What still fires is told with the next look.")
        return reverse("alerts")

    return submit(request, do, page="alerts", form="silence_form")

"""Alerts: looked after and silenced; rules tried, put and taken away; channels made and tested; maintenance planned."""

from __future__ import annotations

import glob
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from controlplane.alerting import past, queries
from controlplane.alerting.actions import configuring, delivering, grouping
from controlplane.alerting.models import Rule, SilenceKind
from controlplane.domain.alert_groups import Grouping
from controlplane.domain.alerts import NoData, Timing
from controlplane.problems import Invalid, Problem
from controlplane.tenancy import queries as tenancy
from controlplane.tenancy.models import Role, Tenant
from controlplane.tenancy.queries import Asker
from dashboard.figures import some
from dashboard.forms import Form
from dashboard.past_course import course_of
from dashboard.rule_forms import marked, spec_from
from dashboard.views.acts import Secret, acting, say, submit
from dashboard.views.show import asker_behind, signed_in

HOURS = {"1": 1, "4": 4, "24": 24, "168": 168}


def _tenant(asker: Asker, form: Form) -> Tenant | None:
    return tenancy.tenant_seen_by(asker, form.text("tenant")) if form.text("tenant") else None


def _rule(asker: Asker, name: str) -> Rule:
    owner, _, slug = name.partition("/")
    return queries.rule_seen_by(asker, owner or None, slug)


def _moment(form: Form, name: str) -> datetime:
    """Read a time in UTC as browsers send it: ``2026-11-25T14:00``."""
    try:
        moment = datetime.fromisoformat(form.text(name))
    except ValueError:
        raise Invalid("A time is not readable.", errors={name: "must be like 2026-11-25T14:00"}) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


# Alerts and silences.


@acting
def acknowledge(request: HttpRequest, number: int) -> HttpResponse:
    asker = asker_behind(request)

    def do(form: Form) -> str:
        alert, now = queries.alert_seen_by(asker, number), timezone.now()
        hours = HOURS.get(form.text("hours"))
        until = None if hours is None else now + timedelta(hours=hours)
        configuring.acknowledge(by=asker, alert=alert, now=now, until=until)
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
        made = configuring.create_silence(
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
        rule = _rule(asker, form.text("rule")) if form.text("rule") else None
        made = configuring.create_silence(
            by=asker,
            tenant=_tenant(asker, form),
            rule=rule,
            label=form.text("label") or "*",
            starts_at=_moment(form, "starts_at"),
            ends_at=_moment(form, "ends_at"),
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
        configuring.end_silence(by=asker, silence=queries.silence_seen_by(asker, number), now=timezone.now())
        say(request, "The silence is over. What still fires is told with the next look.")
        return reverse("alerts")

    return submit(request, do, page="alerts", form="silence_form")


# Rules.


@require_GET
@signed_in
def try_rule(request: HttpRequest) -> HttpResponse:
    """Answer the fragment that says when the rule that is being typed would have fired."""
    asker = asker_behind(request)
    asker.must(Role.OPERATOR)
    form = Form.of(request.GET.dict())
    try:
        kind = form.text("kind")
        timing = Timing(form.whole("for_s") or 0, form.whole("keep_firing_s") or 0, NoData.OK)
        eyes = past.eyes_of(asker, _tenant(asker, form))
        tried = past.try_on_past(eyes, kind, spec_from(form, kind), timing, timezone.now())
    except Problem as problem:
        return render(request, "alerts/tried.html", {"form": form.failed(problem), "now": timezone.now()})
    below = form.text("spec.op") in ("below", "at_most")
    return render(request, "alerts/tried.html", {"course": course_of(tried, below), "now": timezone.now()})


@acting
def put_rule(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)
    asker.must(Role.OPERATOR)
    known = request.POST.get("rule", "")

    def do(form: Form) -> str:
        tenant, kind = _tenant(asker, form), form.text("kind")
        before = _rule(asker, known) if known else None
        slug = before.slug if before else form.text("slug")
        if before is None and Rule.objects.filter(tenant=tenant, slug=slug, archived_at=None).exists():
            raise Invalid("There is a rule of that name already.", errors={"slug": "is taken"})
        rule = configuring.put_rule(
            by=asker,
            tenant=tenant,
            slug=slug,
            name=form.text("name"),
            kind=kind,
            spec=spec_from(form, kind, before.spec if before and before.kind == kind else None),
            for_s=form.whole("for_s") or 0,
            keep_firing_s=form.whole("keep_firing_s") or 0,
            no_data=form.text("no_data"),
            severity=form.text("severity"),
            every_s=form.whole("every_s") or 15,
            channels=[queries.channel_seen_by(asker, number) for number in _numbers(form, "channel")],
            escalate_after_s=form.whole("escalate_after_s") or 0,
            escalate_to=[queries.channel_seen_by(asker, number) for number in _numbers(form, "escalate")],
            inhibited_by=list(queries.rules_seen_by(asker).filter(pk__in=_numbers(form, "inhibited"))),
            enabled=before.enabled if before else True,
        )
        say(request, f"{rule.name} is looked at every {rule.every_s} seconds.")
        return reverse("alert-rules")

    params = {"rule": known, "kind": request.POST.get("kind", ""), "tenant": request.POST.get("tenant", "")}
    return submit(request, do, page="alert-rule-edit", params=params)


def _numbers(form: Form, prefix: str) -> list[int]:
    return [int(number) for number in marked(form, prefix) if number.isdecimal() and len(number) < 19]


@acting
def archive_rule(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)

    def do(form: Form) -> str:
        rule = _rule(asker, form.text("rule"))
        configuring.archive_rule(by=asker, rule=rule, now=timezone.now())
        say(request, f"{rule.name} is looked at no more.")
        return reverse("alert-rules")

    return submit(request, do, page="alert-rules")


@acting
def enable_rule(request: HttpRequest) -> HttpResponse:
    """Switch a rule ``on:`` or ``off:`` by its full name."""
    asker = asker_behind(request)

    def do(form: Form) -> str:
        verb, _, name = form.text("rule").partition(":")
        rule = _rule(asker, name)
        configuring.set_rule_enabled(by=asker, rule=rule, enabled=verb == "on")
        say(request, f"{rule.name} is {'on' if verb == 'on' else 'off'}.")
        return reverse("alert-rules")

    return submit(request, do, page="alert-rules")


@acting
def add_usual(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)
    asker.must(Role.OPERATOR)

    def do(form: Form) -> str:
        owner = _tenant(asker, form) or asker.tenant
        made = configuring.add_usual_rules(by=asker, tenant=owner)
        say(request, f"Added: {some(made, 'rule')}." if made else "They are all there already.")
        return reverse("alert-rules")

    return submit(request, do, page="alert-rules")


# Channels.


@acting
def create_channel(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)
    asker.must(Role.OPERATOR)

    def do(form: Form) -> str | Secret:
        channel = configuring.create_channel(
            by=asker,
            tenant=_tenant(asker, form),
            name=form.text("name"),
            kind=form.text("kind"),
            target=form.text("target"),
            allow_private=form.text("allow_private") == "yes",
        )
        if channel.secret:
            return Secret(channel.name, channel.secret)
        say(request, f"{channel.name} may be told of alerts. Send it a test.")
        return reverse("alert-channels")

    return submit(request, do, page="alert-channels")


@acting
def test_channel(request: HttpRequest, number: int) -> HttpResponse:
    asker = asker_behind(request)

    def do(_form: Form) -> str:
        channel = queries.channel_seen_by(asker, number)
        delivery = delivering.test_channel(by=asker, channel=channel, now=timezone.now())
        arrived = "arrived" if delivery.status == "sent" else "did not arrive"
        say(request, f"The test of {channel.name} {arrived}: {delivery.answer or 'no answer'}")
        return reverse("alert-channels")

    return submit(request, do, page="alert-channels")


@acting
def group_channel(request: HttpRequest, number: int) -> HttpResponse:
    asker = asker_behind(request)
    asker.must(Role.OPERATOR)

    def do(form: Form) -> str:
        channel = queries.channel_seen_by(asker, number)
        wanted = Grouping(
            tuple(marked(form, "by")),
            form.whole("group_wait_s") or 0,
            form.whole("group_interval_s") or 0,
            form.whole("repeat_interval_s") or 0,
        )
        together = form.text("grouped") == "yes"
        grouping.set_grouping(by=asker, channel=channel, grouping=wanted if together else None, now=timezone.now())
        how = "of many alerts in one message" if together else "of every change in a message of its own"
        say(request, f"{channel.name} is told {how}.")
        return reverse("alert-channels")

    return submit(request, do, page="alert-channels", params={"channel": str(number)}, form="group_form")


@acting
def archive_channel(request: HttpRequest, number: int) -> HttpResponse:
    asker = asker_behind(request)

    def do(_form: Form) -> str:
        channel = queries.channel_seen_by(asker, number)
        configuring.archive_channel(by=asker, channel=channel, now=timezone.now())
        say(request, f"{channel.name} is told nothing any more.")
        return reverse("alert-channels")

    return submit(request, do, page="alert-channels")

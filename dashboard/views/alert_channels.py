"""Channels: made, tested, grouped, taken away."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone

from controlplane.alerting import queries
from controlplane.alerting.actions import configuring, delivering, grouping
from controlplane.domain.alert_groups import Grouping
from controlplane.tenancy import queries as tenancy
from controlplane.tenancy.models import Role
from dashboard.forms import Form
from dashboard.rule_forms import marked
from dashboard.views.acts import Secret, acting, say, submit
from dashboard.views.show import asker_behind


@acting
def create(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)
    asker.must(Role.OPERATOR)

    def do(form: Form) -> str | Secret:
        channel = configuring.create_channel(
            by=asker,
            tenant=tenancy.tenant_if_named(asker, form.text("tenant")),
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
def test(request: HttpRequest, number: int) -> HttpResponse:
    asker = asker_behind(request)

    def do(_form: Form) -> str:
        channel = queries.channel_seen_by(asker, number)
        delivery = delivering.test_channel(by=asker, channel=channel, now=timezone.now())
        arrived = "arrived" if delivery.status == "sent" else "did not arrive"
        say(request, f"The test of {channel.name} {arrived}: {delivery.answer or 'no answer'}")
        return reverse("alert-channels")

    return submit(request, do, page="alert-channels")


@acting
def group(request: HttpRequest, number: int) -> HttpResponse:
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
def archive(request: HttpRequest, number: int) -> HttpResponse:
    asker = asker_behind(request)

    def do(_form: Form) -> str:
        channel = queries.channel_seen_by(asker, number)
        configuring.archive_channel(by=asker, channel=channel, now=timezone.now())
        say(request, f"{channel.name} is told nothing any more.")
        return reverse("alert-channels")

    return submit(request, do, page="alert-channels")

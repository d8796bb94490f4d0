"""Rules: tried on the past, put, switched, taken away."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from controlplane.alerting import past, queries
from controlplane.alerting.actions import configuring
from controlplane.alerting.models import Rule
from controlplane.domain.alerts import NoData, Timing
from controlplane.problems import Invalid, Problem
from controlplane.tenancy import queries as tenancy
from controlplane.tenancy.models import Role
from dashboard.figures import some
from dashboard.forms import Form
from dashboard.pages.alert_rules import named
from dashboard.past_course import course_of
from dashboard.rule_forms import marked, spec_from
from dashboard.views.acts import acting, say, submit
from dashboard.views.show import asker_behind, signed_in


@require_GET
@signed_in
def try_on_past(request: HttpRequest) -> HttpResponse:
    """Answer the fragment that says when the rule that is being typed would have fired."""
    asker = asker_behind(request)
    asker.must(Role.OPERATOR)
    form = Form.of(request.GET.dict())
    try:
        kind = form.text("kind")
        timing = Timing(form.whole("for_s") or 0, form.whole("keep_firing_s") or 0, NoData.OK)
        eyes = past.eyes_of(asker, tenancy.tenant_if_named(asker, form.text("tenant")))
        tried = past.try_on_past(eyes, kind, spec_from(form, kind), timing, timezone.now())
    except Problem as problem:
        return render(request, "alerts/tried.html", {"form": form.failed(problem), "now": timezone.now()})
    below = form.text("spec.op") in ("below", "at_most")
    return render(request, "alerts/tried.html", {"course": course_of(tried, below), "now": timezone.now()})


@acting
def put(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)
    asker.must(Role.OPERATOR)
    known = request.POST.get("rule", "")

    def do(form: Form) -> str:
        tenant, kind = tenancy.tenant_if_named(asker, form.text("tenant")), form.text("kind")
        before = named(asker, known) if known else None
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
def archive(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)

    def do(form: Form) -> str:
        rule = named(asker, form.text("rule"))
        configuring.archive_rule(by=asker, rule=rule, now=timezone.now())
        say(request, f"{rule.name} is looked at no more.")
        return reverse("alert-rules")

    return submit(request, do, page="alert-rules")


@acting
def enable(request: HttpRequest) -> HttpResponse:
    """Switch a rule ``on:`` or ``off:`` by its full name."""
    asker = asker_behind(request)

    def do(form: Form) -> str:
        verb, _, name = form.text("rule").partition(":")
        rule = named(asker, name)
        configuring.set_rule_enabled(by=asker, rule=rule, enabled=verb == "on")
        say(request, f"{rule.name} is {'on' if verb == 'on' else 'off'}.")
        return reverse("alert-rules")

    return submit(request, do, page="alert-rules")


@acting
def add_usual(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)
    asker.must(Role.OPERATOR)

    def do(form: Form) -> str:
        owner = tenancy.tenant_if_named(asker, form.text("tenant")) or asker.tenant
        made = configuring.add_usual_rules(by=asker, tenant=owner)
        say(request, f"Added: {some(made, 'rule')}." if made else "They are all there already.")
        return reverse("alert-rules")

    return submit(request, do, page="alert-rules")

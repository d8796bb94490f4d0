"""State: nodes added and removed, slots moved, owners erased."""

from __future__ import annotations

from math import isfinite, nan
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from controlplane.problems import Forbidden, Invalid, NotFound
from controlplane.state import queries
from controlplane.state.actions import nodes, owners, sessions
from dashboard.figures import some
from dashboard.forms import Form
from dashboard.views.acts import acting, say, submit
from dashboard.views.show import asker_behind, signed_in


@acting
def add_node(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)

    def do(form: Form) -> str:
        node = nodes.add_node(
            by=asker,
            kind=form.text("kind"),
            name=form.text("name"),
            url=form.text("url"),
            weight=form.whole("weight") or 1,
        )
        say(request, f"{node.name} is ready and serves nothing yet: start a rebalancing to move slots to it.")
        return reverse("state")

    return submit(request, do, page="state", form="node_form")


@acting
def remove_node(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)

    def do(_form: Form) -> str:
        kind, _, name = request.POST.get("node", "").partition("/")
        nodes.remove_node(by=asker, kind=kind, name=name)
        say(request, f"{name} is no node any more.")
        return reverse("state")

    return submit(request, do, page="state", form="node_form")


def _pace(form: Form, *, when_empty: str = "50") -> float:
    """Return slots per second; whether that is a pace is for the actions to say."""
    try:
        pace = float(form.text("slots_per_s") or when_empty)
    except ValueError:
        pace = nan
    if not isfinite(pace):
        raise Invalid("The pace is not readable.", errors={"slots_per_s": "must be a number"})
    return pace


def _what(form: Form) -> tuple[str, list[str]]:
    """Return the kind of the ring and the nodes to empty."""
    kind, _, leaving = form.text("what").partition("/")
    return kind, [leaving] if leaving else []


@require_GET
@signed_in
def preview(request: HttpRequest) -> HttpResponse:
    """Answer the fragment that says what a rebalancing would move."""
    form = Form.of(request.GET.dict())
    try:
        kind, without = _what(form)
        plan = queries.plan(asker_behind(request), kind, without=without)
        least_s = plan.slots_moving / max(_pace(form), 0.1)
    except (Forbidden, Invalid, NotFound) as problem:
        return render(request, "state/plan.html", {"problem": problem})
    return render(request, "state/plan.html", {"plan": plan, "least_s": least_s})


@acting
def rebalance(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)

    def do(form: Form) -> str:
        kind, without = _what(form)
        job = nodes.start_rebalancing(by=asker, kind=kind, without=without, slots_per_s=_pace(form))
        say(
            request,
            f"{job.slots_total} slots are on their way, at most {job.slots_per_s:g} a second. Callers notice nothing.",
        )
        return reverse("state")

    return submit(request, do, page="state", form="move_form")


@acting
def steer(request: HttpRequest) -> HttpResponse:
    """``job`` is ``12/paused`` or ``12/running``, or ``12`` alone with a new pace."""
    asker = asker_behind(request)

    def do(form: Form) -> str:
        number, _, phase = form.text("job").partition("/")
        job = nodes.steer_rebalancing(
            by=asker,
            job=int(number) if number.isdecimal() else 0,
            phase=phase or None,
            slots_per_s=None if phase else _pace(form, when_empty=""),
        )
        say(request, f"The rebalancing is {job.phase}, at most {job.slots_per_s:g} slots a second.")
        return reverse("state")

    return submit(request, do, page="state", form="steer_form")


@acting
def erase(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)
    named = {name: request.POST.get(name, "") for name in ("tenant", "kind", "owner")}

    def do(form: Form) -> str:
        erased = owners.erase_owner(by=asker, **named, reason=form.text("reason"))
        say(
            request,
            f"Erased with their history, on every tier: {some(erased, 'value')} of {named['kind']} {named['owner']}.",
        )
        return f"{reverse('state-owner')}?{urlencode(named)}"

    return submit(request, do, page="state-owner", params=named, form="erase_form")


@acting
def end_session(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)

    def do(_form: Form) -> str:
        tenant, _, session = request.POST.get("session", "").partition("/")
        erased = sessions.end_session(by=asker, tenant=tenant, session=session, now=timezone.now())
        say(request, f"Session {session} was ended. Erased: {some(erased, 'value')}. Its next use starts afresh.")
        return f"{reverse('sessions')}?{urlencode({'session': session})}"

    return submit(request, do, page="sessions")

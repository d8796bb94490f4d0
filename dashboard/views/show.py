"""Pages as a browser first gets them, and the people who may: the first rendering is that of the live frames."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.utils.safestring import mark_safe

from controlplane.problems import Problem
from controlplane.tenancy import queries as tenancy
from controlplane.tenancy.models import Operator
from controlplane.tenancy.queries import Asker, asker_of
from dashboard.page import RANGES, Context, Page, Params, context_of
from dashboard.page import render as render_parts
from dashboard.registry import PAGES

MOST_CHOICES = 200
P = ParamSpec("P")
Answer = TypeVar("Answer", bound=HttpResponseBase)


def asker_behind(request: HttpRequest) -> Asker:
    """Return who asks. Only behind ``signed_in``."""
    operator = request.user
    assert isinstance(operator, Operator)  # noqa: S101 - what login_required lets through
    return asker_of(operator)


def signed_in(
    view: Callable[Concatenate[HttpRequest, P], Answer],
) -> Callable[Concatenate[HttpRequest, P], Answer | HttpResponse]:
    """Let only signed-in people through; show a problem that the rules raise as a page with its status."""

    @wraps(view)
    def guarded(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> Answer | HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except Problem as problem:
            return render(request, "problem.html", {"problem": problem, "title": problem.title}, status=problem.status)

    return login_required(guarded)


def page_response(
    request: HttpRequest, page: Page, params: Params, more: Context | None = None, status: int = 200
) -> HttpResponse:
    """Render a page; ``more`` is for what is not live: forms with what was typed and what is wrong with it."""
    asker = asker_behind(request)
    context = context_of(page, asker, params, timezone.now())
    parts = {name: mark_safe(html) for name, html in render_parts(page, context).items()}  # noqa: S308 - our templates
    tenants = list(tenancy.tenants_seen_by(asker)[:MOST_CHOICES])
    context |= {"parts": parts, "ranges": list(RANGES.values()), "tenant_choices": tenants, **(more or {})}
    context["shows_demo"] = any(tenant.is_demo for tenant in tenants)
    return render(request, page.template, context, status=status)


def show(name: str) -> Callable[..., HttpResponse]:
    """Return the view of a page. What its path captures are parameters too."""

    @signed_in
    def view(request: HttpRequest, /, **captured: Any) -> HttpResponse:
        page = PAGES[name]
        return page_response(request, page, Params.taken(page.params, {**request.GET.dict(), **captured}))

    return view

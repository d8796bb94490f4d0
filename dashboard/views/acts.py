"""What every form does: read what was typed, call one action, go on; or show the form again with what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.views.decorators.http import require_POST

from controlplane.problems import Conflict, Invalid, Problem
from dashboard.forms import Form
from dashboard.page import Context, Params
from dashboard.registry import PAGES
from dashboard.views.show import page_response, signed_in

P = ParamSpec("P")


def acting(
    view: Callable[Concatenate[HttpRequest, P], HttpResponse],
) -> Callable[Concatenate[HttpRequest, P], HttpResponse]:
    """Let only posts of signed-in people through."""
    guarded: Callable[Concatenate[HttpRequest, P], HttpResponse] = require_POST(signed_in(view))
    return guarded


def submit(
    request: HttpRequest,
    do: Callable[[Form], str],
    *,
    page: str,
    params: dict[str, str] | None = None,
    form: str = "form",
    more: Context | None = None,
    told: tuple[type[Problem], ...] = (Invalid, Conflict),
) -> HttpResponse:
    """Call ``do`` with what was typed and go to the address that it returns.

    When the rules refuse by one of ``told``, ``page`` is shown again with the form under the name ``form``, and nothing
    has changed. Other problems get a page of their own.
    """
    typed = Form.of(request.POST.dict())
    try:
        address = do(typed)
    except told as problem:
        shown = PAGES[page]
        context = {form: typed.failed(problem), **(more or {})}
        return page_response(request, shown, Params.taken(shown.params, params or {}), context, status=problem.status)
    return HttpResponseRedirect(address)


def say(request: HttpRequest, text: str) -> None:
    """Tell on the next page what was done."""
    messages.success(request, text)

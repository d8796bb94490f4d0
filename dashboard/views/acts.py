"""What every form does: read what was typed, call one action, go on; or show the form again with what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, ParamSpec
from urllib.parse import urlsplit

from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse

from controlplane.problems import Conflict, Invalid, Problem
from dashboard.forms import Form
from dashboard.page import Context, Params
from dashboard.registry import PAGES
from dashboard.views.show import page_response, signed_in

P = ParamSpec("P")


@dataclass(frozen=True)
class Secret:
    """What was made, and the text of it that is shown in this answer only: it is kept nowhere."""

    name: str
    text: str


def acting(
    view: Callable[Concatenate[HttpRequest, P], HttpResponse],
) -> Callable[Concatenate[HttpRequest, P], HttpResponse]:
    """Let only posts of signed-in people through. Who was signed out meanwhile comes back to where the form is, not to its address."""
    acted = signed_in(view)

    @wraps(view)
    def guarded(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        if request.method != "POST":
            response = render(request, "problem.html", {"problem": _ONLY_FORMS}, status=405)
            response["Allow"] = "POST"
            return response
        if not request.user.is_authenticated:
            return redirect_to_login(_came_from(request))
        if any("\0" in value for value in request.POST.values()):
            return render(request, "problem.html", {"problem": _NOT_TEXT}, status=400)
        return acted(request, *args, **kwargs)

    return guarded


_NOT_TEXT = {
    "title": "A field is not text",
    "detail": "It has a NUL in it, which no field may have. Nothing was changed.",
}
_ONLY_FORMS = {
    "title": "Only a form leads here",
    "detail": "This address takes what a form sends. Open the page of the form.",
}


def _came_from(request: HttpRequest) -> str:
    """Return the page that the form is on, which the browser names; the overview when it names none of ours."""
    page = urlsplit(request.headers.get("Referer", ""))
    ours = page.netloc == request.get_host() and page.path != request.path
    return page._replace(scheme="", netloc="", fragment="").geturl() if ours else reverse("overview")


def submit(
    request: HttpRequest,
    do: Callable[[Form], str | Secret],
    *,
    page: str,
    params: dict[str, str] | None = None,
    form: str = "form",
    more: Context | None = None,
    told: tuple[type[Problem], ...] = (Invalid, Conflict),
) -> HttpResponse:
    """Call ``do`` with what was typed and go to the address that it returns, or show the secret that it made on ``page``.

    When the rules refuse by one of ``told``, ``page`` is shown again with the form under the name ``form``, and nothing
    has changed. Other problems get a page of their own.
    """
    typed = Form.of(request.POST.dict())
    try:
        done = do(typed)
    except told as problem:
        return _shown(request, page, params, {form: typed.failed(problem), **(more or {})}, problem.status)
    if isinstance(done, Secret):
        return _shown(request, page, params, {"secret": done.text, "secret_name": done.name})
    return HttpResponseRedirect(done)


def _shown(
    request: HttpRequest, page: str, params: dict[str, str] | None, context: Context, status: int = 200
) -> HttpResponse:
    shown = PAGES[page]
    return page_response(request, shown, Params.taken(shown.params, params or {}), context, status=status)


def say(request: HttpRequest, text: str) -> None:
    """Tell on the next page what was done."""
    messages.success(request, text)

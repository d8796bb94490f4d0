"""Signing in and out."""

from __future__ import annotations

import structlog
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

log = structlog.get_logger(__name__)


class SignIn(LoginView):
    template_name = "sign_in.html"
    redirect_authenticated_user = True


class SignOut(LogoutView):
    pass


def form_expired(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Say what a form without a valid token means: nearly always, somebody signed in again in another tab."""
    log.info("form.expired", path=request.path, reason=reason)
    problem = {
        "title": "This form is too old",
        "detail": "You have signed in or out since it was shown. Nothing was changed: open the page again and send it from there. "
        "Signing in needs cookies.",
    }
    return render(request, "problem.html", {"problem": problem}, status=403)

"""Addresses with a NUL: no text in PostgreSQL can have one, so they name nothing, and are turned down before anybody looks."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from controlplane.api.app import as_response
from controlplane.problems import Problem

View = Callable[[HttpRequest], HttpResponse]


class AddressMiddleware:
    """Answers 400 to a path or query with a NUL, however it is written."""

    def __init__(self, get_response: View) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if "\0" in request.path or "%00" in request.META.get("QUERY_STRING", ""):
            return as_response(Problem("The address has a NUL character (%00): leave it out."))
        return self._get_response(request)

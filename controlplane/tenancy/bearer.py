"""How operators' programs say who they are: ``Authorization: Bearer <operator token>``."""

from __future__ import annotations

from django.http import HttpRequest
from django.utils import timezone
from ninja.security import HttpBearer

from controlplane.tenancy.models import OperatorToken
from controlplane.tenancy.queries import Asker, asker_of, operator_of_token


class OperatorRequest(HttpRequest):
    """A request whose bearer is known."""

    auth: OperatorToken


class OperatorBearer(HttpBearer):
    """Admits live operator tokens; ``Unauthorized`` for anything else."""

    def authenticate(self, request: HttpRequest, token: str) -> OperatorToken:  # noqa: ARG002
        return operator_of_token(token, now=timezone.now())


def asker(request: HttpRequest) -> Asker:
    """Return who asks."""
    token: OperatorToken = request.auth  # type: ignore[attr-defined]  # ninja puts it there
    return asker_of(token)

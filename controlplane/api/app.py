"""The management API under ``/api/v1/``: the apps' routers, one shape for errors."""

from __future__ import annotations

from typing import Any

import orjson
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.parser import Parser

from controlplane.alerting.api import router as alerting
from controlplane.budgets.api import router as budgets
from controlplane.budgets.api_prices import router as prices
from controlplane.fleet.api import router as fleet
from controlplane.policy.api import router as policy
from controlplane.problems import Invalid, NotFound, Problem, Unauthorized
from controlplane.rollouts.api import router as rollouts
from controlplane.rollouts.api_deployments import router as deployments
from controlplane.state.api import router as state
from controlplane.telemetry.api import router as telemetry
from controlplane.tenancy.api import router as tenancy
from controlplane.tenancy.bearer import OperatorBearer


class _Strict(Parser):
    """JSON to the letter: without NaN and infinities, and only with text that is Unicode. No text has a NUL: PostgreSQL can't store it."""

    def parse_body(self, request: HttpRequest) -> Any:
        document = orjson.loads(request.body)
        if b"\\u0000" in request.body and _has_nul(document):  # JSON has no other way to spell it
            raise ValueError("a text has a NUL")
        return document


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    parts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(_has_nul, parts))


api = NinjaAPI(
    title="Tidegate management API",
    version="1",
    description="For operators' programs. Errors are problem+json; money is decimal dollars as text; lists have cursors.",
    auth=OperatorBearer(),
    parser=_Strict(),
    urls_namespace="api",
)
for router in (tenancy, policy, prices, budgets, telemetry, fleet, deployments, rollouts, state, alerting):
    api.add_router("", router)


def as_response(problem: Problem) -> HttpResponse:
    """Return a problem as problem+json."""
    response = HttpResponse(
        orjson.dumps(problem.as_json()), status=problem.status, content_type="application/problem+json"
    )
    if problem.status == Unauthorized.status:
        response["WWW-Authenticate"] = "Bearer"
    return response


@api.exception_handler(Problem)
def _problem(_: HttpRequest, problem: Problem) -> HttpResponse:
    return as_response(problem)


@api.exception_handler(AuthenticationError)
def _nobody(_: HttpRequest, error: AuthenticationError) -> HttpResponse:  # noqa: ARG001
    return as_response(Unauthorized("Send 'Authorization: Bearer <operator token>'."))


@api.exception_handler(Http404)
def _nothing(_: HttpRequest, error: Http404) -> HttpResponse:  # noqa: ARG001
    return as_response(NotFound("There is nothing at this path; /api/v1/docs lists those that there are."))


@api.exception_handler(ValidationError)
def _invalid(_: HttpRequest, error: ValidationError) -> HttpResponse:
    fields = {_field(item["loc"]): str(item["msg"]) for item in error.errors}
    return as_response(Invalid("The request is not valid: nothing was changed.", errors=fields))


@api.exception_handler(HttpError)
def _unreadable(_: HttpRequest, error: HttpError) -> HttpResponse:
    return as_response(Problem(str(error)))


def _field(place: tuple[Any, ...]) -> str:
    """Return the path of a field without where in the request it stood: ``limits.0.amount``."""
    return ".".join(str(part) for part in place if part not in {"body", "query", "path", "data"}) or "body"

"""``Idempotency-Key``: a write that is sent again is answered as it was the first time, and done once.

The answer is stored in the transaction of the write itself: both are there, or neither.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from controlplane.api.app import as_response
from controlplane.problems import Conflict, Invalid, Unauthorized
from controlplane.tenancy.models import IdempotentReply
from controlplane.tenancy.queries import operator_of_token

PREFIX = "/api/v1/"
MAX_KEY = 200
_WRITES = {"POST", "PUT", "PATCH", "DELETE"}
_NOT_KEPT = {401, 429}

View = Callable[[HttpRequest], HttpResponse]


class IdempotencyMiddleware:
    """Applies to writes of the management API that carry the header."""

    def __init__(self, get_response: View) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        key = request.headers.get("Idempotency-Key")
        if key is None or request.method not in _WRITES or not request.path.startswith(PREFIX):
            return self._get_response(request)
        try:
            caller = operator_of_token(request.headers.get("Authorization", "")[7:], now=timezone.now()).selector
        except Unauthorized as refused:
            return as_response(refused)
        if not 1 <= len(key) <= MAX_KEY:
            fault = f"must have 1 to {MAX_KEY} characters"
            return as_response(Invalid("The idempotency key is not one.", errors={"Idempotency-Key": fault}))
        return self._once(request, caller, key)

    def _once(self, request: HttpRequest, caller: str, key: str) -> HttpResponse:
        said = b"\n".join([(request.method or "").encode(), request.get_full_path().encode(), request.body])
        fingerprint = hashlib.sha256(said).hexdigest()
        try:
            with transaction.atomic():
                # A second request with the key waits here until the first has committed, then finds its row.
                reply = IdempotentReply.objects.create(caller=caller, key=key, fingerprint=fingerprint)
                response = self._get_response(request)
                if response.status_code >= 500 or response.status_code in _NOT_KEPT:
                    transaction.set_rollback(True)
                    return response
                reply.status, reply.body = response.status_code, response.content
                reply.save(update_fields=["status", "body"])
                return response
        except IntegrityError:
            return _again(caller, key, fingerprint)


def _again(caller: str, key: str, fingerprint: str) -> HttpResponse:
    reply = IdempotentReply.objects.get(caller=caller, key=key)
    if reply.fingerprint != fingerprint:
        return as_response(Conflict("This Idempotency-Key was used for another request: take a new one."))
    kind = "application/json" if (reply.status or 0) < 400 else "application/problem+json"
    response = HttpResponse(bytes(reply.body or b""), status=reply.status, content_type=kind)
    response["Idempotent-Replayed"] = "true"
    return response

"""The errors that the server's rules raise, and the one table that turns them into problem+json (RFC 9457)."""

from __future__ import annotations

from typing import Any, ClassVar


class Problem(Exception):
    """A refusal by a rule. ``detail`` says what to do; ``errors`` maps a field's path to what is wrong with it."""

    status: ClassVar[int] = 400
    kind: ClassVar[str] = "bad-request"
    title: ClassVar[str] = "The request can't be understood"

    def __init__(
        self, detail: str, *, errors: dict[str, str] | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors or {}
        self.retry_after_s = retry_after_s

    def as_json(self) -> dict[str, Any]:
        """Return the problem+json body; ``errors`` only when there are any."""
        body: dict[str, Any] = {
            "type": f"urn:tidegate:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            body["errors"] = self.errors
        return body


class Unauthorized(Problem):
    status, kind, title = 401, "unauthorized", "Who asks is not known"


class Forbidden(Problem):
    status, kind, title = 403, "forbidden", "This is not yours to do"


class NotFound(Problem):
    status, kind, title = 404, "not-found", "There is no such thing"


class Conflict(Problem):
    status, kind, title = 409, "conflict", "The change does not fit what is there"


class Ended(Problem):
    status, kind, title = 410, "ended", "Who speaks was given up long ago"


class TooLarge(Problem):
    status, kind, title = 413, "too-large", "The request is too large"


class Invalid(Problem):
    status, kind, title = 422, "invalid", "A value is not valid"


class Unavailable(Problem):
    status, kind, title = 503, "unavailable", "The server can't do this right now"

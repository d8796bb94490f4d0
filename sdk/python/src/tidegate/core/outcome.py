"""What an error of a call says: its kind, whether the provider failed, whether it was billed, whether to try again.

Providers' libraries differ, so errors are read by shape: ``status_code``, ``status``, ``code`` or ``response.status_code`` is the HTTP
status; ``retry_after_s`` or the response's ``Retry-After`` is when to come back.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

Kind = Literal["timeout", "rate_limited", "server", "other"]

_OWN_FAULTS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, NotImplementedError, SyntaxError,
    TypeError, ValueError,
)  # fmt: skip
_PASSING = frozenset({408, 409, 425, 429})


class Failure(NamedTuple):
    kind: Kind
    provider: bool  # the provider failed: counts for the breaker
    billed: bool  # may have been billed: settles at the bound
    passing: bool  # may go well when tried again
    retry_after_s: float | None


def read(error: BaseException) -> Failure:
    """Return what ``error`` says.

    A status from 400 to 499 is a provider's own "no": nothing was billed, and except for 408, 409, 425 and 429 it would say
    it again. An error of the program (``TypeError``, ``ValueError``, ``KeyError``…) is not tried again either.
    """
    status = _status(error)
    if status is None:
        timeout = isinstance(error, TimeoutError) or "timeout" in type(error).__name__.lower()
        return Failure(
            "timeout" if timeout else "other", True, True, not isinstance(error, _OWN_FAULTS), _retry_after_s(error)
        )
    turned_down = 400 <= status < 500
    passing = not turned_down or status in _PASSING
    return Failure(_kind(status), passing, not turned_down or status == 408, passing, _retry_after_s(error))


def _kind(status: int) -> Kind:
    if status == 429:
        return "rate_limited"
    if status in (408, 504):
        return "timeout"
    return "server" if status >= 500 else "other"


def _peek(holder: object, name: str) -> Any:
    try:
        return getattr(holder, name, None)
    except Exception:  # noqa: BLE001  a property of somebody's error may raise anything
        return None


def _status(error: BaseException) -> int | None:
    response = _peek(error, "response")
    for holder, name in (
        (error, "status_code"),
        (error, "status"),
        (error, "code"),
        (response, "status_code"),
        (response, "status"),
    ):
        value = _peek(holder, name)
        if isinstance(value, int) and 400 <= value <= 599:
            return int(value)
    return None


def _retry_after_s(error: BaseException) -> float | None:
    value = _peek(error, "retry_after_s")
    if value is None:
        headers = _peek(_peek(error, "response"), "headers")
        value = headers.get("retry-after") if hasattr(headers, "get") else None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return None
    return seconds if 0 <= seconds < float("inf") else None

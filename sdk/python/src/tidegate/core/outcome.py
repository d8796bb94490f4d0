"""What an error of a call says: its kind, whose fault it was, whether it was billed, whether to try again.

Providers' libraries differ, so errors are read by shape: ``status_code``, ``status``, ``code`` or ``response.status_code`` is the HTTP
status; ``retry_after_s`` or the response's ``Retry-After``, in seconds or as a date, is when to come back.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

Kind = Literal["timeout", "rate_limited", "server", "other"]
Fault = Literal["provider", "throttled", "credential", "caller"]

_OWN_FAULTS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, NotImplementedError, SyntaxError,
    TypeError, ValueError,
)  # fmt: skip
MAX_NAME = 40
_PASSING = frozenset({408, 409, 425, 429})
_CREDENTIAL = frozenset({401, 402, 403})
_HTTP_DATE = re.compile(
    r"(?:[A-Za-z]+, )?(?P<day>\d{2})[ -](?P<month>[A-Za-z]{3})[ -](?P<year>\d{4}|\d{2}) (?P<time>\d{2}:\d{2}:\d{2}) GMT"
    r"|[A-Za-z]{3} (?P<month2>[A-Za-z]{3}) (?P<day2>[ \d]\d) (?P<time2>\d{2}:\d{2}:\d{2}) (?P<year2>\d{4})",
    re.ASCII,
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


class Failure(NamedTuple):
    kind: Kind
    fault: Fault  # whose it was: decides which breaker it counts for, see ``tidegate.core.circuit``
    billed: bool  # may have been billed: settles at the bound
    passing: bool  # may go well when tried again
    retry_after_s: float | None


def read(error: BaseException, *, wall_s: float | None = None) -> Failure:
    """Return what ``error`` says. ``wall_s`` (Unix seconds) is what a Retry-After date is held against when the answer has no date.

    A status from 400 to 499 is a provider's own "no": nothing was billed, and except for 408, 409, 425 and 429 it would say
    it again. An error of the program (``TypeError``, ``ValueError``, ``KeyError``…) is not tried again either.
    """
    status = _status(error)
    if status is None:
        timeout = isinstance(error, TimeoutError) or "timeout" in type(error).__name__.lower()
        own = isinstance(error, _OWN_FAULTS)
        after_s = _retry_after_s(error, wall_s)
        return Failure("timeout" if timeout else "other", "caller" if own else "provider", True, not own, after_s)
    turned_down = 400 <= status < 500
    passing = not turned_down or status in _PASSING
    return Failure(
        _kind(status), _fault(status), not turned_down or status == 408, passing, _retry_after_s(error, wall_s)
    )


def described(error: BaseException, failure: Failure) -> str:
    """Return in a few words what an error was, as evidence: its kind, else its HTTP status, else its class."""
    if failure.kind != "other":
        return failure.kind.replace("_", " ")
    status = _status(error)
    return type(error).__name__[:MAX_NAME] if status is None else f"HTTP {status}"


def _fault(status: int) -> Fault:
    if status >= 500 or status == 408:
        return "provider"
    if status == 429:
        return "throttled"
    return "credential" if status in _CREDENTIAL else "caller"


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


def _retry_after_s(error: BaseException, wall_s: float | None) -> float | None:
    value = _peek(error, "retry_after_s")
    headers = _peek(_peek(error, "response"), "headers")
    if value is None and hasattr(headers, "get"):
        value = headers.get("retry-after") or headers.get("Retry-After")
    if isinstance(value, str) and (until := http_date(value)) is not None:
        said = headers.get("date") or headers.get("Date") if hasattr(headers, "get") else None
        since = http_date(said) if isinstance(said, str) else None
        since = wall_s if since is None else since
        return None if since is None else max(0.0, until - since)
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return None
    return seconds if 0 <= seconds < float("inf") else None


def http_date(text: str) -> float | None:
    """Return an HTTP date (RFC 9110: IMF-fixdate, RFC 850, asctime) as Unix seconds, ``None`` when it is none."""
    match = _HTTP_DATE.fullmatch(text.strip())
    if match is None:
        return None
    day, month, year, time = (match[name] or match[f"{name}2"] for name in ("day", "month", "year", "time"))
    number = int(year) if len(year) == 4 else int(year) + (1900 if int(year) >= 70 else 2000)
    try:
        hour, minute, second = (int(part) for part in time.split(":"))
        at = datetime(number, _MONTHS.index(month.lower()) + 1, int(day), hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError:
        return None
    return at.timestamp() + max(0, second - 59)

"""Reading errors of any provider's library by their shape."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from tidegate.core.fallback import in_order
from tidegate.core.outcome import Failure, described, http_date, read
from tidegate.core.policy import Fallback


class ApiError(Exception):
    def __init__(self, **attributes: Any) -> None:
        super().__init__("no")
        for name, value in attributes.items():
            setattr(self, name, value)


class ReadTimeout(Exception):
    """As httpx has it: not a TimeoutError."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError(), Failure("timeout", "provider", True, True, None)),
        (ReadTimeout(), Failure("timeout", "provider", True, True, None)),
        (ConnectionResetError(), Failure("other", "provider", True, True, None)),
        (RuntimeError("?"), Failure("other", "provider", True, True, None)),
        (json.JSONDecodeError("?", "", 0), Failure("other", "caller", True, False, None)),
        (KeyError("choices"), Failure("other", "caller", True, False, None)),
        (ApiError(status_code=429, retry_after_s=3), Failure("rate_limited", "throttled", False, True, 3.0)),
        (ApiError(status=503), Failure("server", "provider", True, True, None)),
        (ApiError(code=504), Failure("timeout", "provider", True, True, None)),
        (ApiError(status_code=400), Failure("other", "caller", False, False, None)),
        (ApiError(status_code=401), Failure("other", "credential", False, False, None)),
        (ApiError(status_code=408), Failure("timeout", "provider", True, True, None)),
        (ApiError(code="context_length_exceeded"), Failure("other", "provider", True, True, None)),
        (ApiError(status_code=True), Failure("other", "provider", True, True, None)),
        (
            ApiError(response=SimpleNamespace(status_code=429, headers={"retry-after": "1.5"})),
            Failure("rate_limited", "throttled", False, True, 1.5),
        ),
        (
            ApiError(response=SimpleNamespace(status_code=500, headers={"retry-after": "soon"})),
            Failure("server", "provider", True, True, None),
        ),
        (
            ApiError(
                response=SimpleNamespace(
                    status_code=503,
                    headers={"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT", "date": "Sun, 06 Nov 1994 08:49:07 GMT"},
                )
            ),
            Failure("server", "provider", True, True, 30.0),
        ),
        (
            ApiError(
                response=SimpleNamespace(status_code=503, headers={"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"})
            ),
            Failure("server", "provider", True, True, None),
        ),
        (ApiError(status_code=409), Failure("other", "caller", False, True, None)),
        (ApiError(retry_after_s=-1), Failure("other", "provider", True, True, None)),
        (ApiError(retry_after_s=float("nan")), Failure("other", "provider", True, True, None)),
    ],
    ids=lambda value: repr(value) if isinstance(value, Exception) else "",
)
def test_read__error__what_it_says(error: Exception, expected: Failure) -> None:
    assert read(error) == expected


@pytest.mark.parametrize(
    ("error", "words"),
    [(ApiError(status_code=503), "server"), (ApiError(status_code=429), "rate limited"), (TimeoutError(), "timeout"),
     (ApiError(status_code=401), "HTTP 401"), (ConnectionResetError(), "ConnectionResetError")],
    ids=repr,
)  # fmt: skip
def test_described__error__its_kind_or_what_else_is_known(error: Exception, words: str) -> None:
    assert described(error, read(error)) == words


def test_read__property_that_raises__as_if_it_were_not_there() -> None:
    class Odd(Exception):
        @property
        def response(self) -> None:
            raise RuntimeError("the request was never sent")

    assert read(Odd()).kind == "other"


def test_fallbacks__own_route_and_repeats__each_route_once_and_nothing_after_a_value() -> None:
    listed = [Fallback(route, None) for route in ("chat", "small", "small", "tiny")]
    listed += [Fallback(None, "busy"), Fallback("never", None)]

    assert [fallback.route for fallback in in_order(listed, route="chat")] == ["small", "tiny", None]


@pytest.mark.parametrize(
    "text",
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
    ids=["IMF-fixdate", "RFC 850", "asctime"],
)
def test_http_date__each_form_of_rfc_9110__the_same_second(text: str) -> None:
    assert http_date(text) == 784111777.0


@pytest.mark.parametrize("text", ["", "120", "soon", "Sun, 31 Feb 1994 08:49:37 GMT", "Sun, 06 Foo 1994 08:49:37 GMT"])
def test_http_date__anything_else__none(text: str) -> None:
    assert http_date(text) is None


def test_http_date__leap_second__a_second_after_the_last() -> None:
    assert http_date("Sat, 31 Dec 2016 23:59:60 GMT") == 1483228800.0


def test_read__date_without_the_answers_own__held_against_the_callers_clock() -> None:
    error = ApiError(
        response=SimpleNamespace(status_code=429, headers={"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"})
    )

    assert read(error, wall_s=784111770.5).retry_after_s == 6.5
    assert read(error, wall_s=784111800.0).retry_after_s == 0.0

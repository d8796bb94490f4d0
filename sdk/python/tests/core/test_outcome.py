"""Reading errors of any provider's library by their shape."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from tidegate.core.fallback import in_order
from tidegate.core.outcome import Failure, read
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
        (TimeoutError(), Failure("timeout", True, True, True, None)),
        (ReadTimeout(), Failure("timeout", True, True, True, None)),
        (ConnectionResetError(), Failure("other", True, True, True, None)),
        (RuntimeError("?"), Failure("other", True, True, True, None)),
        (json.JSONDecodeError("?", "", 0), Failure("other", True, True, False, None)),
        (KeyError("choices"), Failure("other", True, True, False, None)),
        (ApiError(status_code=429, retry_after_s=3), Failure("rate_limited", True, False, True, 3.0)),
        (ApiError(status=503), Failure("server", True, True, True, None)),
        (ApiError(code=504), Failure("timeout", True, True, True, None)),
        (ApiError(status_code=400), Failure("other", False, False, False, None)),
        (ApiError(status_code=401), Failure("other", False, False, False, None)),
        (ApiError(status_code=408), Failure("timeout", True, True, True, None)),
        (ApiError(code="context_length_exceeded"), Failure("other", True, True, True, None)),
        (ApiError(status_code=True), Failure("other", True, True, True, None)),
        (
            ApiError(response=SimpleNamespace(status_code=429, headers={"retry-after": "1.5"})),
            Failure("rate_limited", True, False, True, 1.5),
        ),
        (
            ApiError(response=SimpleNamespace(status_code=500, headers={"retry-after": "soon"})),
            Failure("server", True, True, True, None),
        ),
        (ApiError(retry_after_s=-1), Failure("other", True, True, True, None)),
        (ApiError(retry_after_s=float("nan")), Failure("other", True, True, True, None)),
    ],
    ids=lambda value: repr(value) if isinstance(value, Exception) else "",
)
def test_read__error__what_it_says(error: Exception, expected: Failure) -> None:
    assert read(error) == expected


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

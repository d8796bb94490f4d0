"""What is asked of the store and what it answers: names, values as JSON, items with their versions, answers that are on their way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any, Generic, NamedTuple, TypeVar

from tidegate.state.errors import StateRefused, StateUnavailable, VersionConflict
from tidegate.state.memory import ABSENT, Loaded

T = TypeVar("T")

MAX_VALUE = 64 * 1024
MAX_NAME = 200
MAX_CAP = 1000
MAX_WHOLE = 2**53 - 1
TIMEOUT_S = 5.0
WAIT_MARGIN_S = 2.0


class Item(NamedTuple):
    """A value with the version that ``cas`` takes. ``left_s``: until it expires, ``None`` when it does not."""

    value: Any
    version: int
    left_s: float | None


class Pending(Generic[T]):
    """An answer to come: ``wait()`` for it in a thread, ``await`` it in a loop."""

    def __init__(self, answer: Future[Any], finish: Callable[[Any], T]) -> None:
        self._answer = answer
        self._finish = finish

    def wait(self) -> T:
        try:
            return self._finish(self._answer.result(TIMEOUT_S + WAIT_MARGIN_S))
        except TimeoutError:
            raise StateUnavailable("The state could not be reached in time.") from None

    def __await__(self) -> Generator[Any, None, T]:
        return self._finish((yield from asyncio.shield(asyncio.wrap_future(self._answer)).__await__()))


def check_name(name: str, what: str) -> None:
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME or "\0" in name:
        raise ValueError(f"A {what} is named by 1 to {MAX_NAME} characters without NUL, got {repr(name)[:42]}.")


def check_whole(number: int, what: str) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or abs(number) > MAX_WHOLE:
        raise ValueError(f"{what} is a whole number from -{MAX_WHOLE:,} to {MAX_WHOLE:,}, got {repr(number)[:42]}.")


def json_of(value: Any) -> str:
    """Return a value as JSON; ``ValueError`` or ``TypeError`` for what is none, ``StateRefused`` for too much of it."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    if len(text) > MAX_VALUE or len(text.encode()) > MAX_VALUE:
        raise StateRefused(f"A value has at most {MAX_VALUE:,} bytes of JSON.", status=413)
    return text


def life_of(ttl: float | None) -> dict[str, Any]:
    if ttl is None:
        return {}
    if not ttl > 0:
        raise ValueError(f"ttl is in seconds and greater than 0, got {ttl}.")
    return {"ttl_ms": max(1, round(ttl * 1000))}


def once() -> dict[str, Any]:
    """Return the name of an operation that must be carried out once."""
    return {"id": secrets.token_hex(12)}


def seconds(left_ms: int | None) -> float | None:
    return None if left_ms is None else left_ms / 1000


def loaded_of(item: dict[str, Any] | None) -> Loaded:
    if item is None:
        return Loaded(ABSENT, 0, None)
    return Loaded(item["v"], int(item["n"]), seconds(item.get("left_ms")))


def result_of(answer: Any) -> int:
    return int(checked(answer)["result"])


def checked(answer: Any) -> dict[str, Any]:
    """Return an answer; raises what it says went wrong."""
    error = answer.get("error")
    if error is None:
        return {"items": None, **answer}
    status, detail = int(error.get("status") or 500), str(error.get("detail") or "The control plane said no.")
    if status == 409 and "version" in answer:
        raise VersionConflict(detail, current=int(answer["version"]))
    if status in (429, 500, 502, 503, 504):
        raise StateUnavailable(detail)
    with contextlib.suppress(AttributeError):
        detail = f"{detail} {'; '.join(f'{field}: {text}' for field, text in error.get('errors', {}).items())}".strip()
    raise StateRefused(detail, status=status)

"""What is asked of the store and what it answers: names, values as JSON, items with their versions, answers that are on their way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import Any, Generic, NamedTuple, TypeVar

from tidegate.state.errors import StateRefused, StateUnavailable, VersionConflict
from tidegate.state.memory import ABSENT, Loaded

T = TypeVar("T")

MAX_VALUE = 64 * 1024
MAX_NAME = 200
MAX_CAP = 1000
MAX_WHOLE = 2**53 - 1
MAX_DEPTH = 200
MAX_TTL_S = 10 * 366 * 86_400
MAX_TENANT = 64
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
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME or "\0" in name or not _is_utf8(name):
        raise ValueError(
            f"A {what} is named by 1 to {MAX_NAME} characters without NUL or surrogates, got {repr(name)[:42]}."
        )


def check_tenant(name: str | None) -> None:
    if name is None:
        return
    if not isinstance(name, str) or len(name) > MAX_TENANT or "\0" in name or ":" in name or not _is_utf8(name):
        raise ValueError(f"A tenant is named by its slug, of at most {MAX_TENANT} characters, got {repr(name)[:42]}.")


def _is_utf8(text: str) -> bool:
    """Tell whether UTF-8 can say it: half a pair of surrogates can't be said."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_whole(number: int, what: str) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or abs(number) > MAX_WHOLE:
        raise ValueError(f"{what} is a whole number from -{MAX_WHOLE:,} to {MAX_WHOLE:,}, got {repr(number)[:42]}.")


def check_cap(cap: int) -> None:
    if not isinstance(cap, int) or isinstance(cap, bool) or not 1 <= cap <= MAX_CAP:
        raise ValueError(f"cap is a whole number from 1 to {MAX_CAP:,}, got {repr(cap)[:42]}.")


def check_version(version: int) -> None:
    check_whole(version, "version")
    if version < 0:
        raise ValueError(f"A version is not below 0, got {version}.")


def names_of(keys: Iterable[str]) -> list[str]:
    """Return keys, each once; ``ValueError`` for one that is none, and for a text, which is no list of them."""
    if isinstance(keys, str | bytes):
        raise ValueError(f"keys is a list of names, got one: {repr(keys)[:42]}.")
    names = list(keys)
    for name in names:
        check_name(name, "key")
    return list(dict.fromkeys(names))


def json_of(value: Any) -> str:
    """Return a value as JSON; ``ValueError`` or ``TypeError`` for what is none, ``StateRefused`` for too much of it."""
    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise ValueError(f"A value is nested at most {MAX_DEPTH} levels deep.") from None
    if not _is_utf8(text):
        raise ValueError("A value is text that UTF-8 can say: it has half a pair of surrogates in it.")
    if len(text) > MAX_VALUE or len(text.encode()) > MAX_VALUE:
        raise StateRefused(f"A value has at most {MAX_VALUE:,} bytes of JSON.", status=413)
    if text.count("[") + text.count("{") > MAX_DEPTH and depth_of(json.loads(text)) > MAX_DEPTH:
        raise ValueError(f"A value is nested at most {MAX_DEPTH} levels deep.")
    return text


def depth_of(value: Any) -> int:
    """Return how many lists and dicts of a JSON value are within each other at most."""
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


def life_of(ttl: float | None) -> dict[str, Any]:
    if ttl is None:
        return {}
    if not isinstance(ttl, int | float) or isinstance(ttl, bool) or not 0 < ttl <= MAX_TTL_S:
        raise ValueError(f"ttl is in seconds, greater than 0 and at most {MAX_TTL_S:,}, got {repr(ttl)[:42]}.")
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

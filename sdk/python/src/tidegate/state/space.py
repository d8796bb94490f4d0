"""What a caller holds: ``gate.state`` and the sessions, users and topics in it. Every method has a twin for event loops, with an
``a`` before its name.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import marshal
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import Any, Generic, NamedTuple, TypeVar

from tidegate.state.errors import StateRefused, StateUnavailable, VersionConflict
from tidegate.state.memory import ABSENT, MISS, Loaded, Memory

T = TypeVar("T")

MAX_VALUE = 64 * 1024
MAX_NAME = 200
MAX_CAP = 1000
WAIT_MARGIN_S = 2.0
TIMEOUT_S = 5.0
MAX_SESSIONS = 20_000

_log = logging.getLogger("tidegate")


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


class State:
    """``gate.state``. ``submit`` sends an operation and returns the future of its answer."""

    def __init__(self, memory: Memory, submit: Callable[[dict[str, Any]], Future[Any]]) -> None:
        self.memory = memory
        self._submit = submit
        self._on_lost: list[Callable[[str | None, str], None]] = []
        self.renew()

    def renew(self) -> None:
        """Begin anew, at first and in a forked child."""
        self._lock = threading.Lock()
        self._loading: dict[tuple[str | None, str, str, str], Future[Any]] = {}
        self._generations: OrderedDict[tuple[str | None, str], int] = OrderedDict()
        self._lost: set[tuple[str | None, str]] = set()

    def session(self, session: str, *, tenant: str | None = None) -> Space:
        """Return what a session has: in Valkey, for an hour after it was last used unless the tenant's rule says otherwise."""
        return Space(self, tenant, "session", session)

    def user(self, user: str, *, tenant: str | None = None) -> Space:
        """Return what a user has, across sessions: in PostgreSQL."""
        return Space(self, tenant, "user", user)

    def shared(self, topic: str, *, tenant: str | None = None) -> Space:
        """Return what is shared under a topic by all callers of a tenant: in PostgreSQL."""
        return Space(self, tenant, "shared", topic)

    def on_session_lost(self, callback: Callable[[str | None, str], None]) -> None:
        """Call ``callback(tenant, session)`` when a session that this process knew has been lost with its store."""
        self._on_lost.append(callback)

    def describe(self) -> dict[str, Any]:
        """Return what ``gate.status()`` says of state."""
        memory = self.memory
        return {
            "entries": len(memory),
            "bytes": memory.bytes,
            "max_bytes": memory.max_bytes,
            "evicted": memory.evicted,
            "sessions_lost": len(self._lost),
        }

    # For spaces

    def send(self, op: dict[str, Any]) -> Future[Any]:
        return self._submit(op)

    def load(self, space: Space, keys: list[str]) -> dict[str, Future[Any]]:
        """Return the futures of the answers that have the keys; a key that is being loaded is not asked for again."""
        generation = self.memory.generation
        mine: Future[Any] = Future()
        with self._lock:
            found = {key: self._loading.get(space.place(key)) or mine for key in keys}
            own = [key for key in keys if found[key] is mine]
            self._loading.update((space.place(key), mine) for key in own)
        if own:
            answer = self._submit({**space.named, "op": "get", "keys": own})
            answer.add_done_callback(lambda done: self._loaded(space, own, generation, done, mine))
        return found

    def _loaded(self, space: Space, keys: list[str], generation: int, done: Future[Any], mine: Future[Any]) -> None:
        """Keep what was loaded, then let all who wait have it. Runs in the background thread."""
        with self._lock:
            for key in keys:
                self._loading.pop(space.place(key), None)
        error = done.exception()
        if error is not None:
            mine.set_exception(error)
            return
        answer = done.result()
        if "error" not in answer:
            self.note_memory(space, answer.get("memory"))
            items = answer.get("items") or {}
            for key in keys:
                self.memory.keep(space.place(key), _loaded_of(items.get(key)), generation=generation)
        mine.set_result(answer)

    def note_memory(self, space: Space, said: dict[str, Any] | None) -> None:
        """Find out whether the session's store has lost its memory since this process last saw the session."""
        if said is None:
            return
        session, generation = (space.tenant, space.owner), int(said["generation"])
        with self._lock:
            before = self._generations.pop(session, generation)
            self._generations[session] = generation
            if len(self._generations) > MAX_SESSIONS:
                self._lost.discard(self._generations.popitem(last=False)[0])
            lost = generation > before and not said["durable"] and session not in self._lost
            if lost:
                self._lost.add(session)
        if lost:
            self.memory.forget_all()
            _log.warning("tidegate: state: the session store has lost session %r; it starts afresh", space.owner)
            for callback in self._on_lost:
                try:
                    callback(space.tenant, space.owner)
                except Exception:  # noqa: BLE001  a caller's fault must not end the background thread
                    _log.exception("tidegate: state: a callback for lost sessions has failed")

    def is_lost(self, space: Space) -> bool:
        return space.kind == "session" and (space.tenant, space.owner) in self._lost


class Space:
    """A mapping of names to JSON values, of at most 64 KiB each. Raises ``StateError``.

    Reads may come from this process's memory: what others wrote a tenth of a second ago or earlier is seen (docs/state.md).
    """

    __slots__ = ("_state", "kind", "owner", "tenant")

    def __init__(self, state: State, tenant: str | None, kind: str, owner: str) -> None:
        _check_name(owner, kind)
        self._state = state
        self.tenant = tenant
        self.kind = kind
        self.owner = owner

    def __repr__(self) -> str:
        return f"<tidegate {self.kind} {self.owner!r} of {self.tenant or 'the key'}>"

    @property
    def named(self) -> dict[str, Any]:
        """How an operation names this space."""
        named: dict[str, Any] = {"kind": self.kind, "owner": self.owner}
        if self.tenant is not None:
            named["tenant"] = self.tenant
        return named

    def place(self, key: str) -> tuple[str | None, str, str, str]:
        return (self.tenant, self.kind, self.owner, key)

    @property
    def lost(self) -> bool:
        """Whether this process knew the session before its store lost it: it has started afresh since."""
        return self._state.is_lost(self)

    # Reading

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value, or ``default`` when there is none. Changing what is returned changes nothing that is kept."""
        value = self._state.memory.get((self.tenant, self.kind, self.owner, key))
        if value is MISS:
            return self._load(key, default).wait()
        return default if value is ABSENT else value

    async def aget(self, key: str, default: Any = None) -> Any:
        value = self._state.memory.get((self.tenant, self.kind, self.owner, key))
        if value is MISS:
            return await self._load(key, default)
        return default if value is ABSENT else value

    def _load(self, key: str, default: Any) -> Pending[Any]:
        _check_name(key, "key")

        def finish(answer: Any) -> Any:
            item = (_checked(answer)["items"] or {}).get(key)
            return default if item is None else item["v"]

        return Pending(self._state.load(self, [key])[key], finish)

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values that there are, by key, in one request."""
        known, unknown = self._known(keys)
        for pending in self._load_many(unknown):
            known.update(pending.wait())
        return known

    async def aget_many(self, keys: Iterable[str]) -> dict[str, Any]:
        known, unknown = self._known(keys)
        for pending in self._load_many(unknown):
            known.update(await pending)
        return known

    def _known(self, keys: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
        known, unknown = {}, []
        for key in dict.fromkeys(keys):
            value = self._state.memory.get(self.place(key))
            if value is MISS:
                _check_name(key, "key")
                unknown.append(key)
            elif value is not ABSENT:
                known[key] = value
        return known, unknown

    def _load_many(self, keys: list[str]) -> list[Pending[dict[str, Any]]]:
        def finish(wanted: list[str]) -> Callable[[Any], dict[str, Any]]:
            def pick(answer: Any) -> dict[str, Any]:
                items = _checked(answer)["items"] or {}
                return {key: items[key]["v"] for key in wanted if key in items}

            return pick

        futures = self._state.load(self, keys)
        by_answer: dict[Future[Any], list[str]] = {}
        for key, answer in futures.items():
            by_answer.setdefault(answer, []).append(key)
        return [Pending(answer, finish(wanted)) for answer, wanted in by_answer.items()]

    def read(self, key: str) -> Item | None:
        """Return the value with its version, always from the store and never from memory: what ``cas`` starts from."""
        return self._read(key).wait()

    async def aread(self, key: str) -> Item | None:
        return await self._read(key)

    def _read(self, key: str) -> Pending[Item | None]:
        _check_name(key, "key")

        def finish(answer: Any) -> Item | None:
            item = (_checked(answer)["items"] or {}).get(key)
            return None if item is None else Item(item["v"], item["n"], _seconds(item.get("left_ms")))

        return self._send({"op": "get", "keys": [key]}, finish)

    def all(self) -> dict[str, Any]:
        """Return everything that is here, always from the store."""
        return self._all().wait()

    async def aall(self) -> dict[str, Any]:
        return await self._all()

    def _all(self) -> Pending[dict[str, Any]]:
        return self._send(
            {"op": "get"}, lambda answer: {key: item["v"] for key, item in (_checked(answer)["items"] or {}).items()}
        )

    def keys(self) -> list[str]:
        """Return the names of everything that is here."""
        return sorted(self.all())

    async def akeys(self) -> list[str]:
        return sorted(await self.aall())

    # Changing

    def set(self, key: str, value: Any, ttl: float | None = None) -> int:
        """Keep a value, for ``ttl`` seconds or as long as its owner; return its version."""
        return self._set(key, value, ttl).wait()

    async def aset(self, key: str, value: Any, ttl: float | None = None) -> int:
        return await self._set(key, value, ttl)

    def _set(self, key: str, value: Any, ttl: float | None) -> Pending[int]:
        text = _json(value)
        return self._write(key, {"op": "set", "value": value, **_life(ttl)}, text, ttl)

    def cas(self, key: str, value: Any, version: int, ttl: float | None = None) -> int:
        """Keep a value if the version is still ``version`` (0: if there is none); raises ``VersionConflict`` otherwise."""
        return self._cas(key, value, version, ttl).wait()

    async def acas(self, key: str, value: Any, version: int, ttl: float | None = None) -> int:
        return await self._cas(key, value, version, ttl)

    def _cas(self, key: str, value: Any, version: int, ttl: float | None) -> Pending[int]:
        text = _json(value)
        return self._write(key, {"op": "cas", "value": value, "expected": version, **_once(), **_life(ttl)}, text, ttl)

    def _write(self, key: str, op: dict[str, Any], text: str, ttl: float | None) -> Pending[int]:
        """Send a write of ``text``; what was written is remembered, unless something newer was told of meanwhile."""
        generation = self._state.memory.generation

        def finish(answer: Any) -> int:
            self._forget_on_conflict(key, answer)
            version = int(_checked(answer)["version"])
            loaded = Loaded(marshal.dumps(json.loads(text)), version, ttl)
            self._state.memory.keep(self.place(key), loaded, generation=generation)
            return version

        return self._change(key, op, finish)

    def delete(self, key: str) -> bool:
        """Delete a value; return whether there was one."""
        return self._delete(key).wait()

    async def adelete(self, key: str) -> bool:
        return await self._delete(key)

    def _delete(self, key: str) -> Pending[bool]:
        return self._change(key, {"op": "delete"}, lambda answer: bool(_checked(answer)["existed"]))

    def incr(self, key: str, by: int = 1, ttl: float | None = None) -> int:
        """Add to a counter, which starts at 0; return what it is then. Counted once, however often it has to be sent."""
        return self._incr(key, by, ttl).wait()

    async def aincr(self, key: str, by: int = 1, ttl: float | None = None) -> int:
        return await self._incr(key, by, ttl)

    def _incr(self, key: str, by: int, ttl: float | None) -> Pending[int]:
        return self._change(key, {"op": "incr", "by": by, **_once(), **_life(ttl)}, _result)

    def append(self, key: str, item: Any, cap: int = 100, ttl: float | None = None) -> int:
        """Put an item at the end of a list, of which the newest ``cap`` (at most 1,000) stay; return how many there are then."""
        return self._append(key, item, cap, ttl).wait()

    async def aappend(self, key: str, item: Any, cap: int = 100, ttl: float | None = None) -> int:
        return await self._append(key, item, cap, ttl)

    def _append(self, key: str, item: Any, cap: int, ttl: float | None) -> Pending[int]:
        if not 1 <= cap <= MAX_CAP:
            raise ValueError(f"cap is from 1 to {MAX_CAP:,}, got {cap}.")
        _json(item)
        return self._change(key, {"op": "append", "value": item, "cap": cap, **_once(), **_life(ttl)}, _result)

    def clear(self) -> int:
        """Delete everything that is here, its history too; return how many values that were."""
        return self._clear().wait()

    async def aclear(self) -> int:
        return await self._clear()

    def _clear(self) -> Pending[int]:
        def finish(answer: Any) -> int:
            self._state.memory.forget_all()
            return _result(answer)

        return self._send({"op": "erase"}, finish)

    def _change(self, key: str, op: dict[str, Any], finish: Callable[[Any], T]) -> Pending[T]:
        _check_name(key, "key")
        self._state.memory.forget(self.place(key))

        def done(answer: Any) -> T:
            if "version" in answer:  # so that a read of ours that was under way keeps nothing older
                self._state.memory.told_of(self.place(key), int(answer["version"]))
            return finish(answer)

        return self._send({**op, "key": key}, done)

    def _forget_on_conflict(self, key: str, answer: Any) -> None:
        if "error" in answer:
            self._state.memory.forget(self.place(key))

    def _send(self, op: dict[str, Any], finish: Callable[[Any], T]) -> Pending[T]:
        def noted(answer: Any) -> T:
            self._state.note_memory(self, answer.get("memory"))
            return finish(answer)

        return Pending(self._state.send({**self.named, **op}), noted)

    # As a mapping

    def __getitem__(self, key: str) -> Any:
        value = self.get(key, MISS)
        if value is MISS:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: str) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.get(key, MISS) is not MISS


def _check_name(name: str, what: str) -> None:
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME or "\0" in name:
        raise ValueError(f"A {what} is named by 1 to {MAX_NAME} characters without NUL, got {str(name)[:40]!r}.")


def _json(value: Any) -> str:
    """Return a value as JSON; ``ValueError`` or ``TypeError`` for what is none, ``StateRefused`` for too much of it."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    if len(text) > MAX_VALUE or len(text.encode()) > MAX_VALUE:
        raise StateRefused(f"A value has at most {MAX_VALUE:,} bytes of JSON.", status=413)
    return text


def _life(ttl: float | None) -> dict[str, Any]:
    if ttl is None:
        return {}
    if not ttl > 0:
        raise ValueError(f"ttl is in seconds and greater than 0, got {ttl}.")
    return {"ttl_ms": max(1, round(ttl * 1000))}


def _once() -> dict[str, Any]:
    """Return the name of an operation that must be carried out once."""
    return {"id": secrets.token_hex(12)}


def _seconds(left_ms: int | None) -> float | None:
    return None if left_ms is None else left_ms / 1000


def _loaded_of(item: dict[str, Any] | None) -> Loaded:
    if item is None:
        return Loaded(None, 0, None)
    return Loaded(marshal.dumps(item["v"]), int(item["n"]), _seconds(item.get("left_ms")))


def _result(answer: Any) -> int:
    return int(_checked(answer)["result"])


def _checked(answer: Any) -> dict[str, Any]:
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

"""``gate.state``: sessions, users and topics, what is being loaded for them, and which sessions their store has lost."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

from tidegate.state.memory import Memory
from tidegate.state.space import Space
from tidegate.state.values import loaded_of

MAX_SESSIONS = 20_000

_log = logging.getLogger("tidegate")


class Life(NamedTuple):
    """What a session was last seen as: the life of its store, and when an operator ended it (Unix ms, 0: nobody has)."""

    generation: int
    ended_ms: int


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
        self._lives: OrderedDict[tuple[str | None, str], Life] = OrderedDict()
        self._lost: set[tuple[str | None, str]] = set()
        self._warned = 0  # the life of a store whose loss was warned of

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
        """Call ``callback(tenant, session)`` when a session has been lost with its store, or ended by an operator."""
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
            try:
                answer = self._submit({**space.named, "op": "get", "keys": own})
            except Exception as error:  # noqa: BLE001  nobody must wait for what was never asked
                answer = Future()
                answer.set_exception(error)
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
                self.memory.keep(space.place(key), loaded_of(items.get(key)), generation=generation)
        mine.set_result(answer)

    def note_memory(self, space: Space, said: dict[str, Any] | None) -> None:
        """Find out whether the session's store has lost it since this process last saw it, or an operator has ended it."""
        if said is None:
            return
        session, now = (space.tenant, space.owner), Life(int(said["generation"]), int(said.get("ended_ms", 0)))
        with self._lock:
            before = self._lives.pop(session, Life(now.generation, 0))
            self._lives[session] = now
            if len(self._lives) > MAX_SESSIONS:
                self._lost.discard(self._lives.popitem(last=False)[0])
            ended = now.ended_ms > before.ended_ms
            lost = now.generation > before.generation and not said["durable"] and session not in self._lost
            if lost or ended:
                self._lost.add(session)
        if lost or ended:
            self.memory.forget_all()
            self._say(space.owner, now, ended=ended)
            for callback in self._on_lost:
                try:
                    callback(space.tenant, space.owner)
                except Exception:  # noqa: BLE001  a caller's fault must not end the background thread
                    _log.exception("tidegate: state: a callback for lost sessions has failed")

    def _say(self, session: str, now: Life, *, ended: bool) -> None:
        """Warn of each session that was ended, and of the first one that was lost with its store: that loses all of them."""
        if ended:
            _log.warning("tidegate: state: session %r was ended by an operator; it starts afresh", session)
        elif now.generation > self._warned:
            self._warned = now.generation
            _log.warning(
                "tidegate: state: session %r, and maybe others, was lost with its store and starts afresh", session
            )
        else:
            _log.debug("tidegate: state: session %r was lost with its store and starts afresh", session)

    def is_lost(self, space: Space) -> bool:
        return space.kind == "session" and (space.tenant, space.owner) in self._lost

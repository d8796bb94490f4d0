"""What one session, user or topic has, as a caller holds it. Every method has a twin for event loops, with an ``a`` before its name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from tidegate.state.memory import Loaded
from tidegate.state.near import ABSENT, MISS, Reader, copy_of
from tidegate.state.values import (
    Item,
    Pending,
    check_cap,
    check_name,
    check_tenant,
    check_version,
    check_whole,
    checked,
    json_of,
    life_of,
    names_of,
    once,
    result_of,
    seconds,
)

if TYPE_CHECKING:
    from tidegate.state.keeping import State

T = TypeVar("T")

MAX_KEYS = 1000  # of one request


class Space(Reader):
    """A mapping of names to JSON values, of at most 64 KiB each. Raises ``StateError``.

    Reads may come from this process's memory: what others wrote a tenth of a second ago or earlier is seen (docs/state.md).
    """

    __slots__ = ("_owner", "_state")

    def __init__(self, state: State, tenant: str | None, kind: str, owner: str) -> None:
        check_name(owner, kind)
        check_tenant(tenant)
        super().__init__(state.memory.tally(tenant, kind))
        self._state = state
        self._owner = (tenant, kind, owner)

    def __copy__(self) -> Space:
        """What is lent to this one is not lent to its copy, which would not hear that it is to be forgotten."""
        return Space(self._state, *self._owner)

    def __deepcopy__(self, memo: dict[int, Any]) -> Space:
        return self.__copy__()

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} belongs to this process: send its names along, and ask the gate there for it.")

    def __repr__(self) -> str:
        return f"<tidegate {self.kind} {self.owner!r} of {self.tenant or 'the key'}>"

    @property
    def tenant(self) -> str | None:
        return self._owner[0]

    @property
    def kind(self) -> str:
        return self._owner[1]

    @property
    def owner(self) -> str:
        return self._owner[2]

    @property
    def named(self) -> dict[str, Any]:
        """How an operation names this space."""
        named: dict[str, Any] = {"kind": self.kind, "owner": self.owner}
        if self.tenant is not None:
            named["tenant"] = self.tenant
        return named

    def place(self, key: str) -> tuple[str | None, str, str, str]:
        return (*self._owner, key)

    @property
    def lost(self) -> bool:
        """Whether the session has started afresh: this process knew it before its store lost it, or an operator has ended it."""
        return self._state.is_lost(self)

    # Reading

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value, or ``default`` when there is none. Changing what is returned changes nothing that is kept."""
        value = self._take(key, default)
        if value is MISS and (value := self._recall(key, default)) is MISS:
            return self._load(key, default).wait()
        return value

    async def aget(self, key: str, default: Any = None) -> Any:
        value = self._take(key, default)
        if value is MISS and (value := self._recall(key, default)) is MISS:
            return await self._load(key, default)
        return value

    def _recall(self, key: str, default: Any) -> Any:
        if not isinstance(key, str):
            check_name(key, "key")
        return self._state.memory.read((*self._owner, key), default, self)

    def _load(self, key: str, default: Any) -> Pending[Any]:
        check_name(key, "key")

        def finish(answer: Any) -> Any:
            item = (checked(answer)["items"] or {}).get(key)
            self._state.memory.lend(self.place(key), self)
            return default if item is None else copy_of(item["v"])

        return Pending(self._state.load(self, [key])[key], finish)

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values that there are, by key, in one request for every thousand."""
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
        for key in names_of(keys):
            value = self._state.memory.get(self.place(key))
            if value is MISS:
                unknown.append(key)
            elif value is not ABSENT:
                known[key] = value
        return known, unknown

    def _load_many(self, keys: list[str]) -> list[Pending[dict[str, Any]]]:
        def finish(wanted: list[str]) -> Callable[[Any], dict[str, Any]]:
            def pick(answer: Any) -> dict[str, Any]:
                items = checked(answer)["items"] or {}
                return {key: copy_of(items[key]["v"]) for key in wanted if key in items}

            return pick

        by_answer: dict[Future[Any], list[str]] = {}
        for first in range(0, len(keys), MAX_KEYS):
            for key, answer in self._state.load(self, keys[first : first + MAX_KEYS]).items():
                by_answer.setdefault(answer, []).append(key)
        return [Pending(answer, finish(wanted)) for answer, wanted in by_answer.items()]

    def read(self, key: str) -> Item | None:
        """Return the value with its version, always from the store and never from memory: what ``cas`` starts from."""
        return self._read(key).wait()

    async def aread(self, key: str) -> Item | None:
        return await self._read(key)

    def _read(self, key: str) -> Pending[Item | None]:
        check_name(key, "key")

        def finish(answer: Any) -> Item | None:
            item = (checked(answer)["items"] or {}).get(key)
            return None if item is None else Item(item["v"], item["n"], seconds(item.get("left_ms")))

        return self._send({"op": "get", "keys": [key]}, finish)

    def all(self) -> dict[str, Any]:
        """Return everything that is here, always from the store."""
        return self._all().wait()

    async def aall(self) -> dict[str, Any]:
        return await self._all()

    def _all(self) -> Pending[dict[str, Any]]:
        return self._send(
            {"op": "get"}, lambda answer: {key: item["v"] for key, item in (checked(answer)["items"] or {}).items()}
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
        text = json_of(value)
        return self._write(key, {"op": "set", "value": json.loads(text), **life_of(ttl)}, text, ttl)

    def cas(self, key: str, value: Any, version: int, ttl: float | None = None) -> int:
        """Keep a value if the version is still ``version`` (0: if there is none); raises ``VersionConflict`` otherwise."""
        return self._cas(key, value, version, ttl).wait()

    async def acas(self, key: str, value: Any, version: int, ttl: float | None = None) -> int:
        return await self._cas(key, value, version, ttl)

    def _cas(self, key: str, value: Any, version: int, ttl: float | None) -> Pending[int]:
        text = json_of(value)
        check_version(version)
        op = {"op": "cas", "value": json.loads(text), "expected": version, **once(), **life_of(ttl)}
        return self._write(key, op, text, ttl)

    def _write(self, key: str, op: dict[str, Any], text: str, ttl: float | None) -> Pending[int]:
        """Send a write of ``text``; what was written is remembered, unless something newer was told of meanwhile."""
        generation = self._state.memory.generation

        def finish(answer: Any) -> int:
            self._forget_on_conflict(key, answer)
            version = int(checked(answer)["version"])
            loaded = Loaded(json.loads(text), version, ttl)
            self._state.memory.keep(self.place(key), loaded, generation=generation)
            self._state.memory.lend(self.place(key), self)
            return version

        return self._change(key, op, finish)

    def delete(self, key: str) -> bool:
        """Delete a value; return whether there was one."""
        return self._delete(key).wait()

    async def adelete(self, key: str) -> bool:
        return await self._delete(key)

    def _delete(self, key: str) -> Pending[bool]:
        return self._change(key, {"op": "delete"}, lambda answer: bool(checked(answer)["existed"]))

    def incr(self, key: str, by: int = 1, ttl: float | None = None) -> int:
        """Add to a counter, which starts at 0; return what it is then. Counted once, however often it has to be sent."""
        return self._incr(key, by, ttl).wait()

    async def aincr(self, key: str, by: int = 1, ttl: float | None = None) -> int:
        return await self._incr(key, by, ttl)

    def _incr(self, key: str, by: int, ttl: float | None) -> Pending[int]:
        check_whole(by, "by")
        return self._change(key, {"op": "incr", "by": by, **once(), **life_of(ttl)}, result_of)

    def append(self, key: str, item: Any, cap: int = 100, ttl: float | None = None) -> int:
        """Put an item at the end of a list, of which the newest ``cap`` (at most 1,000) stay; return how many there are then."""
        return self._append(key, item, cap, ttl).wait()

    async def aappend(self, key: str, item: Any, cap: int = 100, ttl: float | None = None) -> int:
        return await self._append(key, item, cap, ttl)

    def _append(self, key: str, item: Any, cap: int, ttl: float | None) -> Pending[int]:
        check_cap(cap)
        value = json.loads(json_of(item))
        return self._change(key, {"op": "append", "value": value, "cap": cap, **once(), **life_of(ttl)}, result_of)

    def clear(self) -> int:
        """Delete everything that is here, its history too; return how many values that were."""
        return self._clear().wait()

    async def aclear(self) -> int:
        return await self._clear()

    def _clear(self) -> Pending[int]:
        def finish(answer: Any) -> int:
            self._state.memory.forget_all()
            return result_of(answer)

        return self._send({"op": "erase"}, finish)

    def _change(self, key: str, op: dict[str, Any], finish: Callable[[Any], T]) -> Pending[T]:
        check_name(key, "key")
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
        value = self.get(key, ABSENT)
        if value is ABSENT:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: str) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.get(key, ABSENT) is not ABSENT

"""The state of ``tidegate.testing.FakeControlPlane``: a dictionary that answers operations as docs/protocol.md says."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

Owner = tuple[str, str, str]


class Kept(NamedTuple):
    value: Any
    version: int
    until: float | None  # of the fake's clock

    def left_ms(self, now: float) -> int | None:
        """Return how long the value still lives; ``None`` for ever."""
        return None if self.until is None else int((self.until - now) * 1000)


class FakeState:
    """``values`` by tenant, kind and owner, then by key. ``lose_sessions()`` forgets sessions as a cache does that has died."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.values: dict[Owner, dict[str, Kept]] = {}
        self.generation = 1
        self._version = 0
        self._ended: dict[tuple[str, str], int] = {}
        self._done: dict[str, dict[str, Any]] = {}

    def end_session(self, session: str, *, tenant: str = "acme") -> None:
        """Do what an operator does who ends a session."""
        self.values.pop((tenant, "session", session), None)
        self._ended[tenant, session] = 1 + max(self._ended.values(), default=0)

    def lose_sessions(self) -> None:
        self.generation += 1
        self.values = {owner: kept for owner, kept in self.values.items() if owner[1] != "session"}

    def answer(self, op: dict[str, Any], scope: str | None) -> dict[str, Any]:
        """Carry out an operation and return its answer."""
        known = self._done.get(op.get("id", ""))
        if known is not None:
            return known
        owner = (op.get("tenant") or scope or "", op["kind"], op["owner"])
        answer = getattr(self, f"_{op['op']}")(op, owner)
        if op["kind"] == "session":
            ended = self._ended.get((owner[0], owner[2]), 0)
            answer["memory"] = {"generation": self.generation, "durable": False, "ended_ms": ended}
        if "id" in op:
            self._done[op["id"]] = answer
        return dict(answer)

    def _live(self, owner: Owner) -> dict[str, Kept]:
        kept, now = self.values.setdefault(owner, {}), self.clock()
        for key in [key for key, each in kept.items() if each.until is not None and each.until <= now]:
            del kept[key]
        return kept

    def _put(self, op: dict[str, Any], owner: Owner, value: Any) -> dict[str, Any]:
        self._version += 1
        until = None if op.get("ttl_ms") is None else self.clock() + op["ttl_ms"] / 1000
        self._live(owner)[op["key"]] = Kept(value, self._version, until)
        return {"version": self._version}

    def _get(self, op: dict[str, Any], owner: Owner) -> dict[str, Any]:
        kept, now = self._live(owner), self.clock()
        keys = op.get("keys") or list(kept)
        return {
            "items": {
                key: {
                    "v": kept[key].value,
                    "n": kept[key].version,
                    "left_ms": kept[key].left_ms(now),
                }
                for key in keys
                if key in kept
            }
        }

    def _set(self, op: dict[str, Any], owner: Owner) -> dict[str, Any]:
        return self._put(op, owner, op["value"])

    def _cas(self, op: dict[str, Any], owner: Owner) -> dict[str, Any]:
        kept = self._live(owner).get(op["key"])
        current = kept.version if kept is not None else 0
        if current != op["expected"]:
            return {"error": {"status": 409, "title": "Conflict", "detail": "Somebody was first."}, "version": current}
        return self._put(op, owner, op["value"])

    def _delete(self, op: dict[str, Any], owner: Owner) -> dict[str, Any]:
        self._version += 1
        return {"existed": self._live(owner).pop(op["key"], None) is not None, "version": self._version}

    def _incr(self, op: dict[str, Any], owner: Owner) -> dict[str, Any]:
        kept = self._live(owner).get(op["key"])
        result = (kept.value if kept is not None else 0) + op["by"]
        return {**self._put(op, owner, result), "result": result}

    def _append(self, op: dict[str, Any], owner: Owner) -> dict[str, Any]:
        kept = self._live(owner).get(op["key"])
        items = [*(kept.value if kept is not None else []), op["value"]][-op["cap"] :]
        return {**self._put(op, owner, items), "result": len(items)}

    def _erase(self, op: dict[str, Any], owner: Owner) -> dict[str, Any]:  # noqa: ARG002  like all others
        return {"result": len(self.values.pop(owner, {}))}

"""Agents that know their users across sessions: what they prefer, what they asked, what was learnt about them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Unpack

from tidegate.call import Call
from tidegate.client import Gate
from tidegate.describing import CallOptions
from tidegate.patterns.spans import INVOKE_AGENT, span
from tidegate.state import Space, StateUnavailable, VersionConflict

PREFERENCES, HISTORY, LEARNINGS = "preferences", "history", "learnings"
TRIES = 20


@dataclass(frozen=True)
class Person:
    """What is known of a user; the newest is last."""

    preferences: dict[str, Any]
    history: list[Any]
    learnings: list[Any]


@dataclass(frozen=True)
class Told:
    """An answer, and what it taught about the user: preferences to set (``None``: to drop), and things learnt."""

    answer: Any
    prefers: dict[str, Any] = field(default_factory=dict)
    learnt: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Personal:
    """An agent with a memory of each user, in PostgreSQL. ``answer(call, said, person)`` asks the model and returns ``Told``.

    Every change is one step on one value: sessions of the same user that run at the same time lose nothing of each other.
    """

    gate: Gate
    name: str
    route: str
    answer: Callable[[Call, Any, Person], Awaitable[Told]]
    keep_history: int = 50
    keep_learnings: int = 100

    async def ask(self, user: str, said: Any, /, **options: Unpack[CallOptions]) -> Any:
        """Return the answer, and remember. Raises ``Refused``, ``StateError``, and what ``answer`` raises."""
        tenant, session, traceparent = options.get("tenant"), options.get("session"), options.pop("traceparent", None)
        options["user"] = user
        space = self._space(user, tenant)
        about = {
            "tenant": tenant,
            "user": user,
            "session": session,
            "traceparent": traceparent,
            "tracestate": options.get("tracestate"),
        }
        with span(self.gate, INVOKE_AGENT, self.name, **about):
            person = await self.know(user, tenant=tenant)
            told = await self.gate.arun(self.route, lambda call: self.answer(call, said, person), **options)
            if isinstance(told, Told):
                await self._remember(space, said, told, person)
                return told.answer
            return told  # the policy's fallback: nothing was learnt

    async def know(self, user: str, *, tenant: str | None = None) -> Person:
        """Return what is known of a user."""
        found = await self._space(user, tenant).aget_many([PREFERENCES, HISTORY, LEARNINGS])
        return Person(found.get(PREFERENCES, {}), found.get(HISTORY, []), found.get(LEARNINGS, []))

    async def prefer(self, user: str, preferences: dict[str, Any], *, tenant: str | None = None) -> None:
        """Set preferences by name; ``None`` drops one."""
        await _merge(self._space(user, tenant), preferences)

    async def forget(self, user: str, *, tenant: str | None = None) -> int:
        """Erase all that is known of a user, here and in every other process; return how many values that were."""
        return await self._space(user, tenant).aclear()

    def _space(self, user: str, tenant: str | None) -> Space:
        return self.gate.state.user(user, tenant=tenant)

    async def _remember(self, space: Space, said: Any, told: Told, person: Person) -> None:
        if told.prefers:
            await _merge(space, told.prefers)
        for learning in told.learnt:
            if learning not in person.learnings:
                await space.aappend(LEARNINGS, learning, cap=self.keep_learnings)
        await space.aappend(HISTORY, said, cap=self.keep_history)


async def _merge(space: Space, preferences: dict[str, Any]) -> None:
    for _ in range(TRIES):
        item = await space.aread(PREFERENCES)
        merged = {**(item.value if item is not None else {}), **preferences}
        merged = {name: value for name, value in merged.items() if value is not None}
        try:
            await space.acas(PREFERENCES, merged, item.version if item is not None else 0)
        except VersionConflict:
            continue
        return
    raise StateUnavailable(f"The preferences of {space.owner!r} changed all the time.")

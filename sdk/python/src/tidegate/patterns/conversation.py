"""Conversations whose context is kept in the session: whichever process takes the next turn knows what was said before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Unpack

from tidegate.call import Call
from tidegate.client import Gate
from tidegate.describing import CallOptions
from tidegate.patterns.spans import INVOKE_AGENT, span

TURNS, COUNT = "turns", "count"


class Turn(NamedTuple):
    """What was said, and what was answered: JSON."""

    said: Any
    answered: Any


@dataclass(frozen=True)
class Reply:
    """An answer. ``number`` is the turn's, from 1, or 0 for the policy's fallback, which is not kept; ``afresh`` tells that the session had a context and has lost it."""

    answer: Any
    number: int
    afresh: bool


@dataclass(frozen=True)
class Conversation:
    """An agent that remembers the session's newest ``keep`` turns. ``answer(call, said, turns)`` asks the model.

    A turn is appended in one step when it was answered, so that two at once, in two processes, both stay, in some order; one
    that fails leaves nothing behind. Turns together must stay below 64 KiB.
    """

    gate: Gate
    name: str
    route: str
    answer: Callable[[Call, Any, list[Turn]], Awaitable[Any]]
    keep: int = 20

    async def say(self, session: str, said: Any, /, **options: Unpack[CallOptions]) -> Reply:
        """Take a turn. Raises ``Refused``, ``StateError``, and what ``answer`` raises."""
        tenant, traceparent = options.get("tenant"), options.pop("traceparent", None)
        options["session"] = session
        space = self.gate.state.session(session, tenant=tenant)
        about = {
            "tenant": tenant, "user": options.get("user"), "session": session, "traceparent": traceparent,
            "tracestate": options.get("tracestate"),
        }  # fmt: skip
        with span(self.gate, INVOKE_AGENT, self.name, **about):
            turns = [Turn(*turn) for turn in await space.aget(TURNS, [])]
            made: list[Any] = []

            async def ask(call: Call) -> Any:
                made.append(await self.answer(call, said, turns))
                return made[-1]

            answered = await self.gate.arun(self.route, ask, **options)
            if not any(each is answered for each in made):
                return Reply(answered, 0, afresh=not turns and space.lost)
            _, number = await asyncio.gather(space.aappend(TURNS, [said, answered], cap=self.keep), space.aincr(COUNT))
            return Reply(answered, number, afresh=not turns and space.lost)

    async def turns(self, session: str, *, tenant: str | None = None) -> list[Turn]:
        """Return the turns that are remembered, the oldest first."""
        found = await self.gate.state.session(session, tenant=tenant).aget(TURNS, [])
        return [Turn(*turn) for turn in found]

    async def end(self, session: str, *, tenant: str | None = None) -> None:
        """Forget the session: its next turn is its first."""
        await self.gate.state.session(session, tenant=tenant).aclear()

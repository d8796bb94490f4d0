"""Stateless request and response: an answer depends on nothing but the request, so any process may give it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar, Unpack

from tidegate.call import Call
from tidegate.client import Gate
from tidegate.describing import CallOptions
from tidegate.patterns.spans import INVOKE_AGENT, span

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True)
class Stateless(Generic[Q, A]):
    """An agent without a memory. ``answer(call, request)`` asks the model, and records what the call used."""

    gate: Gate
    name: str
    route: str
    answer: Callable[[Call, Q], Awaitable[A]]

    async def ask(self, request: Q, **options: Unpack[CallOptions]) -> A:
        """Return the answer, with the policy's retries, timeout and fallbacks. Raises ``Refused``, and what ``answer`` raises."""
        said = {name: options.get(name) for name in ("tenant", "user", "session", "traceparent", "tracestate")}
        options.pop("traceparent", None)
        with span(self.gate, INVOKE_AGENT, self.name, **said):  # type: ignore[arg-type]  # texts, by CallOptions
            return await self.gate.arun(self.route, lambda call: self.answer(call, request), **options)

"""Agents of a mesh, and errands: what goes along when a step is done in another process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from tidegate.patterns.work import Work


class Errand(TypedDict):
    """A step on its way to another process: JSON, for whatever queue takes it there. ``until`` is in Unix seconds."""

    run: str
    path: str
    agent: str
    attempt: int
    input: Any
    results: dict[str, Any]
    nusd: int | None
    calls: int | None
    until: float
    traceparent: str
    tracestate: NotRequired[str]


@dataclass(frozen=True)
class Agent:
    """An agent and its limits: ``usd`` and ``calls`` of one step, ``at_once`` steps in this process, ``tries`` of each step.

    With ``send`` it works elsewhere: ``send(errand)`` takes the step there, where ``Mesh.perform(errand)`` is awaited. What the
    step may cost is set aside while it is away, so ``usd`` must be given. A process that only performs needs no ``send``.
    """

    name: str
    work: Callable[[Work], Awaitable[Any]] | None = None
    usd: str | None = None
    calls: int | None = None
    at_once: int | None = None
    tries: int = 1
    timeout_s: float | None = None
    send: Callable[[Errand], Awaitable[None]] | None = None

    def __post_init__(self) -> None:
        if self.send is not None and self.usd is None:
            raise ValueError(f"The agent {self.name!r} works elsewhere: say what it may take along, usd=….")
        if self.send is None and self.work is None:
            raise ValueError(f"The agent {self.name!r} needs a function, work=…, or a way to send it errands, send=….")
        if self.tries < 1:
            raise ValueError(f"The agent {self.name!r} needs at least one try.")

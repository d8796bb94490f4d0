"""Agents that ask a model, and what that costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import tidegate
from tidegate.patterns import (
    Work,
)
from tidegate.testing import FakeControlPlane

CALL_NUSD = 1000 * 150 + 500 * 600  # what ``ask`` costs by the fake's prices: $0.00045


async def ask(work: Work, **more: Any) -> None:
    async def model(call: tidegate.Call) -> None:
        call.record(input_tokens=1000, output_tokens=500)

    options: dict[str, Any] = {"model": "gpt-4o-mini", "input_tokens": 1000, "max_output_tokens": 500, **more}
    await work.call("agent", model, **options)


async def run_away(work: Work) -> None:
    while True:
        await ask(work)


def says(answer: Any, done: Counter[str] | None = None) -> Callable[[Work], Awaitable[Any]]:
    async def work(work: Work) -> Any:
        if done is not None:
            done[work.path] += 1
        await ask(work)
        return answer

    return work


def charged(plane: FakeControlPlane) -> int:
    """What calls did cost, as the gate counts them; closed gates have said everything."""
    return plane.total("cost_nusd")

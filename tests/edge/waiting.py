"""Waiting for what comes about by itself: a change is heard, something is read again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE_S = 30.0


async def eventually(ask: Callable[[], Awaitable[T | None]]) -> T:
    """Return the first true answer of ``ask``; ``TimeoutError`` when there is none in ``PATIENCE_S``."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answer = await ask()
            if answer:
                return answer
            await asyncio.sleep(0.01)

"""Work in small pieces, with rests between them: the threads of the host have the interpreter in the meantime.

A thread that wants the interpreter waits until who has it rests (or for five milliseconds, Python's switch interval). So no piece is
longer than a quarter of a millisecond and the step that it ends with.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

PIECE_S = 0.00025
REST_S = 0.0005


async def at_leisure(steps: Generator[None, None, T]) -> T:
    """Return what comes of ``steps``."""
    until = time.monotonic() + PIECE_S
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result
        if time.monotonic() >= until:
            await asyncio.sleep(REST_S)
            until = time.monotonic() + PIECE_S

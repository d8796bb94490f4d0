"""What the examples have in common: a client of any server that speaks OpenAI's chat completions, and a loop.

TIDEGATE_URL=… TIDEGATE_KEY=… OPENAI_BASE_URL=… OPENAI_API_KEY=… python stateless.py [--every SECONDS]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import signal
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import tidegate

BASE_URL = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
MODEL = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")
MOST_OUT = 300
ERRORS = (tidegate.Refused, tidegate.StateError, OSError, ValueError)


def weigh(text: str) -> int:
    """Return about how many tokens a text has, from above."""
    return 16 + len(text) // 2


async def complete(call: tidegate.Call, text: str, *, most: int = MOST_OUT) -> str:
    """Ask the model, record what it used, and return its words."""
    return await asyncio.to_thread(_complete, call, text, most)


def _complete(call: tidegate.Call, text: str, most: int) -> str:
    body: dict[str, Any] = {
        "model": call.model or MODEL,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": most,
    }
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', '')}",
        "traceparent": call.traceparent,
    }
    request = urllib.request.Request(f"{BASE_URL}/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=call.timeout_s or 60) as reply:
        said = json.load(reply)
    used = said["usage"]
    call.record(input_tokens=used["prompt_tokens"], output_tokens=used["completion_tokens"])
    return str(said["choices"][0]["message"]["content"])


def main(act: Callable[[tidegate.Gate, argparse.Namespace, int], Awaitable[str]], *, turns: int = 3) -> None:
    """Run ``act(gate, arguments, number)`` some times, or for ever: ``--every`` so many seconds, up to ``--at-once`` side by side."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tenant", action="append", help="one or more; by default the key's own")
    parser.add_argument("--every", type=float, default=0.0, help="seconds; 0: a few times, then no more")
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--usd", default="0.02", help="what one run of a mesh may cost")
    parser.add_argument("--celery", action="store_true", help="have the mesh's validator work in a Celery worker")
    said = parser.parse_args()
    with tidegate.connect(app=f"example-{Path(sys.argv[0]).stem}") as gate:
        asyncio.run(_loop(gate, said, act, turns))


async def _loop(
    gate: tidegate.Gate,
    said: argparse.Namespace,
    act: Callable[[tidegate.Gate, argparse.Namespace, int], Awaitable[str]],
    turns: int,
) -> None:
    stopped, places = asyncio.Event(), asyncio.Semaphore(said.at_once)
    for stopping in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(stopping, stopped.set)

    say = _Minutely() if said.every else print

    async def one(number: int) -> None:
        try:
            say(await act(gate, said, number))
        except ERRORS as error:
            say(f"{type(error).__name__}: {error}")
        finally:
            places.release()

    working = set[asyncio.Task[None]]()
    for number in itertools.count() if said.every else range(turns):
        await places.acquire()
        task = asyncio.create_task(one(number))
        working.add(task)
        task.add_done_callback(working.discard)
        if not said.every:
            await task
            continue
        try:
            await asyncio.wait_for(stopped.wait(), random.expovariate(1 / said.every))
            break
        except TimeoutError:
            continue
    for task in working:
        task.cancel()
    await asyncio.gather(*working, return_exceptions=True)


class _Minutely:
    """Prints one of the lines it is given each minute, and how many there were."""

    def __init__(self) -> None:
        self._count, self._next = 0, time.monotonic() + 10

    def __call__(self, line: str) -> None:
        self._count += 1
        if time.monotonic() >= self._next:
            print(f"{line} ({self._count} like it)", flush=True)
            self._count, self._next = 0, time.monotonic() + 60


def tenant_of(said: argparse.Namespace, number: int) -> str | None:
    return said.tenant[number % len(said.tenant)] if said.tenant else None

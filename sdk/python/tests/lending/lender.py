"""A bench that lends, and what can be asked of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import tidegate
from sdk.python.tests.bench import Bench
from tidegate.caller import Caller
from tidegate.swift import SwiftCall
from tidegate.wrapping import Wrapped

PRICED = {"model": "gpt-4o-mini", "input_tokens": 400, "max_output_tokens": 800}
BOUND, COST = 540_000, 120_000
PLENTY = 10**12
LIMIT = {"unit": "requests", "amount": 60, "per_s": 60, "scope": "instance"}
TOKENS = {"unit": "tokens", "amount": 100_000, "per_s": 60, "scope": "instance"}
QUEUE = {"max_concurrent": 20, "max_waiting": 2, "max_wait_ms": 0}
BREAKER = {"min_calls": 6, "failure_rate": 0.5, "open_s": 5}
RELEASED = {
    "id": 7, "unit": "request", "salt": "s", "routes": ["chat"], "step": 3, "stable": "old", "window_s": 30, "rings": [],
    "releases": {"old": {"version": "1", "config": {"m": "a"}}, "new": {"version": "2", "config": {"m": "b"}}},
}  # fmt: skip
POLICY: dict[str, Any] = {"limits": [LIMIT, TOKENS], "queue": QUEUE, "breaker": BREAKER, "retry": {"max_attempts": 3}}


class Turned(Exception):
    status_code = 429


class Lender(Bench):
    """A bench whose calls are made as a gate makes them, and lent to from the first on."""

    def __init__(self) -> None:
        super().__init__()
        self.guard.warm_calls = 0
        self.caller = Caller(self.guard, self.tracer)

    def call(self, route: str = "chat", **options: Any) -> tidegate.Call:
        return self.caller.call(route, **options)

    def guarded(self, fn: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        return Wrapped(self.caller, "chat", None, options).decorate(fn)  # type: ignore[arg-type]

    def swift(self, **options: Any) -> SwiftCall:
        """Return a call that has begun on credit."""
        while True:
            call = self.call(**options)
            call.admit()
            if isinstance(call, SwiftCall) and call.cell is not None:
                return call
            call.settle(None, last=True)


def books(bench: Bench) -> dict[str, Any]:
    """Return all that a guard knows, in a form that can be compared."""
    guard = bench.guard
    with guard.lock:
        guard.gather()
    window = guard.report.window(bench.clock.wall_ms())
    return {
        "rows": {key: row.as_sent(key) for key, row in window.rows.items()},
        "users": dict(window.users),
        "arms": {key: row.as_sent(key) for key, row in window.arms.items()},
        "leases": {number: slip.lease for number, slip in guard.leases.slips.items()},
        "running": {key: lane.line.running for key, lane in guard.lanes.items()},
        "requests": {
            key: [round(held.tokens, 6) for (_, unit, _), held in lane.buckets.items() if unit == "requests"]
            for key, lane in guard.lanes.items()
        },
        "retries": {key: round(lane.retries.balance, 6) for key, lane in guard.lanes.items()},
        "breakers": {
            key: (circuit.provider.view(circuit.rule, bench.clock.now()), sorted(circuit.credentials))
            for key, circuit in guard.breakers.items()
        },
        "unpriced": guard.unpriced_calls,
        "sessions": guard.report.sessions(bench.clock.now()),
        "in flight": guard.in_flight,
    }


def cancelling() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task is not None else -1


def in_threads(work: Callable[[int], None], threads: int = 8) -> None:
    raised: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001  raised in the test
            raised.append(error)

    workers = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not raised

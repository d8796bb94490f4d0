"""A call that is cancelled, at any point and in any order of things, gives back every place, permit, hold and token that it took."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sdk.python.tests.bench import Bench
from sdk.python.tests.interleaving.explorer import MOMENTS, Moment, Work, run
from tidegate.books import Books
from tidegate.call import Call
from tidegate.caller import Caller
from tidegate.core.circuit import Circuit
from tidegate.core.queue import Line
from tidegate.deadlines import Deadlines
from tidegate.errors import Refused
from tidegate.guard import Guard
from tidegate.harvest import Harvest
from tidegate.leasing import Leases
from tidegate.running import arun
from tidegate.swift import SwiftCall
from tidegate.waiting import LoopWaiter

SEEDS = range(4)
CALLERS = 3
BURST = 1000
QUEUE = {"max_concurrent": 1, "max_waiting": 8, "max_wait_ms": 60_000}
LIMIT = {"unit": "requests", "amount": BURST, "per_s": 86_400, "scope": "instance"}
RETRY = {"max_attempts": 2, "base_ms": 1, "max_ms": 1, "jitter": "none"}
BREAKER = {"min_calls": 2, "open_s": 1, "half_open_calls": 1}


class Scene:
    """A bench, three callers, and how often a provider was really asked."""

    def __init__(self, policy: dict[str, Any], *, budget: bool, half_open: bool, fails: int, entered: bool) -> None:
        self.bench = Bench()
        self.fails = fails
        self.entered = entered
        self.asked = 0
        self.booked = 0  # what the windows say that were sent
        self.cost = {"cost_usd": "0.10"}
        if budget:
            self.bench.budget("all")
        self.bench.policy(policy)
        self.bench.policy({**policy, "fallbacks": []}, route="small")
        if half_open:
            self._half_open()

    def _half_open(self) -> None:
        """Open the breakers and let their time pass: one probe may go out."""
        for route in ("chat", "small"):
            for _ in range(2):
                call = self.bench.call(route)
                self.bench.guard.advance(call)
                if call.stage == "funding":
                    self.sync(10)  # the probe will have to wait for more
                    self.bench.guard.advance(call)
                self.asked += 1
                call.settle(TimeoutError(), last=True)
        self.bench.clock.advance(2)

    def call(self, user: str) -> Call:
        return self.bench.call(user=user, **self.cost)

    async def answer(self, call: Call) -> str:
        self.asked += 1
        for _ in range(2):
            await asyncio.sleep(0)
        if call.user == "1" and call.attempts <= self.fails:
            raise TimeoutError
        await asyncio.sleep(0.003 if call.user == "1" and not call.hedge else 0)
        return "answered"

    def works(self) -> list[Work]:
        return [self._work(str(number)) for number in range(CALLERS)]

    def _work(self, user: str) -> Work:
        async def ran() -> None:
            await arun(self.bench.plan(user=user, **self.cost), "chat", self.answer)

        async def entered() -> None:
            async with self.call(user) as call:
                await self.answer(call)

        async def told() -> None:
            try:
                await (entered() if self.entered else ran())
            except (Refused, TimeoutError):
                return

        return told

    def meanwhile(self, turn: int) -> None:
        """The control plane funds what waits, now and then."""
        if turn % 4 == 3:
            self.sync(200_000_000)

    def sync(self, nusd: int) -> None:
        request, _ = self.bench.sync(grant=nusd)
        self.booked += sum(row["cost_nusd"] for window in request["windows"] for row in window["rows"])

    def check(self) -> None:
        guard = self.bench.guard
        assert not guard.running
        assert not guard.waiting
        for lane in guard.lanes.values():
            assert (lane.line.running, lane.line.waiting) == (0, 0)
        for circuit in guard.breakers.values():
            breaker = circuit.provider
            assert not breaker._probes
            assert not breaker._flight
            assert not breaker._hung
        for path in guard.leases.paths.values():
            assert not path.waiting
            assert path.slip.lease.held == 0
        spent = sum(slip.lease.settled for slip in guard.leases.slips.values())
        if guard.leases.slips:
            assert spent == self.booked + self.bench.row().cost_nusd
        tokens = [lane.buckets[key].tokens for lane in guard.lanes.values() for key in lane.buckets]
        if tokens:
            taken = sum(BURST - left for left in tokens)
            assert taken == pytest.approx(self.asked, abs=0.1)  # the clock of the bench fills in a little

    def goes_on(self) -> None:
        """Somebody who comes later is served."""
        self.bench.clock.advance(120)
        call = self.bench.call(**self.cost)
        waiter = self.bench.guard.advance(call)
        if waiter is not None:
            self.sync(10**9)
            assert self.bench.guard.advance(call) is None
        call.settle(None, last=True)
        self.check_free()

    def check_free(self) -> None:
        assert not self.bench.guard.running


class OnCredit(Scene):
    """Calls that pass on credit that was lent to their kind, without the guard's lock."""

    def __init__(self, policy: dict[str, Any]) -> None:
        super().__init__(policy, budget=True, half_open=False, fails=0, entered=True)
        self.cost = {"model": "gpt-4o-mini", "input_tokens": 100, "max_output_tokens": 100}
        self.lent = 0
        self.bench.fund(10**9, **self.cost)
        self.bench.guard.warm_calls = 0
        self.caller = Caller(self.bench.guard, self.bench.tracer)
        for _ in range(2):
            with self.call(""):
                self.asked += 1

    def call(self, user: str) -> Call:
        return self.caller.call("chat", user=user or None, **self.cost)

    async def answer(self, call: Call) -> str:
        self.asked += 1
        self.lent += isinstance(call, SwiftCall) and call.cell is not None
        for _ in range(3):
            await asyncio.sleep(0)
        return "answered"

    def check(self) -> None:
        guard = self.bench.guard
        assert self.lent
        assert not guard.in_flight
        assert not guard.deadlines.under_way
        super().check()


SCENES: dict[str, Callable[[], Scene]] = {
    "line": lambda: Scene({"queue": QUEUE, "limits": [LIMIT]}, budget=False, half_open=False, fails=0, entered=False),
    "funding": lambda: Scene({"limits": [LIMIT]}, budget=True, half_open=False, fails=0, entered=False),
    "line and funding": lambda: Scene(
        {"queue": QUEUE, "limits": [LIMIT]}, budget=True, half_open=False, fails=0, entered=True
    ),
    "probe": lambda: Scene({"breaker": BREAKER}, budget=False, half_open=True, fails=0, entered=True),
    "probe in line": lambda: Scene(
        {"breaker": BREAKER, "queue": QUEUE}, budget=True, half_open=True, fails=0, entered=False
    ),
    "retry": lambda: Scene(
        {"queue": QUEUE, "limits": [LIMIT], "retry": RETRY}, budget=True, half_open=False, fails=1, entered=False
    ),
    "fallback": lambda: Scene(
        {"queue": QUEUE, "retry": RETRY, "fallbacks": [{"route": "small"}]},
        budget=True, half_open=False, fails=3, entered=False,
    ),
    "hedge": lambda: Scene(
        {"queue": {**QUEUE, "max_concurrent": 2}, "retry": {**RETRY, "hedge_ms": 1}, "breaker": BREAKER},
        budget=True, half_open=False, fails=0, entered=False,
    ),
    "timeout": lambda: Scene(
        {"queue": QUEUE, "timeout_ms": 30_000, "breaker": BREAKER}, budget=True, half_open=False, fails=1, entered=True
    ),
    "credit": lambda: OnCredit({"limits": [LIMIT], "queue": {**QUEUE, "max_concurrent": 8}, "breaker": BREAKER}),
    "credit and timeout": lambda: OnCredit({"limits": [LIMIT], "timeout_ms": 30_000}),
}  # fmt: skip


def strikes(scene: Callable[[], Scene], seed: int, victim: int) -> Iterator[tuple[int, Moment]]:
    """Yield every point at which the victim waits when nobody strikes, with both moments."""
    calm = scene()
    points = run(calm.works(), calm.meanwhile, seed=seed, victim=victim, at=None, moment="waiting")
    calm.check()
    calm.goes_on()
    for at in range(1, points + 1):
        for moment in MOMENTS:
            yield at, moment


def explore(name: str, seeds: range) -> int:
    """Strike at every point of a scene; return how often."""
    struck = 0
    for seed in seeds:
        for victim in range(CALLERS):
            for at, moment in strikes(SCENES[name], seed, victim):
                scene = SCENES[name]()
                try:
                    run(scene.works(), scene.meanwhile, seed=seed, victim=victim, at=at, moment=moment)
                    scene.check()
                    scene.goes_on()
                except AssertionError as error:
                    error.add_note(f"{name}: seed {seed}, caller {victim} cancelled at point {at}, {moment}")
                    raise
                struck += 1
    return struck


@pytest.mark.parametrize("name", SCENES)
def test_cancelled__at_every_point_and_in_any_order__everything_goes_back(name: str) -> None:
    struck = explore(name, SEEDS)

    assert struck >= 6 * len(SEEDS)


def nothing(*_: Any, **__: Any) -> None:
    """Stand in for what should have given something back."""


@pytest.mark.parametrize(
    ("name", "owner", "method"),
    [
        ("line", Guard, "abandon"),
        ("funding", Guard, "abandon"),
        ("line and funding", Books, "_leave_line"),
        ("probe in line", Circuit, "release"),
        ("retry", Line, "leave"),
        ("funding", Leases, "settle"),
        ("line", Books, "promote"),
        ("line", LoopWaiter, "wake"),
        ("credit", Harvest, "harvest"),
        ("credit", Harvest, "_settle_lease"),
        ("credit", SwiftCall, "__exit__"),
        ("credit and timeout", Deadlines, "ended"),
    ],
)
def test_explore__something_is_not_given_back__is_found(
    monkeypatch: pytest.MonkeyPatch, name: str, owner: type, method: str
) -> None:
    monkeypatch.setattr(owner, method, nothing)

    with pytest.raises(AssertionError):
        explore(name, range(1))

"""Calls on credit against calls that each ask: the same answers, the same books."""

from __future__ import annotations

import random

import pytest

import tidegate
from sdk.python.tests.bench import Bench
from sdk.python.tests.lending.lender import BREAKER, LIMIT, POLICY, RELEASED, Lender, Turned, books
from tidegate.swift import SwiftCall


class Twins:
    """The same calls on two benches: one that lends, and one where each call asks."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.asking, self.lending = Bench(), Lender()
        self.both: tuple[Bench, Bench] = (self.asking, self.lending)
        self.open: list[tuple[tidegate.Call, tidegate.Call]] = []
        self.swift = self.hung = 0
        few = {**POLICY, "limits": [{**LIMIT, "amount": 10}]}
        chosen = few if self.chance.random() < 0.3 else POLICY
        policy = {part: rule for part, rule in chosen.items() if self.chance.random() < 0.7}
        if "breaker" in policy and self.chance.random() < 0.6:
            policy["breaker"] = {**BREAKER, "slow_call_ms": self.chance.choice([400, 700]), "slow_call_rate": 0.6}
        budget, released = self.chance.random() < 0.7, self.chance.random() < 0.4
        for bench in self.both:
            bench.policy(policy)
            if budget:
                bench.budget("all")
            if released:
                bench.deployments["assistant"] = RELEASED
                bench.publish()
        shapes = {"model": self.chance.choice(["gpt-4o-mini", "odd"]), "input_tokens": 1, "max_output_tokens": 1, "user": "u",
                  "session": "s"}  # fmt: skip
        self.kinds = [{k: v for k, v in shapes.items() if self.chance.random() < 0.5} for _ in range(3)]

    def step(self) -> None:
        what = self.chance.random()
        if what < 0.75:
            self.call()
        elif what < 0.85:
            self.end_one()
        elif what < 0.9:
            for bench in self.both:
                with bench.guard.lock:
                    bench.guard.gather()
                bench.clock.advance(0.5)
            self.compare_now()
        elif what < 0.93:
            grant = self.chance.choice([0, 500_000, 5_000_000, 50_000_000])
            for bench in self.both:
                bench.sync(grant=grant)

    def call(self) -> None:
        options = {
            k: self.chance.randrange(500) if "tokens" in k else v for k, v in self.chance.choice(self.kinds).items()
        }
        end = self.chance.choice(["well", "recorded", "recorded", "open", "priced", "cached", "failed", "turned down"])
        tokens = self.chance.randrange(300)
        calls = [bench.call(**options) for bench in self.both]
        met = [_begin(bench, call) for bench, call in zip(self.both, calls, strict=True)]
        assert met[0] == met[1], options
        if met[0] != "in":
            return
        self.swift += isinstance(calls[1], SwiftCall) and calls[1].cell is not None
        for call in calls:
            if end in ("recorded", "open"):
                call.record(input_tokens=tokens, output_tokens=7)
            elif end == "priced":
                call.record(cost_usd="0.000123")
            elif end == "cached":
                call.record(input_tokens=tokens + 5, output_tokens=1, cached_input_tokens=3)
        if end == "open":
            self.open.append((calls[0], calls[1]))
            return
        for call in calls:
            call.settle({"failed": TimeoutError(), "turned down": Turned()}.get(end), last=True)

    def end_one(self) -> None:
        for call in self.open.pop(0) if self.open else ():
            call.settle(None, last=True)

    def compare(self) -> None:
        while self.open:
            self.end_one()
        self.compare_now()

    def compare_now(self) -> None:
        asked, lent = (books(bench) for bench in self.both)
        for part in asked:
            assert lent[part] == asked[part], part
        self.hung += sum(view.hung for view, _ in asked["breakers"].values())


def _begin(bench: Bench, call: tidegate.Call) -> str:
    """Begin a call if it need not wait; return what it met."""
    try:
        if isinstance(call, SwiftCall):
            if call._taken():
                return "in"
            call = call.own()
        if bench.guard.advance(call) is None:
            return "in"
    except tidegate.Refused as refusal:
        return f"{refusal.reason} {refusal.blocked_by}"
    bench.guard.abandon(call)
    return "wait"


@pytest.mark.usefixtures("plenty")
def test_lending__whatever_calls_come__same_answers_and_same_books_as_without() -> None:
    swift = hung = 0
    for seed in range(60):
        twins = Twins(seed)
        for _ in range(80):
            twins.step()
        twins.compare()
        swift += twins.swift
        hung += twins.hung

    assert swift > 300
    assert hung > 10

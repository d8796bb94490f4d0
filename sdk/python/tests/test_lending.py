"""Calls that pass on credit lent in advance: the books say the same as if each had asked, whatever threads do."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import tidegate
from sdk.python.tests.bench import Bench
from tidegate.caller import Caller
from tidegate.clock import SystemClock
from tidegate.core.breaker import View
from tidegate.deadlines import Deadlines
from tidegate.leasing import Leases
from tidegate.running import run
from tidegate.swift import SwiftCall
from tidegate.testing import FrozenClock
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


@pytest.fixture
def lender() -> Lender:
    return Lender()


@pytest.fixture
def plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases that ask for more than anybody needs: what is granted depends on the test alone."""
    monkeypatch.setattr(Leases, "want", lambda *_, **__: PLENTY)


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads that change places as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


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


# The same as without


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


# Threads


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


class Peak:
    """The most that ran at the same time. What is counted is exact: it is under a lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = self.most = self.ever = 0

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.ever += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.now -= 1


@pytest.mark.usefixtures("switching", "plenty")
def test_threads__every_kind_of_call__every_call_and_nano_dollar_counted_once(lender: Lender) -> None:
    times = 400
    lender.policy({"breaker": {}, "retry": {}, "limits": [{**LIMIT, "amount": 10**6, "burst": 10**6}]})
    lender.budget("all")
    lender.fund(PLENTY, **PRICED)
    decorated = lender.guarded(lambda: 1, cost_usd="0.000001")

    def work(number: int) -> None:
        for _ in range(times):
            decorated()
            with lender.call("embed"):
                pass
            with lender.call(user=f"u-{number}", **PRICED) as call:
                call.record(input_tokens=400, output_tokens=100)

    in_threads(work)
    lender.guard.warm_calls = 10**9
    found = books(lender)

    rows = found["rows"].values()
    assert sum(row["calls"] for row in rows) == 3 * 8 * times
    assert sum(row["latency_us"][0] for row in rows) == 3 * 8 * times
    assert sum(row["cost_nusd"] for row in rows) == 8 * times * (COST + 1000)
    assert [(lease.settled, lease.held) for lease in found["leases"].values()] == [(8 * times * (COST + 1000), 0)]
    assert {user: spent.calls for (_, user), spent in found["users"].items()} == {f"u-{n}": times for n in range(8)}
    assert set(found["running"].values()) == {0}
    assert found["requests"]["acme", "chat"] == [10.0**6 - 2 * 8 * times]
    assert found["in flight"] == 0


@pytest.mark.usefixtures("switching")
def test_threads__more_than_the_limit__never_more_than_its_burst(lender: Lender) -> None:
    lender.policy({"limits": [{**LIMIT, "amount": 5000, "burst": 5000}]})
    passed = Peak()

    def work(_: int) -> None:
        for _ in range(1000):
            try:
                with lender.call(), passed:
                    pass
            except tidegate.RateLimited:
                pass

    in_threads(work)

    assert passed.ever == 5000
    assert books(lender)["requests"] == {("acme", "chat"): [0.0]}


@pytest.mark.usefixtures("switching")
def test_threads__more_than_may_run_at_once__never_more_run(lender: Lender) -> None:
    lender.policy({"queue": {"max_concurrent": 4, "max_waiting": 100, "max_wait_ms": 60_000}})
    running = Peak()
    decorated = lender.guarded(lambda: running.__enter__() or running.__exit__())

    def work(number: int) -> None:
        for _ in range(300):
            decorated()
            with lender.call(category=f"c-{number % 2}"), running:
                pass

    in_threads(work)

    assert running.most <= 4
    assert running.ever == 8 * 600
    assert books(lender)["running"] == {("acme", "chat"): 0}


@pytest.mark.usefixtures("switching", "plenty")
@pytest.mark.parametrize("kind", ["decorator", "with"])
def test_threads__more_than_the_budget_allows__never_a_nano_dollar_over(lender: Lender, kind: str) -> None:
    lender.budget("all")
    lender.fund(1000 * BOUND + 7, **PRICED)
    lender.sync(grant=0, denied="exhausted", blocked_by="acme/all")
    lender.guard.link.interval_s = 1e9
    decorated = lender.guarded(lambda: 1, **PRICED)

    def work(_: int) -> None:
        for _ in range(400):
            try:
                if kind == "decorator":
                    decorated()
                else:
                    with lender.call(**PRICED):
                        pass
            except (tidegate.BudgetExhausted, tidegate.Stale):
                pass

    in_threads(work)
    found = books(lender)

    (lease,) = found["leases"].values()
    assert lease.settled == 1000 * BOUND
    assert lease.held == 0
    assert sum(row["cost_nusd"] for row in found["rows"].values()) == lease.settled


# Credit comes to an end


def test_breaker__opens_while_there_is_credit__nobody_passes(lender: Lender) -> None:
    lender.policy({"breaker": {"min_calls": 4, "open_s": 20}})
    for _ in range(10):
        with lender.call():
            pass

    for _ in range(10):
        with pytest.raises(TimeoutError), lender.call():
            raise TimeoutError

    with pytest.raises(tidegate.BreakerOpen):
        lender.call().admit()
    assert lender.guard.breakers["chat", ""].provider.recent.tally()[:2] == (20, 10)


def test_policy__changes_while_there_is_credit__the_next_call_heeds_it(lender: Lender) -> None:
    lender.policy({})
    lender.swift().settle(None, last=True)

    lender.policy({"limits": [{**LIMIT, "amount": 1}]})
    with lender.call():
        pass

    with pytest.raises(tidegate.RateLimited):
        lender.call().admit()


def test_credit__older_than_it_may_be__asked_for_anew(lender: Lender) -> None:
    lender.policy({})
    decorated = lender.guarded(lambda: 1)
    for _ in range(5):
        decorated()
    lender.swift().settle(None, last=True)
    lender.clock.advance(1.5)

    assert decorated() == 1
    with lender.call():
        pass

    request, _ = lender.sync()
    assert sum(row["calls"] for window in request["windows"] for row in window["rows"]) == 5 + 2 + 2
    assert books(lender)["in flight"] == 0


def test_credit__called_back_before_anybody_used_it__half_as_much_is_lent_next(lender: Lender) -> None:
    lender.policy({})
    lender.swift().settle(None, last=True)
    (cell,) = lender.guard.active
    lent = cell.chunk
    lender.clock.advance(0.02)
    with lender.guard.lock:
        cell.used = 0
        lender.guard.gather()
    cell.used = 0

    lender.call().admit()
    assert cell.chunk == lent // 2

    lender.clock.advance(0.2)
    with lender.guard.lock:
        lender.guard.gather()
    cell.used = 0
    lender.call().admit()
    assert cell.chunk == 0  # in so long a time somebody would have come


def test_lease__expires_while_there_is_credit__not_spent_from(lender: Lender) -> None:
    lender.budget("all")
    lender.fund(100 * BOUND, **PRICED)
    lender.clock.advance(14.5)
    lender.swift(**PRICED).settle(None, last=True)
    lender.clock.advance(0.6)

    call = lender.call(**PRICED)

    assert isinstance(call, SwiftCall)
    assert not call._taken()
    assert lender.guard.advance(call.own()) is not None


def test_queue__somebody_waits__a_swift_call_that_ends_lets_him_run(lender: Lender) -> None:
    lender.policy({"queue": {"max_concurrent": 8, "max_waiting": 5, "max_wait_ms": 10_000}})
    running = [lender.swift() for _ in range(8)]
    waiting = lender.call(priority=3)
    assert lender.guard.advance(waiting) is not None

    running[3].settle(None, last=True)

    assert lender.guard.advance(waiting) is None
    assert books(lender)["running"] == {("acme", "chat"): 8}


def test_closed__while_there_is_credit__refused(lender: Lender) -> None:
    lender.policy({})
    lender.swift().settle(None, last=True)

    lender.guard.stop()

    with pytest.raises(tidegate.Refused, match="closed"):
        lender.call().admit()


@pytest.mark.parametrize("options", [{}, PRICED, {"user": "u"}], ids=["plain", "priced", "user"])
def test_presume__swift_calls_in_flight__settled_at_their_bounds_once(lender: Lender, options: dict[str, Any]) -> None:
    lender.budget("all")
    lender.fund(100 * BOUND, **PRICED)
    calls = [lender.swift(**options) for _ in range(3)]

    lender.guard.stop()
    lender.guard.presume()
    for call in calls:
        call.settle(None, last=True)
    found = books(lender)

    (row,) = found["rows"].values()
    assert row["kinds"] == {"cancelled": 3}
    assert row["calls"] == 4
    assert next(iter(found["leases"].values())).held == 0
    assert row["cost_nusd"] == next(iter(found["leases"].values())).settled == (4 * BOUND if "model" in options else 0)


def test_reborn__swift_call_of_the_parent_process__settles_nothing_in_the_child(lender: Lender) -> None:
    lender.policy({})
    call = lender.swift()

    lender.guard.reborn()
    call.settle(None, last=True)
    lender.call().admit()

    assert books(lender)["in flight"] == 1
    assert lender.row().calls == 0


def test_users__with_budgets_of_their_own__each_call_asks(lender: Lender) -> None:
    lender.budget("of-u", match={"user": "u"})

    with lender.call(user="v"):
        pass

    assert not isinstance(lender.call(user="v"), SwiftCall)


# Refused again and again


def refusals(bench: Bench, times: int, **options: Any) -> list[tidegate.Refused]:
    heard = []
    for _ in range(times):
        try:
            with bench.call(**options):
                pass
        except tidegate.Refused as refusal:
            heard.append(refusal)
    return heard


def test_refused__by_a_limit__said_at_once_and_counted_until_there_is_room(lender: Lender) -> None:
    lender.policy({"limits": [{"unit": "requests", "amount": 2, "per_s": 10}]})
    lender.sync(shares=[{"tenant": "acme", "route": "chat", "unit": "requests", "share": 1.0}])

    heard = refusals(lender, 12)
    lender.clock.advance(2)
    heard += refusals(lender, 1)

    assert [type(each) for each in heard] == [tidegate.RateLimited] * 11
    assert heard[5].blocked_by == "acme/chat requests"
    assert (heard[5].retry_after_s, heard[10].retry_after_s) == (pytest.approx(5), pytest.approx(3))
    books(lender)
    assert lender.guard.lane("acme", "chat").unmet["requests"] == 13
    request, _ = lender.sync()
    assert sum(row["refused"] for window in request["windows"] for row in window["rows"]) == 11
    lender.clock.advance(3)
    assert not refusals(lender, 1)


def test_refused__room_comes_back_early__found_at_once(lender: Lender) -> None:
    lender.policy(
        {"limits": [{**LIMIT, "amount": 1}], "queue": {"max_concurrent": 1, "max_waiting": 1, "max_wait_ms": 5000}}
    )
    waiting = lender.call(priority=1)
    lender.guard.lane("acme", "chat").line.running += 1
    assert lender.guard.advance(waiting) is not None
    assert len(refusals(lender, 3)) == 3
    lender.guard.lane("acme", "chat").line.running -= 1

    lender.guard.abandon(waiting)

    assert not refusals(lender, 1)


def test_refused__by_an_open_breaker__until_it_probes(lender: Lender) -> None:
    lender.policy({"breaker": {"min_calls": 2, "open_s": 5, "half_open_calls": 1}})
    for _ in range(2):
        with pytest.raises(TimeoutError), lender.call():
            raise TimeoutError

    heard = refusals(lender, 10)

    assert {type(each) for each in heard} == {tidegate.BreakerOpen}
    books(lender)
    assert lender.guard.breakers["chat", ""].provider.refused == 10
    lender.clock.advance(5)
    assert not refusals(lender, 3)


def test_refused__budget_exhausted__asked_for_as_if_each_had_asked(lender: Lender) -> None:
    asking = Bench()
    for bench in (asking, lender):
        bench.budget("all")
        bench.guard.advance(bench.call(cost_usd="0.001"))
        bench.sync(grant=0, denied="exhausted", blocked_by="acme/all", retry_after_ms=60_000)
    decorated = lender.guarded(lambda: 1, cost_usd="0.002")

    for _ in range(50):
        with pytest.raises(tidegate.BudgetExhausted):
            decorated()
        with pytest.raises(tidegate.BudgetExhausted):
            asking.guard.advance(asking.call(cost_usd="0.002"))

    lines = [bench.sync(grant=0)[0]["leases"][0] for bench in (asking, lender)]
    assert lines[0] == lines[1]
    assert lines[1]["denied"] == 50


@pytest.mark.usefixtures("switching")
def test_refused__in_threads__each_counted_once(lender: Lender) -> None:
    lender.policy({"limits": [{**LIMIT, "amount": 1}]})

    in_threads(lambda _: refusals(lender, 500) and None)

    (row,) = books(lender)["rows"].values()
    assert (row["calls"], row["refused"], row["kinds"]) == (1, 3999, {"refused.rate_limited": 3999})


# Swift calls are calls


def test_swift__fails__counted_traced_and_raised_as_any_other(lender: Lender) -> None:
    lender.policy({})
    call = lender.swift(user="u", **PRICED)
    lender.clock.advance(0.5)

    call.settle(TimeoutError(), last=True)
    books(lender)

    row = lender.row()
    assert (row.calls, row.errors, row.kinds, row.cost_nusd) == (2, 1, {"error.timeout": 1}, 2 * BOUND)
    assert lender.tracer.waiting[-1].error == "TimeoutError"


def test_swift__traceparent_asked_for__has_a_span(lender: Lender) -> None:
    lender.policy({})
    call = lender.swift()
    spans = len(lender.tracer.waiting)

    parent = call.traceparent
    call.settle(None, last=True)

    assert f"{lender.tracer.waiting[-1].span_id:016x}" == parent.split("-")[2]
    assert len(lender.tracer.waiting) == spans + 1
    assert books(lender)["in flight"] == 0


def test_swift__asked_what_it_is__says_what_it_was_told(lender: Lender) -> None:
    lender.policy({"timeout_ms": 2000})

    call = lender.swift(user="u", session="s", category="c", tenant="acme", **PRICED)

    assert (call.user, call.session, call.category, call.tenant) == ("u", "s", "c", "acme")
    assert (call.route, call.model, call.input_tokens, call.max_output_tokens) == ("chat", "gpt-4o-mini", 400, 800)
    lender.clock.advance(0.5)
    assert call.timeout_s == pytest.approx(1.5)
    assert call.cell is not None
    assert call.release is None


def test_swift__entered_twice__misuse_is_said(lender: Lender) -> None:
    lender.policy({})
    call = lender.swift()

    with pytest.raises(RuntimeError, match="once"):
        call.admit()
    call.settle(None, last=True)
    with pytest.raises(RuntimeError, match="once"):
        call.admit()


def test_swift__recorded_after_its_end__too_late(lender: Lender) -> None:
    lender.policy({})
    call = lender.swift(**PRICED)
    call.record(input_tokens=400, output_tokens=100)
    call.settle(None, last=True)

    call.record(input_tokens=400, output_tokens=800)

    assert books(lender)["rows"].popitem()[1]["cost_nusd"] == BOUND + COST


@pytest.mark.parametrize(
    "usage", [{"input": 400, "output": 100}, {"input": 400, "output": 60, "reasoning": 40}], ids=str
)
def test_swift__usage_by_classes__priced_and_counted(lender: Lender, usage: dict[str, int]) -> None:
    lender.policy({})
    call = lender.swift(**PRICED)

    call.record_usage(usage)
    call.settle(None, last=True)

    (row,) = books(lender)["rows"].values()
    assert row["cost_nusd"] == BOUND + COST
    assert row.get("usage", {}).get("reasoning", 0) == usage.get("reasoning", 0)


def test_guarded__fails_on_credit__tried_again_as_one_call(lender: Lender) -> None:
    lender.policy({"retry": {"max_attempts": 3, "base_ms": 0, "max_ms": 0}})
    errors: list[Exception] = []

    def body() -> str:
        if errors:
            raise errors.pop()
        return "answer"

    decorated = lender.guarded(body)
    for _ in range(3):
        decorated()
    errors.extend([TimeoutError(), ConnectionError()])

    assert decorated() == "answer"
    (row,) = books(lender)["rows"].values()
    assert (row["calls"], row["retries"], row["errors"]) == (4, 2, 0)


async def test_guarded_async__on_credit__counted_and_tried_again(lender: Lender) -> None:
    lender.policy({"retry": {"max_attempts": 2, "base_ms": 0, "max_ms": 0}})
    errors: list[Exception] = []

    async def body() -> str:
        await asyncio.sleep(0)
        if errors:
            raise errors.pop()
        return "answer"

    decorated = lender.guarded(body)
    for _ in range(3):
        await decorated()
    errors.append(TimeoutError())

    assert await decorated() == "answer"
    (row,) = books(lender)["rows"].values()
    assert (row["calls"], row["retries"], row["errors"]) == (4, 1, 0)


async def test_async__deadline_on_credit__cancelled_as_any_other(lender: Lender) -> None:
    lender.policy({"timeout_ms": 1000})
    lender.swift().settle(None, last=True)

    async def work() -> None:
        async with lender.call() as call:
            assert isinstance(call, SwiftCall)
            assert call.cell is not None
            assert call.timeout_s == 1.0
            lender.clock.advance(1.1)
            await asyncio.sleep(30)

    with pytest.raises(TimeoutError) as late:
        await work()

    assert "has a timeout of 1000 ms" in late.value.__notes__[0]
    assert isinstance(late.value.__cause__, asyncio.CancelledError)
    assert not _cancelling()
    rows = books(lender)
    assert rows["in flight"] == 0
    assert sum(row["kinds"].get("error.timeout", 0) for row in rows["rows"].values()) == 1


async def test_async__ends_in_time_on_credit__never_cancelled_after(lender: Lender) -> None:
    lender.policy({"timeout_ms": 1000})
    lender.swift().settle(None, last=True)

    async with lender.call():
        pass
    lender.clock.advance(5)
    await asyncio.sleep(0.01)

    assert not _cancelling()
    assert not lender.guard.deadlines.flights


async def test_async__asked_for_its_traceparent_on_credit__its_deadline_is_watched_still(lender: Lender) -> None:
    lender.policy({"timeout_ms": 1000})
    lender.swift().settle(None, last=True)

    async def work() -> None:
        async with lender.call() as call:
            assert call.traceparent
            lender.clock.advance(1.1)
            await asyncio.sleep(30)

    with pytest.raises(TimeoutError):
        await work()

    assert books(lender)["in flight"] == 0


async def test_async__cancelled_by_somebody_else_on_credit__stays_cancelled(lender: Lender) -> None:
    lender.policy({"timeout_ms": 1000})
    lender.swift().settle(None, last=True)

    async def work() -> None:
        async with lender.call():
            await asyncio.sleep(30)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    lender.clock.advance(1.1)

    with pytest.raises(asyncio.CancelledError):
        await task
    assert books(lender)["in flight"] == 0
    assert not lender.guard.deadlines.flights


async def test_guarded_async__deadline_on_credit__ends_with_a_timeout(lender: Lender) -> None:
    lender.policy({"timeout_ms": 1000})
    waits: list[float] = []

    async def answer() -> str:
        if waits:
            lender.clock.advance(1.1)
            await asyncio.sleep(waits.pop())
        return "yes"

    guarded = lender.guarded(answer)
    for _ in range(10):
        assert await guarded() == "yes"
    waits.append(30.0)

    with pytest.raises(TimeoutError) as late:
        await guarded()

    assert "chat has a timeout of 1000 ms" in late.value.__notes__[0]
    assert await guarded() == "yes"
    assert not _cancelling()
    assert not lender.guard.deadlines.flights
    assert books(lender)["in flight"] == 0


def _cancelling() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task is not None else -1


def test_deadlines__real_clock_and_many_tasks__those_that_are_late_are_cancelled() -> None:
    deadlines = Deadlines(SystemClock())
    now = time.monotonic()

    async def wait(until: float, seconds: float) -> str:
        flight = deadlines.watch(until)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError as error:
            return "late" if deadlines.ended(flight, error) is not None else "cancelled"
        deadlines.ended(flight, None)
        return "in time"

    async def main() -> list[str]:
        return await asyncio.gather(
            *(wait(now + 3600, 0) for _ in range(20)), *(wait(now + 0.05, 60) for _ in range(20))
        )

    assert asyncio.run(main()) == ["in time"] * 20 + ["late"] * 20
    deadlines.close()


async def test_deadlines__a_call_within_a_call__each_has_its_own() -> None:
    clock = FrozenClock()
    deadlines = Deadlines(clock)

    async def work(inner_s: float) -> tuple[bool, bool]:
        outer = deadlines.watch(clock.now() + 1.0)
        inner = deadlines.watch(clock.now() + inner_s)
        assert outer is not None
        assert inner is not None
        ends: list[bool] = []
        for flight in (inner, outer):
            error: BaseException | None = None
            if not any(ends):
                clock.advance(0.6)
                try:
                    await asyncio.sleep(0.05)
                except asyncio.CancelledError as cancelled:
                    error = cancelled
            ends.append(deadlines.ended(flight, error) is not None)
        assert not _cancelling()
        return ends[0], ends[1]

    assert await asyncio.create_task(work(0.5)) == (True, False)
    assert await asyncio.create_task(work(5.0)) == (False, True)
    assert not deadlines.flights
    assert not deadlines.marked
    deadlines.close()


async def test_deadlines__task_that_was_cancelled_before__its_cancellation_is_not_taken_for_a_timeout() -> None:
    clock = FrozenClock()
    deadlines = Deadlines(clock)

    async def work() -> TimeoutError | None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            flight = deadlines.watch(clock.now() + 1.0)  # something to do before it goes
        assert flight is not None
        clock.advance(1.1)
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError as error:
            late = deadlines.ended(flight, error)
        assert _cancelling() == 1
        return late

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()

    assert isinstance(await task, TimeoutError)  # what cancelled it before is none of this flight's business
    assert not deadlines.marked
    deadlines.close()


def test_guarded__refused_where_there_are_fallbacks__they_answer_and_are_counted(lender: Lender) -> None:
    lender.policy({"limits": [{**LIMIT, "amount": 1, "per_s": 3600}], "fallbacks": [{"value": "busy"}]})
    guarded = lender.guarded(lambda: "yes")
    plan = lender.plan()

    answers = [guarded() for _ in range(6)] + [run(plan, "chat", lambda _: "yes") for _ in range(4)]

    assert answers == ["yes"] + ["busy"] * 9
    rows = books(lender)["rows"].values()
    assert sum(row["fallbacks"] for row in rows) == 9
    assert sum(row["refused"] for row in rows) == 9


def test_other_builds__no_gil_to_rely_on__nothing_is_lent(lender: Lender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.lending.LENDS", False)
    lender.policy({})

    for _ in range(3):
        with lender.call():
            pass

    assert not lender.guard.cells
    assert lender.row().calls == 3


# Breakers that time calls

EXAMPLE: dict[str, Any] = {
    "limits": [{"unit": "requests", "amount": 600, "per_s": 60, "burst": 600, "scope": "fleet"},
               {"unit": "tokens", "amount": 900_000, "per_s": 60, "scope": "fleet"}],
    "queue": {"max_concurrent": 16, "max_waiting": 64, "max_wait_ms": 2000},
    "breaker": {"window_s": 30, "min_calls": 20, "failure_rate": 0.5, "slow_call_ms": 10_000, "slow_call_rate": 0.8,
                "open_s": 20, "half_open_calls": 3, "mode": "auto"},
    "retry": {"max_attempts": 3, "base_ms": 200, "max_ms": 8000, "jitter": "full", "budget_ratio": 0.2},
    "timeout_ms": 30_000,
    "fallbacks": [{"route": "chat-small"}, {"value": {"text": "We are busy, please try again."}}],
    "enforcement": "enforce",
}  # fmt: skip
TIMED = {"min_calls": 4, "failure_rate": 0.5, "slow_call_ms": 1000, "slow_call_rate": 0.5, "open_s": 5}


@pytest.mark.usefixtures("plenty")
def test_policy__with_all_its_parts__calls_pass_on_credit(lender: Lender) -> None:
    lender.policy(EXAMPLE)
    lender.budget("all")
    lender.fund(10**9, **PRICED)
    swift = 0

    for _ in range(40):
        call = lender.call(**PRICED)
        with call:
            call.record(input_tokens=400, output_tokens=100)
            swift += isinstance(call, SwiftCall) and call.cell is not None

    assert swift > 20
    assert sum(row["calls"] for row in books(lender)["rows"].values()) == 40


def test_breaker__slow_calls_on_credit__opens_when_they_end(lender: Lender) -> None:
    lender.policy({"breaker": TIMED})
    calls = [lender.swift() for _ in range(4)]
    lender.clock.advance(1.5)

    for call in calls:
        call.settle(None, last=True)

    provider = lender.guard.breakers["chat", ""].provider
    assert provider.phase == "open"
    assert "calls took longer than 1000 ms" in provider.cause
    with pytest.raises(tidegate.BreakerOpen):
        lender.call().admit()


def test_breaker__calls_on_credit_that_hang__opens_before_any_ends(lender: Lender) -> None:
    lender.policy({"breaker": TIMED})
    calls = [lender.swift() for _ in range(12)]
    lender.clock.advance(1.1)

    with pytest.raises(tidegate.BreakerOpen) as refused:
        lender.call().admit()

    assert "of them still hang" in str(refused.value)
    for call in calls:
        call.settle(None, last=True)  # late, and of no consequence
    assert lender.guard.in_flight == 0
    assert lender.guard.breakers["chat", ""].provider.phase == "open"


def test_breaker__some_hang_while_others_come_and_go__counted_as_slow_until_they_end(lender: Lender) -> None:
    lender.policy({"breaker": {**TIMED, "slow_call_rate": 1.0}})
    hanging = [lender.swift() for _ in range(3)]
    for _ in range(30):
        lender.clock.advance(0.1)
        lender.swift().settle(None, last=True)

    assert view(lender).hung == 3

    for call in hanging:
        call.settle(None, last=True)
    assert (view(lender).hung, view(lender).slow) == (0, 3)


def test_breaker__call_on_credit_asked_for_its_traceparent__hangs_as_any_other(lender: Lender) -> None:
    lender.policy({"breaker": TIMED})
    call = lender.swift()
    lender.clock.advance(0.6)
    assert call.traceparent
    lender.clock.advance(0.6)

    assert view(lender).hung == 1
    call.settle(None, last=True)
    assert (view(lender).hung, view(lender).slow) == (0, 1)


def view(lender: Lender) -> View:
    with lender.guard.lock:
        lender.guard.gather()
    circuit = lender.guard.breakers["chat", ""]
    return circuit.provider.view(circuit.rule, lender.clock.now())


# Releases


def test_release__the_same_for_every_request__on_credit_and_counted_in_its_arm(lender: Lender) -> None:
    lender.deployments["assistant"] = RELEASED
    lender.publish()
    asked = 0
    call = lender.swift()
    assert (call.release, call.config) == ("1", {"m": "a"})
    call.settle(None, last=True)
    for _ in range(20):
        with lender.call() as call:
            call.record(cost_usd="0.001")
            asked += isinstance(call, SwiftCall) and call.cell is not None
    rated = lender.swift()
    rated.rate(0.5)
    rated.settle(None, last=True)

    (row,) = books(lender)["arms"].values()

    assert asked > 10
    assert row["calls"] == row["units"] == sum(each["calls"] for each in books(lender)["rows"].values())
    assert (row["cost_nusd"], row["scored"], row["loss_ppm"]) == (20 * 1_000_000, 1, 500_000)


def test_release__another_one_is_published_while_there_is_credit__the_next_call_gets_it(lender: Lender) -> None:
    lender.deployments["assistant"] = RELEASED
    lender.publish()
    lender.swift().settle(None, last=True)

    lender.deployments["assistant"] = {**RELEASED, "stable": "new"}
    lender.publish()

    for _ in range(20):
        with lender.call() as call:
            assert call.release == "2"


def test_release__a_rollout_begins__each_call_asks(lender: Lender) -> None:
    rings = [{"share": 500_000, "tenants": [], "users": [], "regions": []}]
    lender.deployments["assistant"] = {**RELEASED, "candidate": "new", "rings": rings}
    lender.publish()

    for _ in range(20):
        with lender.call() as call:
            assert not isinstance(call, SwiftCall)


def test_release__refused_again_and_again__counted_in_its_arm(lender: Lender) -> None:
    lender.deployments["assistant"] = RELEASED
    lender.policy({"limits": [{**LIMIT, "amount": 1, "per_s": 3600}]})
    lender.call().admit()

    for _ in range(10):
        with pytest.raises(tidegate.RateLimited):
            lender.call().admit()

    (row,) = books(lender)["arms"].values()
    assert (row["refused"], row["refusing"], row["asked"]) == (10, 10, 10)
    assert sum(each["refused"] for each in books(lender)["rows"].values()) == 10

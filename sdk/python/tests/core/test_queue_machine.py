"""Any history of a line against a list that is searched from end to end each time."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tidegate.core.policy import QueueRule
from tidegate.core.queue import CODEL_PART, CONGESTED_PART, LEVEL_S, Entry, Line

RULES = st.builds(
    QueueRule,
    max_concurrent=st.integers(1, 3),
    max_waiting=st.sampled_from([0, 2, 8, 8]),
    max_wait_ms=st.sampled_from([500, 2000]),
    congestion=st.sampled_from(["fifo", "lifo", "lifo", "codel"]),
)


class Waiting(NamedTuple):
    entry: Entry
    priority: int
    at: float


class LineMachine(RuleBasedStateMachine):
    @initialize(queue=RULES)
    def begin(self, queue: QueueRule) -> None:
        self.line = Line()
        self.queue = queue
        self.now = 100.0
        self.number = 0
        self.running: list[Entry] = []
        self.waiting: list[Waiting] = []
        self.gone: list[Entry] = []
        self.busy_since = 0.0
        self.slots: int | None = None

    @property
    def most(self) -> int:
        return self.queue.max_concurrent if self.slots is None else self.slots

    @rule(priority=st.sampled_from([0, 1]), calls=st.integers(2, 6))
    def a_crowd_comes(self, priority: int, calls: int) -> None:
        for _ in range(calls):
            self.enter(priority)
        self.now += 1.0

    @rule(seconds=st.integers(0, 16))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds / 8

    @rule(priority=st.sampled_from([0, 0, 0, 1, 5, -2]))
    def enter(self, priority: int) -> None:
        self.number += 1
        self.now += 2**-20  # no two calls come at the same instant

        entry = self.line.enter(self.queue, self.number, now=self.now, priority=priority, slots=self.slots)

        if not self.waiting and len(self.running) < self.most:
            assert entry is not None
            assert entry.state == "running"
            self.running.append(entry)
        elif len(self.waiting) >= self.queue.max_waiting:
            assert entry is None
        else:
            assert entry is not None
            assert entry.state == "waiting"
            self.busy_since = self.busy_since if self.waiting else self.now
            self.waiting.append(Waiting(entry, priority, self.now))

    @rule()
    def push_in(self) -> None:
        self.running.append(self.line.push_in(self.number, now=self.now))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def a_call_ends(self, data: st.DataObject) -> None:
        entry = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.line.leave(entry)
        self.gone.append(entry)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def a_caller_gives_up(self, data: st.DataObject) -> None:
        left = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        self.line.leave(left.entry)
        self.gone.append(left.entry)

    @precondition(lambda self: self.gone)
    @rule()
    def somebody_leaves_twice(self) -> None:
        self.line.leave(self.gone[-1])

    @precondition(lambda self: self.running)
    @rule()
    def a_slot_comes_free(self) -> None:
        entry = self.running.pop(0)
        self.line.leave(entry)
        self.gone.append(entry)
        self.promote(unlimited=False)

    @rule(unlimited=st.booleans())
    def promote(self, unlimited: bool) -> None:
        queue = None if unlimited and self.number % 5 == 0 else self.queue

        promoted = self.line.promote(queue, now=self.now, slots=self.slots)

        expected = []
        while self.waiting and (queue is None or len(self.running) < self.most):
            turn = self.whose_turn(newest=queue is not None and queue.congestion == "lifo" and self.congested)
            self.waiting.remove(turn)
            self.running.append(turn.entry)
            expected.append(turn.entry)
        assert promoted == expected

    def whose_turn(self, *, newest: bool) -> Waiting:
        first = min(self.waiting, key=lambda one: one.at - one.priority * LEVEL_S)
        if newest:
            return max((one for one in self.waiting if one.priority == first.priority), key=lambda one: one.at)
        return first

    @property
    def congested(self) -> bool:
        waited_ms = (self.now - self.busy_since) * 1000
        return bool(self.waiting) and waited_ms >= self.queue.max_wait_ms * CONGESTED_PART

    @rule(queue=RULES, slots=st.one_of(st.none(), st.integers(1, 4)))
    def the_rule_changes(self, queue: QueueRule, slots: int | None) -> None:
        self.queue, self.slots = queue, slots

    @invariant()
    def everybody_has_the_place_that_they_have(self) -> None:
        assert (self.line.running, self.line.waiting) == (len(self.running), len(self.waiting))
        assert {entry.state for entry in self.running} <= {"running"}
        assert {one.entry.state for one in self.waiting} <= {"waiting"}
        assert {entry.state for entry in self.gone} <= {"gone"}
        assert self.line.congested(self.queue, self.now) is self.congested
        short = self.queue.congestion == "codel" and self.congested
        patience_s = self.queue.max_wait_ms / 1000
        assert self.line.patience_s(self.queue, self.now) == (patience_s * CODEL_PART if short else patience_s)


TestLineMachine = LineMachine.TestCase
TestLineMachine.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)

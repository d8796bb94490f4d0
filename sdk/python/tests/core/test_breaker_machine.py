"""Any history of a breaker against a list of all calls that is judged anew each time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tidegate.core.breaker import Breaker, Outcome, Permit
from tidegate.core.policy import BreakerRule

RULES = st.builds(
    BreakerRule,
    window_s=st.just(10.0),  # ten slots of a second: a model needs no more than whole seconds
    min_calls=st.integers(1, 4),
    failure_rate=st.sampled_from([0.25, 0.5, 1.0]),
    slow_call_ms=st.sampled_from([None, 2000]),
    slow_call_rate=st.sampled_from([0.5, 1.0]),
    open_s=st.sampled_from([2.0, 5.0]),
    half_open_calls=st.integers(1, 3),
    mode=st.just("auto"),
    window_calls=st.sampled_from([None, 5]),
    probing=st.sampled_from(["rate", "strict"]),
    window=st.sampled_from(["sliding", "tumbling"]),
)


@dataclass
class Flight:
    permit: Permit
    since: float
    era: int
    hung: bool = False
    watched: bool = False


@dataclass
class Seen:
    at: float
    failed: bool
    slow: bool


class BreakerMachine(RuleBasedStateMachine):
    """The model keeps every call of the present era. An era ends when the phase changes."""

    @initialize(rule=RULES)
    def begin(self, rule: BreakerRule) -> None:
        self.rule = rule
        self.now = 1000.0
        self.breaker = Breaker(since=self.now)
        self.phase = "closed"
        self.since = self.now
        self.era = 0
        self.asked_until = 0.0
        self.tumbled = -math.inf  # when the tumbling window began
        self.seen: list[Seen] = []
        self.flights: list[Flight] = []
        self.probes: list[tuple[Permit, float]] = []
        self.given = 0

    # The model

    def turn(self, phase: str) -> None:
        self.phase, self.since, self.era = phase, self.now, self.era + 1
        self.probes = []
        if phase != "open":
            self.seen, self.tumbled = [], -math.inf
        if phase == "closed":
            self.asked_until = 0.0

    @property
    def open_until(self) -> float:
        return max(self.since + self.rule.open_s, min(self.asked_until, self.since + self.rule.max_open_s))

    def see(self) -> None:
        if self.phase == "open" and self.now >= self.open_until:
            self.turn("half_open")
        elif self.phase != "open" and self.rule.slow_call_ms is not None:
            late = [
                flight
                for flight in self.flights
                if flight.watched and flight.era == self.era and not flight.hung
                and (self.now - flight.since) * 1000 > self.rule.slow_call_ms
            ]  # fmt: skip
            for flight in late:
                flight.hung = True
            if late:
                self.judge()

    def counts(self) -> tuple[int, int, int]:
        seen = self.seen
        if self.rule.window_calls is not None:
            seen = seen[-self.rule.window_calls :]
        elif self.phase == "closed" and self.rule.window == "tumbling":
            seen = [call for call in seen if call.at >= self.tumbled > self.now - self.rule.window_s]
        elif self.phase == "closed":
            # a slot counts until half of the second after it would leave the window
            seen = [call for call in seen if math.floor(call.at) > math.floor(self.now) - self.rule.window_s + 0.5]
        hung = sum(flight.hung and flight.era == self.era for flight in self.flights)
        return len(seen) + hung, sum(c.failed for c in seen), sum(c.slow for c in seen) + hung

    def judge(self, *, failed: bool = False) -> None:
        calls, failures, slow = self.counts()
        bad = failures > 0 and failures >= self.rule.failure_rate * calls
        if self.rule.slow_call_ms is not None and slow:
            bad = bad or slow >= self.rule.slow_call_rate * calls
        if self.phase == "half_open" and self.rule.probing == "strict" and failed:
            self.turn("open")
        elif calls >= (self.rule.half_open_calls if self.phase == "half_open" else self.rule.min_calls):
            if bad:
                self.turn("open")
            elif self.phase == "half_open":
                self.turn("closed")

    def may(self) -> bool:
        self.see()
        self.probes = [(permit, at) for permit, at in self.probes if at + self.rule.open_s > self.now]
        room = len(self.probes) + self.counts_without_hung() < self.rule.half_open_calls
        return self.phase == "closed" or (self.phase == "half_open" and room)

    def counts_without_hung(self) -> int:
        seen = self.seen
        return len(seen if self.rule.window_calls is None else seen[-self.rule.window_calls :])

    # What happens

    @rule(quarters=st.integers(1, 24))
    def time_passes(self, quarters: int) -> None:
        self.now += quarters / 4

    @rule()
    def ask(self) -> None:
        permit = self.breaker.ask(self.rule, self.now)

        assert (permit is not None) is self.may()
        if permit is not None:
            self.flights.append(Flight(permit, self.now, self.era, watched=self.rule.slow_call_ms is not None))
            if self.phase == "half_open":
                self.probes.append((permit, self.now))

    @rule(
        outcome=st.sampled_from(["success", "failure", "failure"]),
        calls=st.integers(2, 5),
        took_s=st.sampled_from([0, 0, 3]),
    )
    def calls_in_a_row(self, outcome: Outcome, calls: int, took_s: int) -> None:
        """What opens and closes breakers: some of the same, one after the other."""
        for _ in range(calls):
            known = len(self.flights)
            self.ask()
            if len(self.flights) > known:
                self.now += took_s
                self.comes_back(self.flights.pop(), outcome, None)

    @precondition(lambda self: self.phase == "open")
    @rule()
    def the_open_time_is_over(self) -> None:
        self.now = self.open_until

    @precondition(lambda self: self.phase == "half_open")
    @rule()
    def probes_are_lost(self) -> None:
        """They go out and nothing is ever heard of them: others may go once their time is over."""
        for _ in range(self.rule.half_open_calls):
            self.ask()
        self.flights = [flight for flight in self.flights if flight.watched]
        self.now += self.rule.open_s

    @rule()
    def look_ahead(self) -> None:
        assert self.breaker.refuses(self.rule, self.now) is not self.may()

    @precondition(lambda self: self.flights)
    @rule(
        data=st.data(),
        outcome=st.sampled_from(["success", "failure", "neutral"]),
        asks_for=st.sampled_from([None, 4.0]),
    )
    def a_call_ends(self, data: st.DataObject, outcome: Outcome, asks_for: float | None) -> None:
        self.comes_back(self.land(data), outcome, asks_for)

    def comes_back(self, flight: Flight, outcome: Outcome, asks_for: float | None) -> None:
        self.probes = [(permit, at) for permit, at in self.probes if permit is not flight.permit]
        took_ms = (self.now - flight.since) * 1000

        self.breaker.finish(
            flight.permit, self.rule, now=self.now, outcome=outcome, took_ms=took_ms, retry_after_s=asks_for
        )

        if flight.era == self.era and self.now >= self.tumbled + self.rule.window_s:
            self.tumbled = self.now
        if flight.era == self.era and outcome != "neutral":
            slow = self.rule.slow_call_ms is not None and took_ms > self.rule.slow_call_ms
            self.seen.append(Seen(self.now, outcome == "failure", slow))
            if asks_for is not None and outcome == "failure":
                self.asked_until = max(self.asked_until, self.now + asks_for)
            self.judge(failed=outcome == "failure")

    @precondition(lambda self: self.flights)
    @rule(data=st.data())
    def a_call_is_not_made(self, data: st.DataObject) -> None:
        flight = self.land(data)
        self.probes = [(permit, at) for permit, at in self.probes if permit is not flight.permit]
        self.breaker.release(flight.permit)

    def land(self, data: st.DataObject) -> Flight:
        return self.flights.pop(data.draw(st.integers(0, len(self.flights) - 1)))

    @rule()
    def an_operator_resets(self) -> None:
        self.breaker.reset(now=self.now, resets=self.breaker.resets + 1)
        self.turn("closed")

    @invariant()
    def it_is_in_the_phase_that_its_calls_say(self) -> None:
        assert self.breaker.phase == self.phase
        assert self.breaker.since == self.since

    @invariant()
    def it_is_never_stuck(self) -> None:
        """Whatever was lost, there is a time from which somebody may go through."""
        after = self.breaker.retry_after_s(self.rule, self.now)
        assert after is not None
        assert after <= max(self.rule.open_s, min(300.0, self.asked_until - self.now))


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)

"""A circuit breaker: failure and slow-call rates over a window, probes when half open, modes forced by operators.

- Every permit carries the generation in which it was given: what comes back from before a trip counts for nothing.
- A probe's permit expires after ``open_s``: a lost call can't keep a breaker half open for ever. What it says late still counts.
- A call in flight for longer than ``slow_call_ms`` counts as slow while it hangs: a provider that never answers opens it, too.
- ``neutral`` outcomes (cancelled, the caller's own fault) say nothing about whom was called.

Not safe for threads by itself. Times are seconds of any clock.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal, NamedTuple

from tidegate.core.policy import BreakerRule
from tidegate.core.recent import Recent, Tally

Phase = Literal["closed", "open", "half_open"]
Outcome = Literal["success", "failure", "neutral"]


class Permit:
    """Leave for one call. Hand it back once, with ``finish`` or ``release``; twice does no harm."""

    __slots__ = ("generation",)

    def __init__(self, generation: int) -> None:
        self.generation = generation


class View(NamedTuple):
    """A breaker as somebody looks at it: its phase, and the evidence for it. Rates are ``None`` while too few calls are known."""

    phase: Phase
    mode: str
    since: float
    cause: str
    calls: int
    failures: int
    slow: int
    neutral: int
    hung: int  # of ``slow``: still in flight
    failure_rate: float | None
    slow_rate: float | None
    refused: int  # since the phase began
    retry_after_s: float | None


class Breaker:
    """The state of one breaker. The rule is an argument each time, so that a new one holds at once and the window stays."""

    __slots__ = (
        "_asked_until", "_flight", "_hung", "_hung_on_credit", "_probes", "cause", "generation", "phase", "recent", "refused",
        "resets", "since",
    )  # fmt: skip

    def __init__(self, *, since: float = 0.0, resets: int = 0) -> None:
        self.generation = 0
        self.resets = resets  # the policy's ``breaker_resets`` that this state has seen
        self.recent = Recent()
        self._begin("closed", since)

    def _begin(self, phase: Phase, now: float, cause: str = "") -> None:
        self.phase: Phase = phase
        self.since = now
        self.cause = cause
        self.generation += 1
        self.refused = 0
        self._flight: OrderedDict[Permit, float] = OrderedDict()  # when each began, oldest first
        self._hung: dict[Permit, float] = {}
        self._hung_on_credit = 0
        self._probes: OrderedDict[Permit, float] = OrderedDict()  # when each was given
        if phase == "closed":
            self._asked_until = 0.0

    # Asking

    def ask(self, rule: BreakerRule, now: float) -> Permit | None:
        """Return a permit, or ``None`` when the call must not be made."""
        if rule.mode == "auto":
            if self.phase != "closed" or self._flight:
                self._see(rule, now)
            if self.phase == "closed":
                return self._permit(rule, now)
            if self.phase == "half_open" and self._room(rule, now):
                permit = self._permit(rule, now)
                self._probes[permit] = now
                return permit
        elif rule.mode != "forced_open":
            return self._permit(rule, now)
        self.refused += 1
        return None

    def refuses(self, rule: BreakerRule, now: float) -> bool:
        """Whether ``ask`` would say no; a no is counted, a yes takes no permit."""
        if rule.mode == "auto":
            if self.phase != "closed" or self._flight:
                self._see(rule, now)
            no = self.phase == "open" or (self.phase == "half_open" and not self._room(rule, now))
        else:
            no = rule.mode == "forced_open"
        self.refused += no
        return no

    def retry_after_s(self, rule: BreakerRule, now: float) -> float | None:
        """Return the seconds until a call may go through: 0.0 now, ``None`` when an operator says so."""
        if rule.mode == "forced_open":
            return None
        if rule.mode != "auto" or self.phase == "closed":
            return 0.0
        if self.phase == "open":
            return max(0.0, self._open_until(rule) - now)
        if self._room(rule, now) or not self._probes:
            return 0.0
        return max(0.0, next(iter(self._probes.values())) + rule.open_s - now)

    def started(self, permit: Permit, now: float) -> None:
        """The call goes out now and not when it asked: it may hang from here on."""
        if permit in self._flight:
            self._flight[permit] = now
            self._flight.move_to_end(permit)

    def joined(self, rule: BreakerRule, since: float) -> Permit:
        """Return a permit for a call that is out already, ``since`` then."""
        permit = Permit(self.generation)
        if rule.slow_call_ms is not None:
            self._flight[permit] = since
            self._flight = OrderedDict(sorted(self._flight.items(), key=lambda item: item[1]))
        return permit

    def hang(self, generation: int, rule: BreakerRule, *, now: float, calls: int) -> None:
        """So many calls of a generation that have no permits of their own hang now."""
        if generation == self.generation and calls != self._hung_on_credit:
            more = calls > self._hung_on_credit
            self._hung_on_credit = calls
            if more and self.phase == "closed":
                self._judge(rule, now, "")

    def _permit(self, rule: BreakerRule, now: float) -> Permit:
        permit = Permit(self.generation)
        if rule.slow_call_ms is not None:
            self._flight[permit] = now
        return permit

    def _open_until(self, rule: BreakerRule) -> float:
        asked = min(self._asked_until, self.since + rule.max_open_s)
        return max(self.since + rule.open_s, asked)

    def _room(self, rule: BreakerRule, now: float) -> bool:
        """Whether one more may probe: those that are out and those that came back are at most ``half_open_calls``."""
        probes = self._probes
        while probes and next(iter(probes.values())) + rule.open_s <= now:
            probes.popitem(last=False)
        return len(probes) + self.recent.calls < rule.half_open_calls

    def _see(self, rule: BreakerRule, now: float) -> None:
        """Bring the state up to ``now``: an open time that is over, calls that hang."""
        if self.phase == "open":
            if now >= self._open_until(rule):
                self._half_open(now)
            return
        if rule.slow_call_ms is None or not self._flight:
            return
        hung = len(self._hung)
        while self._flight and (now - next(iter(self._flight.values()))) * 1000 > rule.slow_call_ms:
            permit, since = self._flight.popitem(last=False)
            self._hung[permit] = since
        if len(self._hung) > hung:
            self._judge(rule, now, "")

    def _half_open(self, now: float) -> None:
        self.recent.clear()
        self._begin("half_open", now, self.cause)

    # Coming back

    def release(self, permit: Permit) -> None:
        """Take a permit back that was not used: a later gate refused, or the call was given up."""
        self._flight.pop(permit, None)
        self._hung.pop(permit, None)
        self._probes.pop(permit, None)

    def finish(
        self,
        permit: Permit,
        rule: BreakerRule,
        *,
        now: float,
        outcome: Outcome,
        took_ms: float,
        why: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        """Count a call that ended. ``retry_after_s`` is how long whom it called wants to be left alone."""
        self.release(permit)
        if permit.generation != self.generation:
            return
        if outcome == "neutral":
            self.recent.add_neutral(rule, now)
            return
        slow = rule.slow_call_ms is not None and took_ms > rule.slow_call_ms
        self.recent.add(rule, now, failed=outcome == "failure", slow=slow)
        if retry_after_s is not None and outcome == "failure":
            self._asked_until = max(self._asked_until, now + retry_after_s)
        self._judge(rule, now, why, failed=outcome == "failure")

    def steady(self, rule: BreakerRule) -> bool:
        """Whether it is closed, and calls that go well can't open it by making up the number that ``min_calls`` asks for."""
        counts = self._counts()
        return self.phase == "closed" and (counts.calls >= rule.min_calls or not (counts.failures or counts.slow))

    def succeeded(self, generation: int, rule: BreakerRule, *, now: float, calls: int, slow: bool = False) -> None:
        """Count so many calls of one generation that went well, all of them slow or none, as ``finish`` does one by one."""
        while slow and calls and generation == self.generation:
            self.recent.add(rule, now, failed=False, slow=True)
            self._judge(rule, now, "")
            calls -= 1
        while calls and generation == self.generation:
            steady = self.steady(rule)
            self.recent.add_good(rule, now, 1)
            self._judge(rule, now, "")
            calls -= 1
            if steady and generation == self.generation:
                self.recent.add_good(rule, now, calls)  # none of these can be the one that opens it
                return

    def _judge(self, rule: BreakerRule, now: float, why: str, *, failed: bool = False) -> None:
        if self.phase == "closed":
            self.recent.forget(rule, now)
        counts = self._counts()
        least = rule.half_open_calls if self.phase == "half_open" else rule.min_calls
        if self.phase == "half_open" and rule.probing == "strict" and failed:
            cause = f"a probe failed ({why})" if why else "a probe failed"
        elif counts.calls < least:
            return
        else:
            cause = self._fault(counts, rule, why)
        if rule.mode == "metrics_only":
            self.cause = f"would be open: {cause}" if cause else ""
        elif rule.mode == "auto" and cause:
            for _ in range(self._hanging):
                self.recent.add(rule, now, failed=False, slow=True)  # evidence, also when they never come back
            self._begin("open", now, f"when probed, {cause}" if self.phase == "half_open" else cause)
        elif rule.mode == "auto" and self.phase == "half_open":
            self.recent.clear()
            self._begin("closed", now)

    @property
    def _hanging(self) -> int:
        return len(self._hung) + self._hung_on_credit

    def _counts(self) -> Tally:
        counts, hung = self.recent.tally(), self._hanging
        return counts._replace(calls=counts.calls + hung, slow=counts.slow + hung) if hung else counts

    def _fault(self, counts: Tally, rule: BreakerRule, why: str) -> str:
        if counts.failures and counts.failures >= rule.failure_rate * counts.calls:
            return f"{counts.failures} of {counts.calls} calls failed" + (f" ({why})" if why else "")
        if rule.slow_call_ms is not None and counts.slow and counts.slow >= rule.slow_call_rate * counts.calls:
            hanging = f", {self._hanging} of them still hang" if self._hanging else ""
            return f"{counts.slow} of {counts.calls} calls took longer than {rule.slow_call_ms:g} ms{hanging}"
        return ""

    # Operators' hands

    def force(self, phase: Phase, now: float) -> None:
        """Put the breaker into a phase from which it goes on by itself. ``ValueError``: only an open one can be half opened."""
        if phase == "half_open":
            if self.phase != "open":
                raise ValueError(f"Only an open breaker can be half opened; this one is {self.phase}.")
            self._half_open(now)
            return
        if phase == "closed":
            self.recent.clear()
        self._begin(phase, now, "an operator opened it" if phase == "open" else "")

    def reset(self, *, now: float, resets: int) -> None:
        """Close it and forget everything but the operator's count of resets."""
        self.resets = resets
        self.recent.clear()
        self._begin("closed", now)

    def view(self, rule: BreakerRule, now: float) -> View:
        """Return what the breaker is at ``now``, and why."""
        if rule.mode == "auto":
            self._see(rule, now)
        if self.phase == "closed":
            self.recent.forget(rule, now)
        counts = self._counts()
        known = counts.calls and (self.phase != "closed" or counts.calls >= rule.min_calls)
        return View(
            phase=self.phase,
            mode=rule.mode,
            since=self.since,
            cause=self.cause,
            hung=self._hanging,
            failure_rate=counts.failures / counts.calls if known else None,
            slow_rate=counts.slow / counts.calls if known else None,
            refused=self.refused,
            retry_after_s=self.retry_after_s(rule, now),
            **counts._asdict(),
        )

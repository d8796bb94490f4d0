"""A circuit breaker over a window of time: failure rate, slow-call rate, probes when half open, modes forced by operators.

Every permit carries the generation in which it was given, so that what comes back late from before a trip counts for
nothing. Probes that never come back are given anew after ``open_s``: a lost call can't keep a breaker half open for ever.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from tidegate.core.policy import BreakerRule

Phase = Literal["closed", "open", "half_open"]
Outcome = Literal["success", "failure", "neutral"]

SLOTS: Final = 10


class Slot(NamedTuple):
    at: int
    calls: int = 0
    failures: int = 0
    slow: int = 0


class Permit(NamedTuple):
    generation: int
    probe: bool = False


class Breaker(NamedTuple):
    phase: Phase = "closed"
    since: float = 0.0
    generation: int = 0
    slots: tuple[Slot, ...] = ()
    probes: int = 0  # permits given in this half-open phase and not taken back
    probed_at: float = 0.0
    cause: str = ""
    resets: int = 0  # the policy's ``breaker_resets`` that this state has seen


class Tally(NamedTuple):
    calls: int
    failures: int
    slow: int


def tally(breaker: Breaker, rule: BreakerRule, now: float) -> Tally:
    """Return the calls of the window that ends at ``now``; of the probes, when half open."""
    oldest = _index(rule, now) - SLOTS if breaker.phase == "closed" else -1
    live = [slot for slot in breaker.slots if slot.at > oldest]
    return Tally(sum(s.calls for s in live), sum(s.failures for s in live), sum(s.slow for s in live))


def ask(breaker: Breaker, rule: BreakerRule, now: float) -> tuple[Breaker, Permit | None, float | None]:
    """Return the new state, and a permit or the seconds until one may be had (``None``: when an operator says so)."""
    if rule.mode == "forced_open":
        return breaker, None, None
    if rule.mode != "auto" or breaker.phase == "closed":
        return breaker, Permit(breaker.generation), None
    if breaker.phase == "open":
        left = breaker.since + rule.open_s - now
        if left > 0:
            return breaker, None, left
        breaker = Breaker(
            "half_open", now, breaker.generation + 1, probed_at=now, cause=breaker.cause, resets=breaker.resets
        )
    return _probe(breaker, rule, now)


def _probe(breaker: Breaker, rule: BreakerRule, now: float) -> tuple[Breaker, Permit | None, float | None]:
    if breaker.probes >= rule.half_open_calls:
        left = breaker.probed_at + rule.open_s - now
        if left > 0:
            return breaker, None, left
        breaker = breaker._replace(generation=breaker.generation + 1, since=now, slots=(), probes=0)
    given = breaker._replace(probes=breaker.probes + 1, probed_at=now)
    return given, Permit(breaker.generation, probe=True), None


def release(breaker: Breaker, permit: Permit) -> Breaker:
    """Take a permit back that was not used: a later gate refused, or the call was given up."""
    if permit.probe and permit.generation == breaker.generation and breaker.phase == "half_open":
        return breaker._replace(probes=max(0, breaker.probes - 1))
    return breaker


def finish(
    breaker: Breaker, rule: BreakerRule, permit: Permit, *, now: float, outcome: Outcome, took_ms: float, why: str = ""
) -> Breaker:
    """Return the state after a call ended. ``neutral`` says nothing about the provider (cancelled, the caller's fault)."""
    if permit.generation != breaker.generation:
        return breaker
    if outcome == "neutral":
        return release(breaker, permit)
    failed = int(outcome == "failure")
    slow = int(rule.slow_call_ms is not None and took_ms > rule.slow_call_ms)
    breaker = breaker._replace(slots=_counted(breaker.slots, _index(rule, now), failed, slow))
    if rule.mode != "auto":
        return breaker
    if breaker.phase == "half_open":
        return _judge_probes(breaker, rule, now, why)
    return _judge_window(breaker, rule, now, why)


def _index(rule: BreakerRule, now: float) -> int:
    return int(now * SLOTS / rule.window_s)


def _counted(slots: tuple[Slot, ...], index: int, failed: int, slow: int) -> tuple[Slot, ...]:
    if slots and slots[-1].at >= index:
        last = slots[-1]
        return (*slots[:-1], Slot(last.at, last.calls + 1, last.failures + failed, last.slow + slow))
    return (*(slot for slot in slots if slot.at > index - SLOTS), Slot(index, 1, failed, slow))


def _judge_window(breaker: Breaker, rule: BreakerRule, now: float, why: str) -> Breaker:
    counts = tally(breaker, rule, now)
    if counts.calls < rule.min_calls:
        return breaker
    cause = _cause(counts, rule, why)
    return _opened(breaker, now, cause) if cause else breaker


def _judge_probes(breaker: Breaker, rule: BreakerRule, now: float, why: str) -> Breaker:
    """Open or close by the same rates, once as many probes as the rule says have come back."""
    counts = tally(breaker, rule, now)
    if counts.calls < rule.half_open_calls:
        return breaker
    cause = _cause(counts, rule, why)
    if cause:
        return _opened(breaker, now, f"when probed, {cause}")
    return Breaker("closed", now, breaker.generation + 1, resets=breaker.resets)


def _cause(counts: Tally, rule: BreakerRule, why: str) -> str:
    if counts.failures and counts.failures >= rule.failure_rate * counts.calls:
        return f"{counts.failures} of {counts.calls} calls failed" + (f" ({why})" if why else "")
    if rule.slow_call_ms is not None and counts.slow and counts.slow >= rule.slow_call_rate * counts.calls:
        return f"{counts.slow} of {counts.calls} calls took longer than {rule.slow_call_ms:g} ms"
    return ""


def _opened(breaker: Breaker, now: float, cause: str) -> Breaker:
    return Breaker("open", now, breaker.generation + 1, slots=breaker.slots, cause=cause, resets=breaker.resets)


def reset(breaker: Breaker, *, now: float, resets: int) -> Breaker:
    """Return a closed breaker that remembers nothing but the operator's count of resets."""
    return Breaker("closed", now, breaker.generation + 1, resets=resets)

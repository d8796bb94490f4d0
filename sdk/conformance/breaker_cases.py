"""What is given in the vectors of breakers: what trips them, how they probe, what hangs, whose word they heed."""

from __future__ import annotations

from typing import Any

from sdk.conformance.case import Case, Draw, Step, case

RULE = {"window_s": 10, "min_calls": 4, "failure_rate": 0.5, "open_s": 5, "half_open_calls": 2}
GOOD, BAD, NONE = "success", "failure", "neutral"


def ask(at: float, name: str) -> Step:
    return {"do": "ask", "at": at, "as": name}


def finish(at: float, name: str, outcome: str = GOOD, **more: Any) -> Step:
    return {"do": "finish", "at": at, "of": name, "outcome": outcome, **more}


def calls(at: float, *outcomes: str, **more: Any) -> list[Step]:
    """Return the steps of calls that begin and end at once, named for their number."""
    named = [(f"{at}-{number}", outcome) for number, outcome in enumerate(outcomes)]
    return [step for name, outcome in named for step in (ask(at, name), finish(at, name, outcome, **more))]


TRIPPED = calls(1, BAD, BAD, BAD, BAD, why="timeout")


def _trips() -> list[Case]:
    return [
        case("half of the calls fail", *calls(1, GOOD, GOOD, BAD, BAD), ask(2, "x"), breaker=RULE),
        case("a success is the call that fills the window", *calls(1, BAD, BAD, BAD, GOOD), breaker=RULE),
        case("failures older than the window", *calls(1, BAD, BAD, BAD), *calls(12, GOOD, GOOD, GOOD, BAD), breaker=RULE),
        case("a tumbling window forgets all at once", *calls(1, GOOD, BAD), *calls(10.9, GOOD), *calls(11, BAD, GOOD, BAD, BAD),
              ask(12, "x"), breaker={**RULE, "window": "tumbling"}),
        case("neutral outcomes count for nothing", *calls(1, NONE, NONE, NONE, NONE, NONE, BAD, BAD, BAD), breaker=RULE),
        case("a window of calls", *calls(1, BAD, BAD, BAD, GOOD), *calls(1000, BAD, BAD, BAD, BAD),
              breaker={**RULE, "window_calls": 4, "failure_rate": 1.0}),
    ]  # fmt: skip


def _probes() -> list[Case]:
    return [
        case("probes go well", *TRIPPED, ask(5.9, "early"), ask(6, "a"), ask(6, "b"), ask(6, "c"), finish(7, "a"), finish(7, "b"),
              ask(7, "d"), breaker=RULE),
        case("probes go badly", *TRIPPED, *calls(6, GOOD, BAD), ask(7, "x"), breaker=RULE),
        case("strictly, one bad probe opens it", *TRIPPED, *calls(6, BAD), ask(7, "x"),
              breaker={**RULE, "probing": "strict", "half_open_calls": 5}),
        case("probes that never come back", *TRIPPED, ask(6, "a"), ask(6, "b"), ask(10.9, "c"), ask(11, "d"), ask(11, "e"),
              finish(12, "a"), finish(12, "d"), breaker=RULE),
        case("a probe is given back", *TRIPPED, ask(6, "a"), ask(6, "b"), {"do": "release", "at": 6, "of": "a"}, ask(6, "c"),
              breaker=RULE),
        case("what comes back from before the trip", ask(0, "old"), *TRIPPED, finish(6.5, "old"), ask(7, "a"), breaker=RULE),
    ]  # fmt: skip


def _slow_calls() -> list[Case]:
    return [
        case("calls hang", *[ask(0, name) for name in "abcd"], {"do": "start", "at": 1, "of": "d"}, ask(1.5, "e"), ask(2.6, "f"),
              finish(3, "a", took_ms=3000), breaker={**RULE, "slow_call_ms": 1000, "slow_call_rate": 0.75}),
        case("slow calls", *calls(1, GOOD, took_ms=900), *calls(2, GOOD, GOOD, GOOD, took_ms=1001),
              breaker={**RULE, "slow_call_ms": 1000, "slow_call_rate": 0.75}),
    ]  # fmt: skip


def _words() -> list[Case]:
    return [
        case("the provider says when to come back", *calls(1, BAD, BAD, BAD, BAD, retry_after_s=30), ask(30.9, "a"), ask(31, "b"),
              breaker=RULE),
        case("the provider says so within reason", *calls(1, BAD, BAD, BAD, BAD, retry_after_s=86400), ask(60.9, "a"),
              ask(61, "b"), breaker={**RULE, "max_open_s": 60}),
        case("forced", *calls(1, BAD), {"do": "force", "at": 2, "phase": "open"}, ask(3, "a"),
              {"do": "force", "at": 3, "phase": "half_open"}, ask(3, "b"), {"do": "force", "at": 4, "phase": "closed"}, ask(4, "c"),
              {"do": "reset", "at": 5}, breaker=RULE),
        case("modes", *TRIPPED, {"do": "rule", "at": 2, "with": {"mode": "forced_closed"}}, ask(2, "a"),
              {"do": "rule", "at": 2, "with": {"mode": "forced_open"}}, ask(2, "b"), breaker=RULE),
        case("metrics only", *calls(1, BAD, BAD, BAD, BAD), *calls(2, GOOD, GOOD, GOOD, GOOD, GOOD),
              breaker={**RULE, "mode": "metrics_only"}),
    ]  # fmt: skip


def _at_random() -> Case:
    draw, steps, at, out = Draw(2), list[Step](), 0.0, list[str]()
    for number in range(120):
        at += draw.below(16) / 8
        if out and draw.below(2):
            name = out.pop(draw.below(len(out)))
            steps.append(finish(at, name, draw.one_of(GOOD, GOOD, BAD, NONE)))
        else:
            steps.append(ask(at, str(number)))
    return case("forced closed, at random", *_matched(steps), breaker={**RULE, "mode": "forced_closed"})


def _matched(steps: list[Step]) -> list[Step]:
    """Return asks and finishes such that each finish has its ask before it."""
    asked, made = list[str](), list[Step]()
    for step in steps:
        if step["do"] == "ask":
            asked.append(step["as"])
            made.append(step)
        elif asked:
            made.append({**step, "of": asked.pop(0)})
    return made


ABOUT = {
    "breaker": "Breakers: permits, windows, probes, hanging calls. `breaker` is the part of a policy; times are seconds.",
}


def cases() -> dict[str, list[Case]]:
    """Return what is given, by subject."""
    return {"breaker": [*_trips(), *_probes(), *_slow_calls(), *_words(), _at_random()]}

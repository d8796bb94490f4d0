"""What is given in the vectors of what a call has to pass: limits, lines and breakers."""

from __future__ import annotations

from typing import Any

from sdk.conformance.case import Case, Draw, Step, case


def _bucket() -> list[Case]:
    def take(at: float, amount: float, **more: Any) -> Step:
        return {"do": "take", "at": at, "amount": amount, **more}

    def reserve(at: float, amount: float, name: str, **more: Any) -> Step:
        return {"do": "reserve", "at": at, "amount": amount, "as": name, **more}

    cases = [
        case("takes until it is empty, then says how long to wait", *[take(0, 1)] * 4, take(0.1, 1), rate=10, burst=3),
        case("more than the burst is taken from a full bucket, which then owes", take(0, 25), take(10, 1), take(20, 1),
              rate=1, burst=10),
        case("strictly, more than the burst is never taken", take(0, 11, strict=True), take(0, 10, strict=True), rate=1, burst=10),
        case("no rate: the burst is all there is", take(0, 1), take(0, 1), take(100000, 1), rate=0, burst=1),
        case("an estimate is corrected", take(0, 8), {"do": "correct", "at": 0, "estimated": 8, "actual": 3},
              {"do": "correct", "at": 0, "estimated": 0, "actual": 9}, take(1, 1), rate=1, burst=10),
        case("reservations one after the other, and one given back", reserve(0, 2, "a"), reserve(0, 2, "b"),
              reserve(0, 1, "c"), reserve(0, 1, "d", max_wait_s=0.25), {"do": "cancel", "at": 0.1, "of": "c"},
              {"do": "cancel", "at": 0.1, "of": "b"}, reserve(0.1, 1, "e"), rate=10, burst=2),
        case("the clock steps back", take(10, 2), take(4, 1), take(5, 1), rate=1, burst=3),
        case("rate and burst change: what was earned was earned under the old ones", take(0, 10),
              {"do": "set", "at": 5, "rate": 10, "burst": 100}, take(5, 5), take(6, 10), rate=1, burst=10),
    ]  # fmt: skip
    draw, steps, at = Draw(1), list[Step](), 0.0
    for number in range(60):
        at += draw.below(40) / 16
        amount = draw.below(12) / 2
        steps.append(reserve(at, amount, str(number)) if draw.below(3) == 0 else take(at, amount))
    return [*cases, case("sixty at random", *steps, rate=2, burst=5)]


def _queue() -> list[Case]:
    def enter(at: float, who: str, **more: Any) -> Step:
        return {"do": "enter", "at": at, "who": who, **more}

    def leave(at: float, who: str, **more: Any) -> Step:
        return {"do": "leave", "at": at, "who": who, **more}

    rule = {"max_concurrent": 2, "max_waiting": 3, "max_wait_ms": 1000}
    five = [enter(at / 10, who) for at, who in enumerate("abcde")]
    return [
        case("in order of arrival, and full", *five, enter(0.5, "f"), leave(0.6, "a"), leave(0.7, "b"), queue=rule),
        case("the more important goes first", enter(0, "a"), enter(0, "b"), enter(0, "low"), enter(0, "high", priority=5),
              leave(1, "a"), queue=rule),
        case("who has waited for long goes before a later, more important one", enter(0, "a"), enter(0, "b"), enter(0, "old"),
              enter(5.5, "new", priority=5), leave(6, "a"), queue=rule),
        case("newest first under congestion", *five, leave(0.4, "a"), leave(0.75, "b"), queue={**rule, "congestion": "lifo"}),
        case("short waits under congestion", *five, leave(0.4, "a"), enter(0.8, "f"), queue={**rule, "congestion": "codel"}),
        case("one gives up while waiting", *five, leave(0.5, "c"), leave(0.6, "a"), queue=rule),
        case("fewer slots, then more", enter(0, "a", slots=1), enter(0, "b", slots=1), {"do": "slots", "at": 1, "slots": 2}, queue=rule),
        case("who can't make it", enter(0, "a"), enter(0, "b"), {"do": "took", "at": 1, "seconds": 4},
              {"do": "hopeless", "at": 1, "patience_s": 0.9}, {"do": "hopeless", "at": 1, "patience_s": 1.0}, enter(1, "c"),
              {"do": "hopeless", "at": 1, "patience_s": 1.0}, {"do": "hopeless", "at": 1, "patience_s": 1.0, "priority": 1},
              queue=rule),
    ]  # fmt: skip


def _adaptive() -> list[Case]:
    def gradient(at: float, seconds: float, times: int, **more: Any) -> Step:
        return {"do": "gradient", "at": at, "signal": "first", "seconds": seconds, "times": times, **more}

    return [
        case("one cut for all that were under way", {"do": "drop", "started": 1, "at": 2, "times": 20},
              {"do": "drop", "started": 2.5, "at": 3}, start=100, least=1, most=100),
        case("one more for each good call", {"do": "aimd", "running": 5}, {"do": "aimd", "running": 4}, {"do": "aimd", "times": 3},
              start=10, least=1, most=12),
        case("a provider that bears twenty", gradient(0, 0.5, 20, running=1), gradient(1, 0.5, 50, bears=20),
              gradient(2, 0.5, 500, bears=20), gradient(3, 0.5, 5000, bears=20), start=200, least=1, most=200),
        case("slow for reasons of its own", gradient(0, 0.5, 20, running=1), gradient(1, 5, 40), gradient(2, 5, 2000),
              start=50, least=1, most=50),
    ]  # fmt: skip


ABOUT = {
    "adaptive": "Adaptive limits of concurrency. `running` that is not said is the limit; `bears`: seconds grow in proportion beyond it.",
    "bucket": "Token buckets. `tokens` is the content after the step; `wait_s` null: never.",
    "queue": "Lines: who runs and who waits. `queue` is the part of a policy; `run` are those who run now because somebody left.",
}


def cases() -> dict[str, list[Case]]:
    """Return what is given, by subject."""
    return {"adaptive": _adaptive(), "bucket": _bucket(), "queue": _queue()}

"""What decides here, with the handles that the tables turn. ``excluded`` names what our dialect leaves out, and why.

docs/resilience.md declares the same dialect to people.
"""

from __future__ import annotations

import random
from typing import Any, ClassVar, NamedTuple, Protocol

from controlplane.domain.shares import Claim, grant
from tidegate.core import bucket
from tidegate.core.adaptive import Adaptive
from tidegate.core.backoff import delay_s
from tidegate.core.breaker import Breaker, Outcome, Permit
from tidegate.core.policy import BreakerRule, parse_policy

Case = dict[str, Any]


class Adapter(Protocol):
    """What the runner of the tables asks for besides the operations of each table."""

    CAPS: set[str]

    def unsupported(self, case: Case) -> str:
        """Return why a case is left out, ``""`` when it is not."""


def _tagged(case: Case, excluded: dict[str, str]) -> str:
    return next((reason for tag, reason in excluded.items() if tag in case["requires"]), "")


class Gate(NamedTuple):
    """A permit, or leave without one where nobody asks the breaker."""

    permit: Permit | None


class BreakerAdapter:
    excluded: ClassVar[dict[str, str]] = {
        "half_open:consecutive_ok_sequential": "Probes go out side by side: one after the other takes as many times as long.",
    }

    def __init__(self) -> None:
        self.CAPS: set[str] = set()
        self.now = 1_000_000.0

    def unsupported(self, case: Case) -> str:
        return _tagged(case, self.excluded)

    def new(self, config: Case) -> Breaker:
        """Failures in a row are a window of as many calls that all failed. Counts are compared where both count a window.

        gobreaker's tumbling windows count neutral calls in their total, and nothing once it is open: they are compared by phase.
        """
        trip, window, half_open = config["trip"], config["window"], config["half_open"]
        in_a_row = trip["failures"] if trip["kind"] == "consecutive" else None
        tumbling = window["kind"] == "tumbling"
        self.CAPS = set() if in_a_row or tumbling else {"counts", "rates"}
        slow_s = config.get("slow_s")
        self.rule = BreakerRule(
            window_s=window.get("s", 3600),
            min_calls=in_a_row or trip["min_calls"],
            failure_rate=1.0 if in_a_row else trip["threshold"],
            slow_call_ms=None if slow_s is None else int(slow_s * 1000),
            slow_call_rate=config.get("slow_rate", 1.0),
            open_s=config["open_s"],
            half_open_calls=half_open["permits"],
            mode="auto",
            window_calls=in_a_row or window.get("size"),
            probing="strict" if half_open["decide"] == "consecutive_ok" else "rate",
            window="tumbling" if tumbling else "sliding",
        )
        self.disabled = False
        return Breaker(since=self.now)

    def ask(self, breaker: Breaker) -> Gate | None:
        if self.disabled:
            return Gate(None)
        permit = breaker.ask(self.rule, self.now)
        return None if permit is None else Gate(permit)

    def finish(self, breaker: Breaker, gate: Gate, outcome: str, took: float) -> None:
        if gate.permit is not None:
            said: dict[str, Outcome] = {"ok": "success", "fail": "failure", "ignored": "neutral"}
            breaker.finish(gate.permit, self.rule, now=self.now, outcome=said[outcome], took_ms=took * 1000)

    def release(self, breaker: Breaker, gate: Gate) -> None:
        if gate.permit is not None:
            breaker.release(gate.permit)

    def advance(self, breaker: Breaker, seconds: float) -> None:
        self.now += seconds

    def force(self, breaker: Breaker, state: str) -> None:
        """Forced open is a mode of the rule, disabled is ``enforcement: off``: then nobody asks."""
        if state == "forced_open":
            self.rule = self.rule._replace(mode="forced_open")
        elif state == "disabled":
            self.disabled = True
        else:
            self.rule = self.rule._replace(mode="auto")
            self.disabled = False
            breaker.force(state, self.now)  # type: ignore[arg-type]  # one of the phases

    def reset(self, breaker: Breaker) -> None:
        self.rule, self.disabled = self.rule._replace(mode="auto"), False
        breaker.reset(now=self.now, resets=breaker.resets)

    def look(self, breaker: Breaker) -> Case:
        view = breaker.view(self.rule, self.now)
        state = "disabled" if self.disabled else "forced_open" if view.mode == "forced_open" else view.phase
        return {
            "state": state,
            "total": view.calls,
            "ok": view.calls - view.failures,
            "fail": view.failures,
            "ignored": view.neutral,
            "rejected": view.refused,
            "failure_rate": None if view.failure_rate is None else view.failure_rate * 100,
            "slow_rate": None if view.slow_rate is None else view.slow_rate * 100,
        }


class Kept:
    """A bucket with what it is tuned to, and when it was looked at last."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = burst
        self.state = bucket.full(burst, 0.0)

    def tune(self, t: float, *, rate: float | None = None, burst: float | None = None) -> None:
        self.state = bucket.filled(self.state, now=t, rate=self.rate, burst=self.burst)
        self.rate = self.rate if rate is None else rate
        self.burst = self.burst if burst is None else burst


class BucketAdapter:
    excluded: ClassVar[dict[str, str]] = {}

    def __init__(self) -> None:
        self.CAPS = {"tokens", "retry_after"}

    def unsupported(self, case: Case) -> str:
        return _tagged(case, self.excluded)

    def new(self, config: Case) -> Kept:
        return Kept(config["rate_per_s"], config["burst"])

    def take(self, kept: Kept, t: float, n: float) -> tuple[bool, Case]:
        before = bucket.filled(kept.state, now=t, rate=kept.rate, burst=kept.burst)
        kept.state, wait = bucket.take(kept.state, now=t, rate=kept.rate, burst=kept.burst, amount=n, strict=True)
        return wait == 0.0, {"tokens": before.tokens, "retry_after_s": wait}

    def reserve(self, kept: Kept, t: float, n: float, max_wait_s: float | None) -> tuple[bool, float, Any]:
        most = float("inf") if max_wait_s is None else max_wait_s
        kept.state, made = bucket.reserve(kept.state, now=t, rate=kept.rate, burst=kept.burst, amount=n, max_wait=most)
        return made is not None, 0.0 if made is None else made.at, made

    def cancel(self, kept: Kept, t: float, made: bucket.Reservation) -> None:
        kept.state = bucket.cancel(kept.state, made, now=t, rate=kept.rate, burst=kept.burst)

    def set_rate(self, kept: Kept, t: float, rate: float) -> None:
        kept.tune(t, rate=rate)

    def set_burst(self, kept: Kept, t: float, burst: float) -> None:
        kept.tune(t, burst=burst)


class BackoffAdapter:
    excluded: ClassVar[dict[str, str]] = {}

    def __init__(self) -> None:
        self.CAPS: set[str] = set()

    def unsupported(self, case: Case) -> str:
        return ""

    def delay(self, config: Case, attempt: int, uniform: float | None) -> float:
        """A constant delay grows by a factor of one. Where peers have no greatest delay, ours is beyond what a policy may say."""
        said = {
            "base_ms": int(config["base_s"] * 1000),
            "jitter": "none" if config["jitter"] == "any" else config["jitter"],
            "growth": "linear" if config["kind"] == "linear" else "exponential",
            "factor": 1 if config["kind"] == "constant" else config.get("factor", 2),
        }
        rule = parse_policy({"retry": said}).retry
        assert rule is not None
        rule = rule._replace(max_ms=int(config.get("max_s", 10**9) * 1000))
        return delay_s(rule, retry=attempt, uniform=random.random() if uniform is None else uniform)


class ConcurrencyAdapter:
    excluded: ClassVar[dict[str, str]] = {
        "vegas": "How long a whole call takes says how long its answer is: limits go by first tokens and by drops.",
        "gradient": "As vegas; ours holds several signals against their own past and probes for what is best.",
        "gradient2": "As gradient.",
    }

    def __init__(self) -> None:
        self.CAPS: set[str] = set()
        self.now = 0.0

    def unsupported(self, case: Case) -> str:
        return self.excluded.get(case["algo"], "")

    def new(self, algo: str, config: Case) -> Adaptive:
        self.bounds = config.get("min", 1), config.get("max", 1000)
        return Adaptive(config["initial"])

    def sample(self, limit: Adaptive, rtt_ms: float, inflight: int, dropped: bool) -> int:
        self.now += 1
        if dropped:
            limit.dropped(started=self.now, now=self.now)
        else:
            limit.aimd(running=inflight)
        return limit.bounded(*self.bounds)


class LeaseAdapter:
    excluded: ClassVar[dict[str, str]] = {}

    def __init__(self) -> None:
        self.CAPS: set[str] = set()

    def unsupported(self, case: Case) -> str:
        return ""

    def grant(self, case: Case) -> tuple[list[float], float]:
        known: dict[str, Claim] = {}
        if case["preloaded"]:
            known = {each["client"]: Claim(each["wants"], each["weight"]) for each in case["requests"]}
        given: list[float] = []
        largest = 0.0
        for each in case["requests"]:
            known[each["client"]] = Claim(each["wants"], each["weight"])
            index = list(known).index(each["client"])
            part = grant(case["algorithm"], case["capacity"], list(known.values()), index)
            known[each["client"]] = known[each["client"]]._replace(has=part)
            given.append(part)
            largest = max(largest, sum(claim.has for claim in known.values()))
        return given, largest


ADAPTERS: dict[str, type[Adapter]] = {
    "circuit_breaker": BreakerAdapter,
    "token_bucket": BucketAdapter,
    "backoff": BackoffAdapter,
    "concurrency_limit": ConcurrencyAdapter,
    "lease_share": LeaseAdapter,
}

"""What is given in the vectors; what must follow is computed by ``make``. Chance is a small generator with a fixed seed."""

from __future__ import annotations

from typing import Any

from sdk.conformance import more_cases

Case = dict[str, Any]
Step = dict[str, Any]


class Draw:
    """A linear congruential generator: the same numbers everywhere."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def below(self, most: int) -> int:
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self._state >> 33) % most

    def one_of(self, *choices: Any) -> Any:
        return choices[self.below(len(choices))]


def _case(name: str, *steps: Step, **given: Any) -> Case:
    return {"name": name, **given, "steps": list(steps)}


def _bucket() -> list[Case]:
    def take(at: float, amount: float, **more: Any) -> Step:
        return {"do": "take", "at": at, "amount": amount, **more}

    def reserve(at: float, amount: float, name: str, **more: Any) -> Step:
        return {"do": "reserve", "at": at, "amount": amount, "as": name, **more}

    cases = [
        _case("takes until it is empty, then says how long to wait", *[take(0, 1)] * 4, take(0.1, 1), rate=10, burst=3),
        _case("more than the burst is taken from a full bucket, which then owes", take(0, 25), take(10, 1), take(20, 1),
              rate=1, burst=10),
        _case("strictly, more than the burst is never taken", take(0, 11, strict=True), take(0, 10, strict=True), rate=1, burst=10),
        _case("no rate: the burst is all there is", take(0, 1), take(0, 1), take(100000, 1), rate=0, burst=1),
        _case("an estimate is corrected", take(0, 8), {"do": "correct", "at": 0, "estimated": 8, "actual": 3},
              {"do": "correct", "at": 0, "estimated": 0, "actual": 9}, take(1, 1), rate=1, burst=10),
        _case("reservations one after the other, and one given back", reserve(0, 2, "a"), reserve(0, 2, "b"),
              reserve(0, 1, "c"), reserve(0, 1, "d", max_wait_s=0.25), {"do": "cancel", "at": 0.1, "of": "c"},
              {"do": "cancel", "at": 0.1, "of": "b"}, reserve(0.1, 1, "e"), rate=10, burst=2),
        _case("the clock steps back", take(10, 2), take(4, 1), take(5, 1), rate=1, burst=3),
        _case("rate and burst change: what was earned was earned under the old ones", take(0, 10),
              {"do": "set", "at": 5, "rate": 10, "burst": 100}, take(5, 5), take(6, 10), rate=1, burst=10),
    ]  # fmt: skip
    draw, steps, at = Draw(1), list[Step](), 0.0
    for number in range(60):
        at += draw.below(40) / 16
        amount = draw.below(12) / 2
        steps.append(reserve(at, amount, str(number)) if draw.below(3) == 0 else take(at, amount))
    return [*cases, _case("sixty at random", *steps, rate=2, burst=5)]


def _breaker() -> list[Case]:
    rule = {"window_s": 10, "min_calls": 4, "failure_rate": 0.5, "open_s": 5, "half_open_calls": 2}

    def calls(at: float, *outcomes: str, **more: Any) -> list[Step]:
        steps = list[Step]()
        for number, outcome in enumerate(outcomes):
            name = f"{at}-{number}"
            steps += [
                {"do": "ask", "at": at, "as": name},
                {"do": "finish", "at": at, "of": name, "outcome": outcome, **more},
            ]
        return steps

    def ask(at: float, name: str) -> Step:
        return {"do": "ask", "at": at, "as": name}

    def finish(at: float, name: str, outcome: str = "success", **more: Any) -> Step:
        return {"do": "finish", "at": at, "of": name, "outcome": outcome, **more}

    good, bad, none = "success", "failure", "neutral"
    tripped = calls(1, bad, bad, bad, bad, why="timeout")
    cases = [
        _case("half of the calls fail", *calls(1, good, good, bad, bad), ask(2, "x"), breaker=rule),
        _case("a success is the call that fills the window", *calls(1, bad, bad, bad, good), breaker=rule),
        _case("failures older than the window", *calls(1, bad, bad, bad), *calls(12, good, good, good, bad), breaker=rule),
        _case("a tumbling window forgets all at once", *calls(1, good, bad), *calls(10.9, good), *calls(11, bad, good, bad, bad),
              ask(12, "x"), breaker={**rule, "window": "tumbling"}),
        _case("neutral outcomes count for nothing", *calls(1, none, none, none, none, none, bad, bad, bad), breaker=rule),
        _case("a window of calls", *calls(1, bad, bad, bad, good), *calls(1000, bad, bad, bad, bad),
              breaker={**rule, "window_calls": 4, "failure_rate": 1.0}),
        _case("probes go well", *tripped, ask(5.9, "early"), ask(6, "a"), ask(6, "b"), ask(6, "c"), finish(7, "a"), finish(7, "b"),
              ask(7, "d"), breaker=rule),
        _case("probes go badly", *tripped, *calls(6, good, bad), ask(7, "x"), breaker=rule),
        _case("strictly, one bad probe opens it", *tripped, *calls(6, bad), ask(7, "x"),
              breaker={**rule, "probing": "strict", "half_open_calls": 5}),
        _case("probes that never come back", *tripped, ask(6, "a"), ask(6, "b"), ask(10.9, "c"), ask(11, "d"), ask(11, "e"),
              finish(12, "a"), finish(12, "d"), breaker=rule),
        _case("a probe is given back", *tripped, ask(6, "a"), ask(6, "b"), {"do": "release", "at": 6, "of": "a"}, ask(6, "c"),
              breaker=rule),
        _case("what comes back from before the trip", ask(0, "old"), *tripped, finish(6.5, "old"), ask(7, "a"), breaker=rule),
        _case("calls hang", *[ask(0, name) for name in "abcd"], {"do": "start", "at": 1, "of": "d"}, ask(1.5, "e"), ask(2.6, "f"),
              finish(3, "a", took_ms=3000), breaker={**rule, "slow_call_ms": 1000, "slow_call_rate": 0.75}),
        _case("slow calls", *calls(1, good, took_ms=900), *calls(2, good, good, good, took_ms=1001),
              breaker={**rule, "slow_call_ms": 1000, "slow_call_rate": 0.75}),
        _case("the provider says when to come back", *calls(1, bad, bad, bad, bad, retry_after_s=30), ask(30.9, "a"), ask(31, "b"),
              breaker=rule),
        _case("the provider says so within reason", *calls(1, bad, bad, bad, bad, retry_after_s=86400), ask(60.9, "a"),
              ask(61, "b"), breaker={**rule, "max_open_s": 60}),
        _case("forced", *calls(1, bad), {"do": "force", "at": 2, "phase": "open"}, ask(3, "a"),
              {"do": "force", "at": 3, "phase": "half_open"}, ask(3, "b"), {"do": "force", "at": 4, "phase": "closed"}, ask(4, "c"),
              {"do": "reset", "at": 5}, breaker=rule),
        _case("modes", *tripped, {"do": "rule", "at": 2, "with": {"mode": "forced_closed"}}, ask(2, "a"),
              {"do": "rule", "at": 2, "with": {"mode": "forced_open"}}, ask(2, "b"), breaker=rule),
        _case("metrics only", *calls(1, bad, bad, bad, bad), *calls(2, good, good, good, good, good),
              breaker={**rule, "mode": "metrics_only"}),
    ]  # fmt: skip
    draw, steps, at, out = Draw(2), list[Step](), 0.0, list[str]()
    for number in range(120):
        at += draw.below(16) / 8
        if out and draw.below(2):
            name = out.pop(draw.below(len(out)))
            steps.append(finish(at, name, draw.one_of(good, good, bad, none)))
        else:
            steps.append(ask(at, str(number)))
    return [*cases, *[_case("forced closed, at random", *_matched(steps), breaker={**rule, "mode": "forced_closed"})]]


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


def _backoff() -> list[Case]:
    uniforms = (0.0, 0.25, 0.5, 0.999999)
    cases = []
    for jitter in ("none", "full", "equal", "decorrelated", "quarter", "half"):
        steps: list[Step] = [
            {"do": "delay", "retry": retry, "uniform": uniform, "previous_s": previous}
            for retry, previous in ((1, 0.0), (2, 0.2), (3, 0.5), (7, 6.0), (10000, 8.0)) for uniform in uniforms
        ]  # fmt: skip
        steps += [{"do": "delay", "retry": 2, "uniform": u, "retry_after_s": 60} for u in uniforms]
        steps += [{"do": "delay", "retry": 5, "uniform": u, "retry_after_s": 0.001} for u in uniforms]
        cases.append(_case(f"jitter {jitter}", *steps, retry={"base_ms": 200, "max_ms": 8000, "jitter": jitter}))
    for growth, factor in (("linear", 2), ("exponential", 1), ("exponential", 1.5), ("exponential", 10)):
        rule = {"base_ms": 200, "max_ms": 8000, "jitter": "none", "growth": growth, "factor": factor}
        steps = [{"do": "delay", "retry": retry, "uniform": 0.0} for retry in (1, 2, 3, 7, 10000)]
        cases.append(_case(f"growth {growth} by {factor}", *steps, retry=rule))
    deadlines: list[Step] = [
        {"do": "fits", "delay_s": delay, "left_s": left}
        for delay, left in ((1.0, 2.0), (2.0, 2.0), (2.0, 0.0), (120.0, None), (120.5, None))
    ]
    budget: list[Step] = [
        *[{"do": "retry"}] * 11,
        {"do": "call", "times": 4},
        {"do": "retry"},
        {"do": "call"},
        {"do": "retry"},
    ]
    return [
        *cases,
        _case("an attempt must begin before the deadline", *deadlines, retry={}),
        _case("retries and hedges are a fraction of calls", *budget, retry={"budget_ratio": 0.2}),
        _case("no retries", {"do": "call", "times": 100}, {"do": "retry"}, retry={"budget_ratio": 0.0}),
    ]


def _queue() -> list[Case]:
    def enter(at: float, who: str, **more: Any) -> Step:
        return {"do": "enter", "at": at, "who": who, **more}

    def leave(at: float, who: str, **more: Any) -> Step:
        return {"do": "leave", "at": at, "who": who, **more}

    rule = {"max_concurrent": 2, "max_waiting": 3, "max_wait_ms": 1000}
    five = [enter(at / 10, who) for at, who in enumerate("abcde")]
    return [
        _case("in order of arrival, and full", *five, enter(0.5, "f"), leave(0.6, "a"), leave(0.7, "b"), queue=rule),
        _case("the more important goes first", enter(0, "a"), enter(0, "b"), enter(0, "low"), enter(0, "high", priority=5),
              leave(1, "a"), queue=rule),
        _case("who has waited for long goes before a later, more important one", enter(0, "a"), enter(0, "b"), enter(0, "old"),
              enter(5.5, "new", priority=5), leave(6, "a"), queue=rule),
        _case("newest first under congestion", *five, leave(0.4, "a"), leave(0.75, "b"), queue={**rule, "congestion": "lifo"}),
        _case("short waits under congestion", *five, leave(0.4, "a"), enter(0.8, "f"), queue={**rule, "congestion": "codel"}),
        _case("one gives up while waiting", *five, leave(0.5, "c"), leave(0.6, "a"), queue=rule),
        _case("fewer slots, then more", enter(0, "a", slots=1), enter(0, "b", slots=1), {"do": "slots", "at": 1, "slots": 2}, queue=rule),
        _case("who can't make it", enter(0, "a"), enter(0, "b"), {"do": "took", "at": 1, "seconds": 4},
              {"do": "hopeless", "at": 1, "patience_s": 0.9}, {"do": "hopeless", "at": 1, "patience_s": 1.0}, enter(1, "c"),
              {"do": "hopeless", "at": 1, "patience_s": 1.0}, {"do": "hopeless", "at": 1, "patience_s": 1.0, "priority": 1},
              queue=rule),
    ]  # fmt: skip


def _adaptive() -> list[Case]:
    def gradient(at: float, seconds: float, times: int, **more: Any) -> Step:
        return {"do": "gradient", "at": at, "signal": "first", "seconds": seconds, "times": times, **more}

    return [
        _case("one cut for all that were under way", {"do": "drop", "started": 1, "at": 2, "times": 20},
              {"do": "drop", "started": 2.5, "at": 3}, start=100, least=1, most=100),
        _case("one more for each good call", {"do": "aimd", "running": 5}, {"do": "aimd", "running": 4}, {"do": "aimd", "times": 3},
              start=10, least=1, most=12),
        _case("a provider that bears twenty", gradient(0, 0.5, 20, running=1), gradient(1, 0.5, 50, bears=20),
              gradient(2, 0.5, 500, bears=20), gradient(3, 0.5, 5000, bears=20), start=200, least=1, most=200),
        _case("slow for reasons of its own", gradient(0, 0.5, 20, running=1), gradient(1, 5, 40), gradient(2, 5, 2000),
              start=50, least=1, most=50),
    ]  # fmt: skip


def _faults() -> list[Case]:
    statuses = (400, 401, 402, 403, 404, 408, 409, 413, 422, 425, 429, 500, 502, 503, 504, 529)
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    after: list[Step] = [
        {"do": "read", "status": 429, "headers": {"retry-after": "1.5"}},
        {"do": "read", "status": 429, "headers": {"retry-after": "-1"}},
        {"do": "read", "status": 429, "headers": {"retry-after": "soon"}},
        {"do": "read", "status": 503, "headers": {"retry-after": date, "date": "Sun, 06 Nov 1994 08:49:07 GMT"}},
        {"do": "read", "status": 503, "headers": {"retry-after": date}, "wall_s": 784111770.5},
        {"do": "read", "status": 503, "headers": {"retry-after": date}, "wall_s": 784111800},
        {"do": "read", "status": 503, "headers": {"retry-after": date}},
    ]
    dates = (
        date,
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sat, 31 Dec 2016 23:59:60 GMT",
        "31 Feb 1994",
        "120",
    )
    return [
        _case("whose fault a status is", *[{"do": "read", "status": status} for status in statuses]),
        _case("when to come back", *after),
        _case("dates of HTTP", *[{"do": "date", "text": text} for text in dates]),
    ]


def _leases() -> list[Case]:
    def hold(bound: int) -> Step:
        return {"do": "hold", "bound": bound}

    def settle(bound: int, cost: int) -> Step:
        return {"do": "settle", "bound": bound, "cost": cost}

    return [
        _case("held, settled, asked for again", hold(1), {"do": "grant", "granted": 100}, hold(60), hold(41), hold(40), settle(60, 25),
              settle(40, 55), hold(21), hold(20)),
        _case("answers come late and twice", {"do": "grant", "granted": 100}, {"do": "grant", "granted": 60},
              {"do": "grant", "granted": 100}, {"do": "grant", "granted": 130}),
        _case("what is idle goes back", {"do": "grant", "granted": 100}, hold(30), {"do": "cap", "idle": 50}, {"do": "cap", "idle": 0},
              settle(30, 10), {"do": "cap", "idle": 0}),
        _case("only watched", {"do": "hold_unfunded", "bound": 10}, settle(10, 12), hold(1)),
        _case("the pace and what to ask for", {"do": "grant", "granted": 10**9}, {"do": "pace", "at": 0}, hold(500), settle(500, 500),
              {"do": "pace", "at": 0.1}, {"do": "pace", "at": 1}, {"do": "want", "interval_s": 1, "denied": 7, "typical": 3},
              {"do": "pace", "at": 6}, {"do": "want", "interval_s": 1, "denied": 0, "typical": 3}),
    ]  # fmt: skip


def _windows() -> list[Case]:
    draw = Draw(3)
    return [
        _case("nothing", {"values": []}),
        _case("edges of buckets", {"values": [0, 1, 2, 3, 4, 1023, 1024, 1025]}, {"values": [2**40, 2**52]}),
        _case(
            "at random, merged",
            *[{"values": [draw.below(10 ** (1 + draw.below(9))) for _ in range(40)]} for _ in range(3)],
        ),
    ]


def _policy() -> list[Case]:
    documents: list[Any] = [
        {},
        {
            "limits": [
                {"unit": "requests", "amount": 600},
                {"unit": "tokens", "amount": 9, "per_s": 0.5, "burst": 1, "scope": "instance"},
            ]
        },
        {"queue": {"max_concurrent": 16}, "breaker": {}, "retry": {}, "timeout_ms": 30000},
        {
            "breaker": {"window_calls": 10},
            "fallbacks": [{"route": "small"}, {"value": {"text": "busy"}}],
            "enforcement": "shadow",
        },
        {"queue": {"max_concurrent": 2, "min_concurrent": 3}, "breaker": {"window_calls": 5, "min_calls": 6}},
        {"limits": [{"unit": "calls", "amount": 0}], "retry": {"jitter": "some"}, "unknown": 1, "timeout_ms": True},
        {"fallbacks": [{"route": "a", "value": 1}], "queue": [], "enforcement": "maybe"},
        [],
    ]
    layers = [
        {"timeout_ms": 1, "queue": {"max_concurrent": 1}},
        {"queue": {"max_concurrent": 9}},
        {"enforcement": "off"},
    ]
    snapshot = {
        "format": 1, "revision": 4, "scope": None, "prices": None, "sync_ms": 1000, "lease_ttl_ms": 15000,
        "policies": [{"timeout_ms": 1000}, {"timeout_ms": 2000}, {"timeout_ms": 3000}],
        "tenants": {"acme": {"parent": None, "routes": {"*": 0, "chat": 1}, "budgets": [2, 1]}},
        "default": {"routes": {"*": 2}, "budgets": [1]},
        "budgets": {
            "1": {"tenant": None, "slug": "all", "match": {}, "on_exhausted": "block"},
            "2": {"tenant": "acme", "slug": "support", "match": {"category": "support", "model": "Maker/M"}, "on_exhausted": "warn"},
        },
    }  # fmt: skip
    asked: list[Step] = [
        {"do": "look_up", "tenant": "acme", "route": "chat", "category": "support", "model": "maker/m"},
        {"do": "look_up", "tenant": "acme", "route": "chat", "category": "support", "model": "MAKER/M"},
        {"do": "look_up", "tenant": "acme", "route": "chat", "category": "Support", "model": "maker/m"},
        {"do": "look_up", "tenant": "acme", "route": "embed", "category": "support", "model": "other"},
        {"do": "look_up", "tenant": "nobody", "route": "chat"},
        {"do": "look_up", "tenant": None, "route": "chat"},
    ]
    return [
        _case("documents, completed or refused", *[{"do": "complete", "document": document} for document in documents]),
        _case("a later one replaces whole parts", {"do": "inherit", "documents": layers}),
        _case("what governs a call", *asked, snapshot=snapshot),
    ]


def _grants() -> list[Case]:
    def report(want: int, min_useful: int = 1, **more: int) -> Step:
        return {"want": want, "min_useful": min_useful, **more}

    def account(amount: int, **more: Any) -> dict[str, Any]:
        return {"amount": amount, "outstanding": 0, "settled": 0, **more}

    return [
        _case("slices of what is left", *[report(1000, settled=settled) for settled in (0, 200, 390, 500, 600, 700)], path=[account(1000)]),
        _case("the tightest account decides", report(100), report(100, settled=20), report(100, 90, settled=25, held=1),
              path=[account(500), account(60)]),
        _case("an account that only warns", report(100), report(100, settled=150), path=[account(10, blocks=False)]),
        _case("calls cost more than their bounds", report(50), report(50, settled=80), report(50, settled=80), path=[account(1000)]),
        _case("a lowered amount takes back what is idle", report(50), report(50, settled=10, held=5), path=[account(40, settled=35)]),
        _case("archived", report(50), path=[account(1000, archived=True, blocks=False)]),
        _case("settled by mistake", report(50), report(50, settled=40), report(50, settled=40, corrected=30), path=[account(60)]),
    ]  # fmt: skip


def _shares() -> list[Case]:
    def sync(instance: int, per_s: float, share: float) -> Step:
        return {"do": "sync", "instance": instance, "per_s": per_s, "share": share}

    def grant(algorithm: str, capacity: float, index: int, *claims: tuple[float, float, float]) -> Step:
        told = [{"wants": wants, "weight": weight, "has": has} for wants, weight, has in claims]
        return {"do": "grant", "algorithm": algorithm, "capacity": capacity, "index": index, "claims": told}

    three = ((1000.0, 1.0, 0.0), (60.0, 1.0, 0.0), (10.0, 1.0, 0.0))
    return [
        _case("parts by demand", *[{"do": "parts", "capacity": capacity, "demands": demands} for capacity in (0, 100)
              for demands in ([0], [5], [0, 0], [30, 10], [1000, 20, 30], [1, 2, 3])]),
        _case("one gives way, the other gets it", sync(0, 30, 0), sync(1, 10, 0), sync(0, 30, 1.0), sync(1, 10, 0), sync(0, 30, 0.725),
              sync(1, 10, 0), sync(1, 10, 0.275), instances=2, capacity=0, whole=False),
        _case("an answer is lost", sync(0, 90, 0), sync(1, 90, 0), sync(0, 90, 1.0), sync(0, 90, 1.0), sync(1, 90, 0), sync(0, 90, 0.5),
              sync(1, 90, 0), instances=2, capacity=100, whole=False),
        _case("whole slots", sync(0, 9, 0), sync(1, 9, 0), sync(2, 9, 0), sync(0, 9, 1.0), sync(0, 9, 1 / 4), sync(1, 9, 0),
              sync(2, 9, 0), instances=3, capacity=4, whole=True),
        _case("grants", *[grant("fair_share", 120, index, *three) for index in range(3)],
              *[grant("proportional_share", 120, index, *three) for index in range(3)],
              grant("fair_share", 120, 1, (1000, 6, 100), (500, 4, 0), (200, 2, 0)), grant("static_per_client", 50, 0, *three),
              grant("none", 0, 0, *three)),
    ]  # fmt: skip


ABOUT = {
    **more_cases.ABOUT,
    "adaptive": "Adaptive limits of concurrency. `running` that is not said is the limit; `bears`: seconds grow in proportion beyond it.",
    "backoff": "Delays of retries with given uniforms, deadlines, and the budget that retries and hedges share.",
    "breaker": "Breakers: permits, windows, probes, hanging calls. `breaker` is the part of a policy; times are seconds.",
    "bucket": "Token buckets. `tokens` is the content after the step; `wait_s` null: never.",
    "faults": "What a provider's answer says: kind, whose fault, whether billed, whether to try again, when.",
    "grants": "What the server grants on a lease. Each step is a report; the path is leaf first; amounts are nano-USD.",
    "leases": "The SDK's side of a lease. `counters` are granted, settled, returned, corrected, held; amounts are nano-USD.",
    "policy": "Policy documents completed, refused (the paths of what is wrong), inherited, looked up in a snapshot.",
    "queue": "Lines: who runs and who waits. `queue` is the part of a policy; `run` are those who run now because somebody left.",
    "shares": "Dividing a fleet's limit. A sync says which share the instance uses and what it asks for.",
    "windows": "Distributions as docs/protocol.md packs them. Each step merges its values; quantiles at 0, 0.5, 0.9, 0.99 and 1.",
}


def cases() -> dict[str, list[Case]]:
    """Return what is given, by subject."""
    return {
        **more_cases.cases(),
        "adaptive": _adaptive(), "backoff": _backoff(), "breaker": _breaker(), "bucket": _bucket(), "faults": _faults(),
        "grants": _grants(), "leases": _leases(), "policy": _policy(), "queue": _queue(), "shares": _shares(), "windows": _windows(),
    }  # fmt: skip

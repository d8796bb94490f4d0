"""How each subject of the vectors is decided: a case's steps, one after the other, and what must follow from each.

A case is an object with a name, what is given, and ``steps``; a step says what is done (``do``) with its arguments, and what is
expected. An SDK in another language does the same steps and compares; numbers within 1e-9, relative.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from sdk.conformance.case import Case
from tidegate.core import bucket, budget
from tidegate.core.adaptive import Adaptive
from tidegate.core.asking import read_request
from tidegate.core.backoff import RetryBudget, delay_s, earned, fits, spent
from tidegate.core.breaker import Breaker, Permit
from tidegate.core.fallback import in_order
from tidegate.core.outcome import http_date, read
from tidegate.core.outputs import Outputs
from tidegate.core.policy import PolicyError, complete, inherit, parse_policy
from tidegate.core.queue import Entry, Line
from tidegate.core.snapshot import compile_snapshot
from tidegate.core.window import Distribution, quantile

Subject = Callable[[Case], Iterator[Any]]


def of_bucket(case: Case) -> Iterator[Any]:
    rate, burst = case["rate"], case["burst"]
    state = bucket.full(burst, 0.0)
    made: dict[str, bucket.Reservation | None] = {}
    for step in case["steps"]:
        now, said = step["at"], {}
        match step["do"]:
            case "take":
                amount, strict = step["amount"], step.get("strict", False)
                state, wait = bucket.take(state, now=now, rate=rate, burst=burst, amount=amount, strict=strict)
                said = {"wait_s": None if wait == float("inf") else wait}
            case "reserve":
                most = step.get("max_wait_s", float("inf"))
                state, reservation = bucket.reserve(
                    state, now=now, rate=rate, burst=burst, amount=step["amount"], max_wait=most
                )
                made[step["as"]] = reservation
                said = {"acts_at": None if reservation is None else reservation.at}
            case "cancel":
                reservation = made[step["of"]]
                if reservation is not None:
                    state = bucket.cancel(state, reservation, now=now, rate=rate, burst=burst)
            case "correct":
                state = bucket.correct(state, estimated=step["estimated"], actual=step["actual"], burst=burst)
            case "set":
                state = bucket.filled(state, now=now, rate=rate, burst=burst)
                rate, burst = step["rate"], step["burst"]
        yield {**said, "tokens": bucket.filled(state, now=now, rate=rate, burst=burst).tokens}


def of_breaker(case: Case) -> Iterator[Any]:
    rule = parse_policy({"breaker": case["breaker"]}).breaker
    assert rule is not None
    state, permits = Breaker(since=0.0), dict[str, Permit | None]()
    for step in case["steps"]:
        now, said = step["at"], {}
        match step["do"]:
            case "ask":
                permits[step["as"]] = permit = state.ask(rule, now)
                said = {"permitted": permit is not None}
            case "start":
                state.started(_given(permits, step), now)
            case "finish":
                state.finish(
                    _given(permits, step), rule, now=now, outcome=step["outcome"], took_ms=step.get("took_ms", 0),
                    why=step.get("why", ""), retry_after_s=step.get("retry_after_s"),
                )  # fmt: skip
            case "release":
                state.release(_given(permits, step))
            case "force":
                state.force(step["phase"], now)
            case "reset":
                state.reset(now=now, resets=state.resets + 1)
            case "rule":
                rule = rule._replace(**step["with"])
        view = state.view(rule, now)._asdict()
        told = (
            "phase",
            "cause",
            "calls",
            "failures",
            "slow",
            "neutral",
            "hung",
            "refused",
            "failure_rate",
            "retry_after_s",
        )
        yield {**said, **{name: view[name] for name in told}}


def _given(permits: dict[str, Permit | None], step: Case) -> Permit:
    permit = permits[step["of"]]
    assert permit is not None, step
    return permit


def of_backoff(case: Case) -> Iterator[Any]:
    rule = parse_policy({"retry": case["retry"]}).retry
    assert rule is not None
    balance = RetryBudget()
    for step in case["steps"]:
        match step["do"]:
            case "delay":
                after, before = step.get("retry_after_s"), step.get("previous_s", 0.0)
                yield {
                    "delay_s": delay_s(
                        rule, retry=step["retry"], uniform=step["uniform"], retry_after_s=after, previous_s=before
                    )
                }
            case "fits":
                yield {"fits": fits(step["delay_s"], left_s=step["left_s"])}
            case "call":
                for _ in range(step.get("times", 1)):
                    balance = earned(balance, rule.budget_ratio)
                yield {"balance": balance.balance}
            case "retry":
                left = spent(balance, rule.budget_ratio)
                balance = left if left is not None else balance
                yield {"allowed": left is not None, "balance": balance.balance}


def of_queue(case: Case) -> Iterator[Any]:
    rule = parse_policy({"queue": case["queue"]}).queue
    assert rule is not None
    line, places = Line(), dict[str, Entry]()
    for step in case["steps"]:
        now, slots = step["at"], step.get("slots")
        said: Case = {}
        match step["do"]:
            case "enter":
                entry = line.enter(rule, step["who"], now=now, priority=step.get("priority", 0), slots=slots)
                if entry is not None:
                    places[step["who"]] = entry
                said = {"place": None if entry is None else entry.state}
            case "leave":
                line.leave(places[step["who"]])
                said = {"run": [entry.owner for entry in line.promote(rule, now=now, slots=slots)]}
            case "slots":
                said = {"run": [entry.owner for entry in line.promote(rule, now=now, slots=slots)]}
            case "took":
                line.took(step["seconds"])
            case "hopeless":
                hopeless = line.hopeless(
                    rule,
                    slots=slots or rule.max_concurrent,
                    priority=step.get("priority", 0),
                    patience_s=step["patience_s"],
                )
                said = {"hopeless": hopeless}
        more = {"running": line.running, "waiting": line.waiting, "patience_s": line.patience_s(rule, now)}
        yield {**said, **more, "estimate_s": line.estimate_s(rule, slots=slots)}


def of_adaptive(case: Case) -> Iterator[Any]:
    limit = Adaptive(case["start"])
    for step in case["steps"]:
        for _ in range(step.get("times", 1)):
            running = step.get("running") or limit.bounded(case["least"], case["most"])
            match step["do"]:
                case "drop":
                    limit.dropped(started=step["started"], now=step["at"])
                case "aimd":
                    limit.aimd(running=running)
                case "gradient":
                    seconds = step["seconds"] * max(1.0, running / step.get("bears", running))
                    limit.gradient(step["signal"], seconds, running=running, started=step["at"], now=step["at"])
        yield {"limit": limit.bounded(case["least"], case["most"])}


class _Answer:
    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status_code = status
        self.headers = headers


class _Error(Exception):
    def __init__(self, status: int, headers: dict[str, str]) -> None:
        super().__init__(status)
        self.response = _Answer(status, headers)


def of_faults(case: Case) -> Iterator[Any]:
    for step in case["steps"]:
        if step["do"] == "date":
            yield {"unix_s": http_date(step["text"])}
        else:
            yield read(_Error(step["status"], step.get("headers", {})), wall_s=step.get("wall_s"))._asdict()


def of_leases(case: Case) -> Iterator[Any]:
    lease, pace = budget.Lease(), budget.Pace()
    for step in case["steps"]:
        said: Case = {}
        match step["do"]:
            case "grant":
                lease = budget.merge_grant(lease, step["granted"])
            case "hold":
                held = budget.hold(lease, step["bound"])
                lease, said = held or lease, {"held": held is not None}
            case "hold_unfunded":
                lease = budget.hold_unfunded(lease, step["bound"])
            case "settle":
                lease = budget.settle(lease, bound=step["bound"], cost=step["cost"])
            case "cap":
                lease = budget.keep_at_most(lease, step["idle"])
            case "pace":
                pace = budget.paced(pace, settled=lease.settled, now=step["at"])
                said = {"per_s": pace.per_s}
            case "want":
                said = {
                    "want": budget.wanted(
                        per_s=pace.per_s, interval_s=step["interval_s"], held=lease.held, denied=step["denied"],
                        typical=step["typical"],
                    )
                }  # fmt: skip
        yield {**said, "counters": list(lease), "room": lease.room}


def of_windows(case: Case) -> Iterator[Any]:
    whole = Distribution()
    for step in case["steps"]:
        part = Distribution()
        for value in step["values"]:
            part.add(value)
        whole.merge(part)
        packed = whole.packed()
        yield {"packed": packed, "quantiles": [quantile(packed, q) for q in (0.0, 0.5, 0.9, 0.99, 1.0)]}


def of_policy(case: Case) -> Iterator[Any]:
    for step in case["steps"]:
        match step["do"]:
            case "complete":
                try:
                    yield {"policy": complete(parse_policy(step["document"]))}
                except PolicyError as error:
                    yield {"errors": sorted(error.errors)}
            case "inherit":
                yield {"document": inherit(step["documents"])}
            case "look_up":
                snapshot = compile_snapshot(copy.deepcopy(case["snapshot"]))
                call = {name: step.get(name, "") for name in ("route", "category", "model", "user")}
                found = snapshot.budgets_for(step["tenant"], **call)
                policy = complete(snapshot.policy_for(step["tenant"], step["route"]))
                yield {"policy": policy, "budgets": [ref.id for ref in found]}


def of_requests(case: Case) -> Iterator[Any]:
    for step in case["steps"]:
        yield read_request(step["request"])._asdict()


def of_reservations(case: Case) -> Iterator[Any]:
    outputs = Outputs()
    for step in case["steps"]:
        for _ in range(step["times"]):
            for tokens in step["tokens"]:
                outputs.learn(tokens)
        yield {"bound": outputs.bound()}


def of_fallbacks(case: Case) -> Iterator[Any]:
    for step in case["steps"]:
        fallbacks = parse_policy({"fallbacks": step["fallbacks"]}).fallbacks
        tried = in_order(fallbacks, route=case["route"])
        yield {"tried": [{"value": each.value} if each.route is None else {"route": each.route} for each in tried]}


CORE: dict[str, Subject] = {
    "fallbacks": of_fallbacks,
    "requests": of_requests,
    "reservations": of_reservations,
    "adaptive": of_adaptive,
    "backoff": of_backoff,
    "breaker": of_breaker,
    "bucket": of_bucket,
    "faults": of_faults,
    "leases": of_leases,
    "policy": of_policy,
    "queue": of_queue,
    "windows": of_windows,
}

"""Policies: what an operator wrote, checked field by field.

The same functions run on the server (when a document is put) and in the SDK (when a snapshot arrives).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from tidegate.core.checks import MISSING, Check, Field, number, one_of, or_null, plain, whole

ANY_ROUTE = "*"
MAX_LIMITS = 16
MAX_FALLBACKS = 8


class PolicyError(ValueError):
    """A document is not a policy (or a snapshot); ``errors`` maps the path of a field to what is wrong with it."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{path}: {text}" for path, text in errors.items()))
        self.errors = dict(errors)


class Limit(NamedTuple):
    """A token bucket: ``amount`` of ``unit`` (``requests`` or ``tokens``) per ``per_s`` seconds, at most ``burst`` at once."""

    unit: str
    amount: int
    per_s: float
    burst: int
    scope: str  # "fleet" or "instance"
    enforcement: str = "enforce"  # or "shadow": decide, count, let pass

    @property
    def rate(self) -> float:
        """Units per second."""
        return self.amount / self.per_s


class QueueRule(NamedTuple):
    """``congestion`` is what becomes of the order while the line does not empty: newest first, or short waits (CoDel).

    ``adaptive`` moves the slots in use between ``min_concurrent`` and ``max_concurrent`` by how calls fare.
    """

    max_concurrent: int
    max_waiting: int
    max_wait_ms: int
    congestion: str = "fifo"  # "fifo", "lifo", "codel"
    adaptive: str | None = None  # "gradient", "aimd"
    min_concurrent: int = 1
    scope: str = "instance"  # or "fleet": ``max_concurrent`` slots among all callers


class BreakerRule(NamedTuple):
    """With ``window_calls`` the window is that many calls, however old; else it is ``window_s`` seconds.

    A window of time slides, or is ``tumbling``: one after the other, each from the first call after the last one was over.
    """

    window_s: float
    min_calls: int
    failure_rate: float
    slow_call_ms: int | None
    slow_call_rate: float
    open_s: float
    half_open_calls: int
    mode: str  # "auto", "forced_open", "forced_closed", "metrics_only"
    window_calls: int | None = None
    max_open_s: float = 300.0  # the longest that a provider's Retry-After keeps it open
    probing: str = "rate"  # "rate": all probes are judged by the rates; "strict": one failure opens again
    window: str = "sliding"  # or "tumbling"


class RetryRule(NamedTuple):
    max_attempts: int
    base_ms: int
    max_ms: int
    jitter: str  # "full", "equal", "decorrelated", "quarter", "half", "none"
    budget_ratio: float  # retries and hedges that a call earns
    hedge_ms: int | None = None  # start a second attempt beside one that has not answered for so long
    growth: str = "exponential"  # or "linear"
    factor: float = 2.0  # by which delays grow, when exponentially


class Fallback(NamedTuple):
    """Another route to try, or a value to answer with. Exactly one is meant: ``route`` is ``None`` for a value."""

    route: str | None
    value: Any


class Policy(NamedTuple):
    """A checked document. A part that is ``None`` (or empty) limits nothing."""

    limits: tuple[Limit, ...] = ()
    queue: QueueRule | None = None
    breaker: BreakerRule | None = None
    retry: RetryRule | None = None
    timeout_ms: int | None = None
    fallbacks: tuple[Fallback, ...] = ()
    enforcement: str = "enforce"  # "enforce", "shadow", "off"
    breaker_resets: int = 0


NOTHING = Policy()
_LIMIT = {
    "unit": Field(one_of("requests", "tokens")),
    "amount": Field(whole(1, 10**12)),
    "per_s": Field(number(0, 86_400 * 31), 60),
    "burst": Field(or_null(whole(1, 10**12)), None),
    "scope": Field(one_of("fleet", "instance"), "fleet"),
    "enforcement": Field(one_of("enforce", "shadow"), "enforce"),
}
_QUEUE = {
    "max_concurrent": Field(whole(1, 100_000)),
    "max_waiting": Field(whole(0, 100_000), 64),
    "max_wait_ms": Field(whole(0, 3_600_000), 2000),
    "congestion": Field(one_of("fifo", "lifo", "codel"), "fifo"),
    "adaptive": Field(or_null(one_of("gradient", "aimd")), None),
    "min_concurrent": Field(whole(1, 100_000), 1),
    "scope": Field(one_of("instance", "fleet"), "instance"),
}
_BREAKER = {
    "window_s": Field(number(0, 3600), 30),
    "min_calls": Field(whole(1, 1_000_000), 20),
    "failure_rate": Field(number(0, 1), 0.5),
    "slow_call_ms": Field(or_null(whole(1, 3_600_000)), None),
    "slow_call_rate": Field(number(0, 1), 0.8),
    "open_s": Field(number(0, 3600), 20),
    "half_open_calls": Field(whole(1, 1000), 3),
    "mode": Field(one_of("auto", "forced_open", "forced_closed", "metrics_only"), "auto"),
    "window_calls": Field(or_null(whole(1, 10_000)), None),
    "max_open_s": Field(number(0, 86_400), 300),
    "probing": Field(one_of("rate", "strict"), "rate"),
    "window": Field(one_of("sliding", "tumbling"), "sliding"),
}
_RETRY = {
    "max_attempts": Field(whole(1, 20), 3),
    "base_ms": Field(whole(0, 600_000), 200),
    "max_ms": Field(whole(0, 600_000), 8000),
    "jitter": Field(one_of("full", "equal", "decorrelated", "quarter", "half", "none"), "full"),
    "budget_ratio": Field(number(0, 1, or_equal=True), 0.2),
    "hedge_ms": Field(or_null(whole(1, 3_600_000)), None),
    "growth": Field(one_of("exponential", "linear"), "exponential"),
    "factor": Field(number(1, 10, or_equal=True), 2),
}
_SHAPES: dict[str, tuple[dict[str, Field], Callable[..., Any]]] = {
    "queue": (_QUEUE, QueueRule),
    "breaker": (_BREAKER, BreakerRule),
    "retry": (_RETRY, RetryRule),
}
_AT_MOST = {"queue": {"min_concurrent": "max_concurrent"}, "breaker": {"min_calls": "window_calls"}}
_SCALARS: dict[str, Check] = {
    "timeout_ms": whole(1, 3_600_000),
    "enforcement": one_of("enforce", "shadow", "off"),
    "breaker_resets": whole(0, 2**31),
}
_PARTS = {"limits", "queue", "breaker", "retry", "timeout_ms", "fallbacks", "enforcement"}


class _Reader:
    """Reads a document part by part and keeps every fault that it finds."""

    def __init__(self) -> None:
        self.errors: dict[str, str] = {}

    def fields(self, value: Any, known: Mapping[str, Field], where: str) -> dict[str, Any] | None:
        if not isinstance(value, Mapping):
            self.errors[where] = "must be an object"
            return None
        before = len(self.errors)
        for name in value:
            if name not in known:
                self.errors[f"{where}.{name}"] = f"is not known here; known are {', '.join(known)}"
        read: dict[str, Any] = {}
        for name, field in known.items():
            read[name] = value.get(name, field.default)
            fault = "is missing" if read[name] is MISSING else field.check(read[name])
            if fault:
                self.errors[f"{where}.{name}"] = fault
        return read if len(self.errors) == before else None

    def agrees(self, name: str, said: Mapping[str, Any], read: dict[str, Any]) -> bool:
        """Check what the fields of a part say together; a default gives way."""
        for field, most in _AT_MOST.get(name, {}).items():
            if read[most] is None or read[field] <= read[most]:
                continue
            if field in said:
                self.errors[f"{name}.{field}"] = f"must be at most {most}, which is {read[most]}"
                return False
            read[field] = read[most]
        return True

    def items(self, value: Any, most: int, where: str) -> list[Any]:
        if not isinstance(value, list):
            self.errors[where] = "must be a list"
            return []
        if len(value) > most:
            self.errors[where] = f"has {len(value)} entries, at most {most} are allowed"
            return []
        return value

    def limits(self, value: Any) -> tuple[Limit, ...]:
        read = [
            self.fields(item, _LIMIT, f"limits[{i}]") for i, item in enumerate(self.items(value, MAX_LIMITS, "limits"))
        ]
        return tuple(Limit(**{**item, "burst": item["burst"] or item["amount"]}) for item in read if item)

    def fallbacks(self, value: Any) -> tuple[Fallback, ...]:
        read = []
        for i, item in enumerate(self.items(value, MAX_FALLBACKS, "fallbacks")):
            if isinstance(item, Mapping) and set(item) == {"value"}:
                read.append(Fallback(None, item["value"]))
                if fault := plain(item["value"]):
                    self.errors[f"fallbacks[{i}].value"] = fault
            elif isinstance(item, Mapping) and set(item) == {"route"} and route_fault(item["route"]) is None:
                read.append(Fallback(item["route"], None))
            else:
                self.errors[f"fallbacks[{i}]"] = 'must be {"route": "another-route"} or {"value": …}'
        return tuple(read)

    def part(self, name: str, value: Any) -> Any:
        """Read one top-level part that is not null."""
        if name in _SHAPES:
            fields, shape = _SHAPES[name]
            read = self.fields(value, fields, name)
            return shape(**read) if read and self.agrees(name, value, read) else None
        if name in _SCALARS:
            fault = _SCALARS[name](value)
            if fault:
                self.errors[name] = fault
            return value
        return self.limits(value) if name == "limits" else self.fallbacks(value)


def route_fault(route: Any, *, wildcard: bool = False) -> str | None:
    """Return what is wrong with the name of a route, or ``None``. ``*`` is allowed only as ``wildcard``."""
    if wildcard and route == ANY_ROUTE:
        return None
    if not isinstance(route, str) or not 1 <= len(route) <= 64:
        return "a route's name has 1 to 64 characters"
    if not all(letter.isascii() and (letter.isalnum() or letter in "-_./:") for letter in route):
        return "a route's name is made of letters, digits, and - _ . / :"
    return None


def parse_policy(document: Any, *, compiled: bool = False) -> Policy:
    """Return the policy of a document; ``PolicyError`` names every field that is wrong.

    ``compiled`` documents, as they stand in snapshots, may have ``breaker_resets`` too.
    """
    if not isinstance(document, Mapping):
        raise PolicyError({"": "a policy must be an object"})
    reader = _Reader()
    known = _PARTS | {"breaker_resets"} if compiled else _PARTS
    for name in document:
        if name not in known:
            reader.errors[str(name)] = f"is not known; a policy may have {', '.join(sorted(known))}"
    read = {name: reader.part(name, value) for name, value in document.items() if name in known and value is not None}
    if reader.errors:
        raise PolicyError(reader.errors)
    return Policy(**read)


def complete(policy: Policy) -> dict[str, Any]:
    """Return ``policy`` as a document in which every number is said, in the form that snapshots carry."""
    return {
        "limits": [limit._asdict() for limit in policy.limits],
        "queue": policy.queue._asdict() if policy.queue else None,
        "breaker": policy.breaker._asdict() if policy.breaker else None,
        "retry": policy.retry._asdict() if policy.retry else None,
        "timeout_ms": policy.timeout_ms,
        "fallbacks": [
            {"value": item.value} if item.route is None else {"route": item.route} for item in policy.fallbacks
        ],
        "enforcement": policy.enforcement,
        "breaker_resets": policy.breaker_resets,
    }


def inherit(documents: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one document out of many, most general first: a later one replaces whole top-level parts."""
    merged: dict[str, Any] = {}
    for document in documents:
        merged.update(document)
    return merged

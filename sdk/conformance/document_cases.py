"""What is given in the vectors of what goes over the wire: policies and distributions."""

from __future__ import annotations

from typing import Any

from sdk.conformance.case import Case, Draw, Step, case


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
        case("documents, completed or refused", *[{"do": "complete", "document": document} for document in documents]),
        case("a later one replaces whole parts", {"do": "inherit", "documents": layers}),
        case("what governs a call", *asked, snapshot=snapshot),
    ]


def _windows() -> list[Case]:
    draw = Draw(3)
    return [
        case("nothing", {"values": []}),
        case("edges of buckets", {"values": [0, 1, 2, 3, 4, 1023, 1024, 1025]}, {"values": [2**40, 2**52]}),
        case(
            "at random, merged",
            *[{"values": [draw.below(10 ** (1 + draw.below(9))) for _ in range(40)]} for _ in range(3)],
        ),
    ]


ABOUT = {
    "policy": "Policy documents completed, refused (the paths of what is wrong), inherited, looked up in a snapshot.",
    "windows": "Distributions as docs/protocol.md packs them. Each step merges its values; quantiles at 0, 0.5, 0.9, 0.99 and 1.",
}


def cases() -> dict[str, list[Case]]:
    """Return what is given, by subject."""
    return {"policy": _policy(), "windows": _windows()}

from __future__ import annotations

from typing import Any

import pytest

from tidegate.core.policy import Policy, PolicyError, complete, inherit, parse_policy
from tidegate.core.snapshot import compile_snapshot

EXAMPLE: dict[str, Any] = {
    "limits": [
        {"unit": "requests", "amount": 600, "per_s": 60, "burst": 60, "scope": "fleet"},
        {"unit": "tokens", "amount": 90000, "per_s": 60, "scope": "fleet"},
    ],
    "queue": {"max_concurrent": 16, "max_waiting": 64, "max_wait_ms": 2000},
    "breaker": {"window_s": 30, "min_calls": 20, "failure_rate": 0.5, "slow_call_ms": 10000, "mode": "auto"},
    "retry": {"max_attempts": 3, "base_ms": 200, "max_ms": 8000, "jitter": "full", "budget_ratio": 0.2},
    "timeout_ms": 30000,
    "fallbacks": [{"route": "chat-small"}, {"value": {"text": "We are busy, please try again."}}],
    "enforcement": "enforce",
}


def snapshot_document() -> dict[str, Any]:
    return {
        "format": 1,
        "revision": 3,
        "scope": "acme",
        "prices": None,
        "sync_ms": 1000,
        "lease_ttl_ms": 15000,
        "policies": [complete(Policy()), complete(parse_policy(EXAMPLE))],
        "tenants": {"acme": {"parent": None, "routes": {"*": 0, "chat": 1}, "budgets": [9, 7]}},
        "default": {"routes": {"*": 0}, "budgets": [7]},
        "budgets": {
            "7": {"tenant": None, "slug": "everything", "match": {}, "on_exhausted": "block"},
            "9": {"tenant": "acme", "slug": "support", "match": {"category": "support"}, "on_exhausted": "block"},
        },
    }


def test_parse_policy__a_whole_document__fills_in_defaults() -> None:
    policy = parse_policy(EXAMPLE)

    assert policy.limits[1].burst == 90000
    assert policy.breaker is not None
    assert policy.breaker.slow_call_rate == 0.8
    assert parse_policy(complete(policy), compiled=True) == policy


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"limits": [{"unit": "requests", "amount": 0}]}, "limits[0].amount"),
        ({"limits": [{"unit": "requests", "amount": True}]}, "limits[0].amount"),
        ({"limits": [{"unit": "calls", "amount": 1}]}, "limits[0].unit"),
        ({"limits": [{"amount": 1}]}, "limits[0].unit"),
        ({"limits": {}}, "limits"),
        ({"queue": {"max_concurrent": 1, "size": 4}}, "queue.size"),
        ({"breaker": {"failure_rate": 1.5}}, "breaker.failure_rate"),
        ({"breaker": {"window_s": float("nan")}}, "breaker.window_s"),
        ({"retry": {"jitter": "some"}}, "retry.jitter"),
        ({"timeout_ms": 0}, "timeout_ms"),
        ({"fallbacks": [{"route": "a", "value": 1}]}, "fallbacks[0]"),
        ({"fallbacks": [{"value": {"text": ["a\x00"]}}]}, "fallbacks[0].value"),
        ({"fallbacks": [{"value": {"\ud800": 1}}]}, "fallbacks[0].value"),
        ({"fallbacks": [{"value": [2**63]}]}, "fallbacks[0].value"),
        ({"fallbacks": [{"value": float("inf")}]}, "fallbacks[0].value"),
        ({"fallbacks": [{"value": {"at": object()}}]}, "fallbacks[0].value"),
        ({"breaker": {"open_s": 10**400}}, "breaker.open_s"),
        ({"enforcement": "maybe"}, "enforcement"),
        ({"breaker_resets": 1}, "breaker_resets"),
        ([], ""),
    ],
)
def test_parse_policy__a_wrong_part__is_refused_by_the_name_of_its_field(document: Any, field: str) -> None:
    with pytest.raises(PolicyError) as refused:
        parse_policy(document)

    assert list(refused.value.errors) == [field]


def test_parse_policy__two_wrong_parts__are_both_named() -> None:
    with pytest.raises(PolicyError) as refused:
        parse_policy({"timeout_ms": "1s", "queue": {"max_concurrent": 0}})

    assert set(refused.value.errors) == {"timeout_ms", "queue.max_concurrent"}


def test_parse_policy__a_part_that_is_null__limits_nothing() -> None:
    assert parse_policy({"queue": None, "enforcement": None, "limits": None}) == Policy()


def test_inherit__a_later_document__replaces_whole_parts() -> None:
    merged = inherit(
        [{"timeout_ms": 1, "queue": {"max_concurrent": 1, "max_waiting": 1}}, {"queue": {"max_concurrent": 2}}]
    )

    assert merged == {"timeout_ms": 1, "queue": {"max_concurrent": 2}}


def test_snapshot__a_call__finds_its_policy_and_its_budgets_leaf_first() -> None:
    snapshot = compile_snapshot(snapshot_document())

    support = snapshot.budgets_for("acme", route="chat", category="support")

    assert [budget.name for budget in support] == ["acme/support", "/everything"]
    assert [budget.id for budget in snapshot.budgets_for("acme", route="chat", category="other")] == [7]
    assert [budget.id for budget in snapshot.budgets_for("nobody", route="chat")] == [7]
    assert snapshot.policy_for("acme", "chat").timeout_ms == 30000
    assert snapshot.policy_for("acme", "embed") == Policy()
    assert snapshot.policy_for(None, "chat") == Policy()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: document.update(format=2),
        lambda document: document.update(policies=[{"queue": 3}]),
        lambda document: document.update(policies=[]),
        lambda document: document["tenants"]["acme"].update(budgets=[8]),
        lambda document: document["tenants"]["acme"]["routes"].update(chat=-1),
        lambda document: document["budgets"]["7"].pop("slug"),
        lambda document: document["budgets"]["7"].update(match={"planet": "mars"}),
        lambda document: document.update(sync_ms=0),
        lambda document: document.pop("default"),
    ],
)
def test_compile_snapshot__a_spoiled_document__is_refused(spoil: Any) -> None:
    document = snapshot_document()
    spoil(document)

    with pytest.raises(PolicyError):
        compile_snapshot(document)

"""Snapshots that are read piece by piece say what compiled ones say, and are refused for what these are refused for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tidegate.core.policy import PolicyError
from tidegate.core.reading import finish, read_snapshot
from tidegate.core.snapshot import Snapshot, compile_snapshot

TENANTS = ("acme", "globex", "é-corp")


def document() -> dict[str, Any]:
    policies = [
        {"timeout_ms": 1000 + number, "limits": [{"unit": "requests", "amount": 7 + number}]} for number in range(4)
    ]
    tenants: dict[str, Any] = {
        name: {"parent": None, "routes": {"*": number, "chat": 3}, "budgets": [7]}
        for number, name in enumerate(TENANTS)
    }
    budget = {"tenant": None, "slug": "all", "match": {}, "on_exhausted": "block"}
    return {
        "format": 1, "revision": 3, "scope": None, "prices": None, "sync_ms": 1000, "lease_ttl_ms": 15_000,
        "policies": policies, "tenants": tenants, "default": {"routes": {"*": 0}, "budgets": [7]}, "budgets": {"7": budget},
    }  # fmt: skip


def read(whole: Any, **layout: Any) -> Snapshot:
    return finish(read_snapshot([json.dumps(whole, **layout)]))


@pytest.mark.parametrize("layout", [{}, {"indent": 3}, {"separators": (",", ":")}, {"ensure_ascii": False}])
@pytest.mark.parametrize("order", [sorted, lambda names: sorted(names, reverse=True)])
def test_read_snapshot__whatever_the_layout_and_order__says_what_the_compiled_one_says(
    layout: dict[str, Any], order: Any
) -> None:
    whole = {name: document()[name] for name in order(document())}

    found, compiled = read(whole, **layout), compile_snapshot(document())

    assert list(found.tenants) == list(compiled.tenants) == list(TENANTS)
    assert (found.revision, found.sync_ms, found.scope) == (3, 1000, None)
    for tenant in (*TENANTS, "nobody", None):
        assert found.rules(tenant) == compiled.rules(tenant)
        for route in ("chat", "embed"):
            assert found.policy_for(tenant, route) == compiled.policy_for(tenant, route)
        assert found.budgets_for(tenant, route="chat") == compiled.budgets_for(tenant, route="chat")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
@pytest.mark.parametrize("layout", [{}, {"indent": 3}, {"ensure_ascii": False}])
def test_read_snapshot__in_pieces_of_any_size__says_the_same(size: int, layout: dict[str, Any]) -> None:
    text = json.dumps({**document(), "revision": 314159}, **layout)

    found = finish(read_snapshot(text[at : at + size] for at in range(0, len(text), size)))

    compiled = compile_snapshot(document())
    assert found.revision == 314159
    for tenant in (*TENANTS, "nobody", None):
        assert found.rules(tenant) == compiled.rules(tenant)
        assert found.policy_for(tenant, "chat") == compiled.policy_for(tenant, "chat")


def test_read_snapshot__cut_in_two_anywhere__says_the_same() -> None:
    text = json.dumps(document())
    compiled = compile_snapshot(document())

    for at in range(len(text)):
        found = finish(read_snapshot([text[:at], text[at:]]))
        assert (found.revision, list(found.tenants)) == (3, list(TENANTS))
        assert found.policy_for("globex", "chat") == compiled.policy_for("globex", "chat")


@pytest.mark.parametrize("size", [1, 5, 40])
def test_read_snapshot__in_pieces_and_garbled__refused(size: int) -> None:
    text = json.dumps(document())

    for spoiled in (text[:-1], text[: len(text) // 2], text + "x", text.replace(":", "", 1), text.replace(",", ";", 1)):
        with pytest.raises((json.JSONDecodeError, PolicyError)):
            finish(read_snapshot(spoiled[at : at + size] for at in range(0, len(spoiled), size)))


def test_read_snapshot__asked_twice__the_same_policy() -> None:
    found = read(document())

    assert found.policy_for("acme", "chat") is found.policy_for("globex", "chat")


def test_read_snapshot__each_policy_and_tenant__is_a_step() -> None:
    few, many = document(), document()
    many["policies"] = many["policies"] * 50
    many["tenants"] = {f"t-{number}": {"routes": {"*": number}, "budgets": []} for number in range(200)}

    added = steps(many) - steps(few)

    assert added == (200 - 4) + 2 * (200 - 3)  # a tenant is decoded, and checked when the policies are known


def steps(whole: dict[str, Any]) -> int:
    return sum(1 for _ in read_snapshot([json.dumps(whole)]))


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (lambda whole: whole.update(format=2), "format"),
        (lambda whole: whole.update(revision="3"), "revision"),
        (lambda whole: whole.update(sync_ms=0), "sync_ms"),
        (lambda whole: whole["policies"][2].update(queue=3), "policies[2].queue"),
        (lambda whole: whole["policies"][3]["limits"][0].update(amount=-1), "policies[3].limits[0].amount"),
        (lambda whole: whole["policies"].append(None), "policies[4]."),
        (lambda whole: whole["tenants"]["globex"].update(budgets=[8]), "tenants.globex"),
        (lambda whole: whole["tenants"]["globex"]["routes"].update(chat=-1), "tenants.globex"),
        (lambda whole: whole["tenants"]["globex"]["routes"].update(chat=4), "tenants.globex"),
        (lambda whole: whole["tenants"].update(acme=3), "tenants.acme"),
        (lambda whole: whole["budgets"]["7"].pop("slug"), "budgets"),
        (lambda whole: whole["budgets"]["7"].update(match={"planet": "mars"}), "budgets.7.match"),
        (lambda whole: whole["default"]["routes"].update(chat=9), "default"),
        (lambda whole: whole.pop("default"), "default"),
    ],
)
def test_read_snapshot__a_part_is_wrong__refused_whole_with_its_name(spoil: Any, part: str) -> None:
    whole = document()
    spoil(whole)

    with pytest.raises(PolicyError) as refused:
        read(whole)
    with pytest.raises(PolicyError) as refused_compiled:
        compile_snapshot(whole)

    assert list(refused.value.errors) == [part]
    assert refused.value.errors == refused_compiled.value.errors


@pytest.mark.parametrize("missing", ["policies", "tenants"])
def test_read_snapshot__without_policies_or_tenants__refused(missing: str) -> None:
    whole = document()
    del whole[missing]

    with pytest.raises(PolicyError, match=missing):
        read(whole)


def test_read_snapshot__of_another_format__said_before_what_else_is_wrong() -> None:
    whole = {**document(), "format": 9, "policies": ["of the future"]}

    with pytest.raises(PolicyError, match="this is version 9"):
        read(whole)


@pytest.mark.parametrize("value", ["[]", "3", '"text"', "null"])
def test_read_snapshot__no_object__refused(value: str) -> None:
    with pytest.raises(PolicyError, match="must be an object"):
        finish(read_snapshot([value]))


@pytest.mark.parametrize("of", ["policies", "tenants"])
def test_read_snapshot__policies_or_tenants_of_another_kind__refused(of: str) -> None:
    with pytest.raises(PolicyError, match=of):
        read({**document(), of: 3})


def test_read_snapshot__cut_off_or_garbled_anywhere__refused() -> None:
    text = json.dumps(document())

    for at in range(len(text)):
        with pytest.raises((json.JSONDecodeError, PolicyError)):
            finish(read_snapshot([text[:at]]))
    for spoiled in (
        text + "}",
        text + " x",
        text.replace(":", "", 1),
        text.replace(",", ";", 1),
        "{,}",
        '{"a":1,}',
        "{1:2}",
    ):
        with pytest.raises((json.JSONDecodeError, PolicyError)):
            finish(read_snapshot([spoiled]))

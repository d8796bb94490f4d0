"""Assignments: who gets the candidate, who is compared with whom, and that nobody changes sides while rings grow."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.bucketing import PARTS
from tidegate.core.release import NOT_COMPARED, Deployment

EVERYBODY: dict[str, Any] = {"tenants": [], "users": [], "regions": []}


def deployment(*rings: dict[str, Any], salt: str = "s", **more: Any) -> Deployment:
    document = {
        "id": 7, "unit": "user", "salt": salt, "routes": ["chat"], "step": 3, "stable": "old", "candidate": "new",
        "releases": {"old": {"version": "1", "config": {"model": "a"}}, "new": {"version": "2", "config": {"model": "b"}}},
        "rings": [{**EVERYBODY, **ring} for ring in rings], **more,
    }  # fmt: skip
    return Deployment("assistant", document)


def test_assign__no_ring_reached__everybody_gets_stable_and_is_not_compared() -> None:
    got = deployment().assign("u")

    assert (got.release, got.config, got.arm, got.ring) == ("old", {"model": "a"}, "stable", NOT_COMPARED)


def test_assign__ring_of_five_percent__compares_all_by_chance() -> None:
    one = deployment({"share": 50_000})

    canary, rest = one.at(49_999), one.at(50_000)

    assert (canary.release, canary.arm, canary.ring, canary.number, canary.step) == ("new", "canary", 0, 7, 3)
    assert (rest.release, rest.arm, rest.ring) == ("old", "stable", 0)


def test_assign__named_tenant_with_full_share__gets_it_without_being_compared() -> None:
    one = deployment({"share": PARTS, "tenants": ["us"]}, {"share": 50_000})

    inside, outside = one.at(900_000, tenant="us"), one.at(900_000, tenant="them")

    assert (inside.arm, inside.ring) == ("canary", NOT_COMPARED)
    assert (outside.arm, outside.ring) == ("stable", 1)


def test_assign__equal_baseline__takes_as_many_from_the_other_half() -> None:
    one = deployment({"share": 50_000}, baseline=True)

    arms = [one.at(at).arm for at in (0, 49_999, 50_000, 499_999, 500_000, 549_999, 550_000)]

    assert arms == ["canary", "canary", "stable", "stable", "baseline", "baseline", "stable"]
    assert {one.at(at).ring for at in (0, 60_000, 500_000, 999_999)} == {0}


def test_assign__region_and_user__must_both_fit() -> None:
    one = deployment({"share": PARTS, "regions": ["eu"], "users": ["ann"]})

    assert one.at(0, region="eu", user="ann").arm == "canary"
    assert one.at(0, region="eu", user="bob").arm == "stable"


@given(st.lists(st.integers(0, PARTS), min_size=1, max_size=5), st.text(max_size=20))
def test_assign__more_rings_reached__nobody_loses_the_candidate(shares: list[int], unit: str) -> None:
    had = False
    for reached in range(len(shares) + 1):
        has = deployment(*({"share": share} for share in shares[:reached])).assign(unit).arm == "canary"
        assert has or not had
        had = has


@given(st.text(max_size=40))
def test_assign__compiled_again__same_answer(unit: str) -> None:
    first, second = (deployment({"share": 300_000}).assign(unit) for _ in range(2))

    assert first == second


@pytest.mark.parametrize(
    "broken", [{"unit": "planet"}, {"stable": "gone"}, {"rings": [{"share": PARTS + 1}]}, {"method": "md5"}]
)
def test_deployment__broken_document__is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError)):
        deployment(**broken)


def test_assign__shadow__nobody_gets_it_and_copies_are_compared_with_those_not_copied() -> None:
    one = deployment(candidate=None, shadow={"release": "new", "rings": [{**EVERYBODY, "share": 50_000}]})

    copied, other = one.at(49_999), one.at(50_000)

    assert (copied.release, copied.arm, copied.ring) == ("old", "stable", NOT_COMPARED)
    assert copied.shadow is not None
    assert (copied.shadow.release, copied.shadow.arm, copied.shadow.ring) == ("new", "shadow", 0)
    assert (other.release, other.arm, other.ring, other.shadow) == ("old", "stable", 0, None)


def test_assign__shadow_of_everybody__is_compared_with_nothing() -> None:
    one = deployment(candidate=None, shadow={"release": "new", "rings": [{**EVERYBODY, "share": PARTS}]})

    got = one.assign("u")

    assert got.shadow is not None
    assert got.shadow.ring == NOT_COMPARED

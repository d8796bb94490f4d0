"""Releases on calls: what a call gets, and how it counts: per call, and once per unit."""

from __future__ import annotations

from typing import Any

import pytest

import tidegate
from sdk.python.tests.bench import Bench
from tidegate.arms import ArmKey, ArmRow, loss_of
from tidegate.core.bucketing import PARTS
from tidegate.core.release import unit_of
from tidegate.core.snapshot import Snapshot, compile_snapshot


def snapshot(*, shadow: bool = False, **parts: Any) -> Snapshot:
    return compile_snapshot(document(shadow=shadow, **parts))


def document(
    *, shadow: bool, unit: str = "session", share: int = PARTS // 2, step: int = 3, policy: dict[str, Any] | None = None
) -> dict[str, Any]:
    rings = [{"share": share, "tenants": [], "users": [], "regions": []}]
    candidate = (
        {"candidate": None, "shadow": {"release": "new", "rings": rings}}
        if shadow
        else {"candidate": "new", "rings": rings}
    )
    deployment = {
        "id": 7, "unit": unit, "salt": "s", "routes": ["chat"], "step": step, "stable": "old", "window_s": 30,
        "releases": {"old": {"version": "1", "config": {"m": "a"}}, "new": {"version": "2", "config": {"m": "b"}}},
        **candidate,
    }  # fmt: skip
    return {
        "format": 1, "revision": 2, "scope": "acme", "prices": None, "sync_ms": 1000, "lease_ttl_ms": 15000, "budgets": {},
        "policies": [policy or {}], "deployments": {"assistant": deployment},
        "tenants": {"acme": {"parent": None, "routes": {"*": 0}, "budgets": [], "deployments": ["assistant"]}},
        "default": {"routes": {"*": 0}, "budgets": []},
    }  # fmt: skip


def follow(bench: Bench, **parts: Any) -> None:
    bench.guard.follow(snapshot(**parts), bench.guard.book)


def spend(bench: Bench, **options: Any) -> tidegate.Call:
    with bench.call(**options) as call:
        call.record(input_tokens=10, output_tokens=5, cost_usd="0.001")
    return call


def fail(bench: Bench, **options: Any) -> None:
    with pytest.raises(RuntimeError), bench.call(**options):
        raise RuntimeError


def arms(bench: Bench, *, everything: bool = False) -> dict[ArmKey, ArmRow]:
    bench.guard.releases.close(bench.clock.now(), bench.guard.arm, everything=everything)
    return bench.guard.report.window(bench.clock.wall_ms()).arms


def only(bench: Bench, **options: Any) -> ArmRow:
    (row,) = arms(bench, **options).values()
    return row


def test_call__route_without_deployment__has_no_release(bench: Bench) -> None:
    bench.policy({})

    call = spend(bench)

    assert call.release is None
    assert call.config == {}
    assert not arms(bench)


def test_call__same_session__same_release_and_config(bench: Bench) -> None:
    follow(bench)

    got = {(call.release, call.config["m"]) for call in (spend(bench, session="s-1") for _ in range(10))}

    assert len(got) == 1
    assert got <= {("1", "a"), ("2", "b")}


def test_arms__many_calls_of_one_session__one_outcome_when_its_window_is_over(bench: Bench) -> None:
    follow(bench)
    for _ in range(4):
        fail(bench, session="s-1")
    spend(bench, session="s-1")

    before = only(bench)
    assert (before.calls, before.failed, before.exposed, before.units) == (5, 4, 1, 0)

    bench.clock.advance(30.0)
    row = only(bench)
    assert (row.asked, row.units, row.bad) == (1, 1, 1)
    assert row.unit_cost_nusd.count == 1
    assert row.unit_cost_nusd.greatest == 1_000_000


def test_arms__session_comes_again_after_its_window__is_not_counted_again(bench: Bench) -> None:
    follow(bench)
    spend(bench, session="s-1")
    bench.clock.advance(31.0)
    assert only(bench).units == 1
    bench.clock.advance(1.0)

    fail(bench, session="s-1")

    row = only(bench)
    assert (row.calls, row.failed, row.units, row.bad, row.exposed) == (1, 1, 0, 0, 0)
    bench.clock.advance(60.0)
    assert not arms(bench)


def test_arms__every_request_is_a_unit__counted_at_once(bench: Bench) -> None:
    follow(bench, unit="request", share=PARTS)

    spend(bench)
    fail(bench)

    row = only(bench)
    assert (row.calls, row.units, row.bad, row.exposed, row.unit_latency_us.count) == (2, 2, 1, 2, 2)


def test_arms__refused_call__counts_as_a_refusal_of_its_arm(bench: Bench) -> None:
    limit = {"unit": "requests", "amount": 1, "per_s": 60, "scope": "instance"}
    follow(bench, unit="request", share=PARTS, policy={"limits": [limit]})
    spend(bench)

    with pytest.raises(tidegate.RateLimited):
        bench.call().admit()

    row = only(bench)
    assert (row.calls, row.refused, row.asked, row.units, row.refusing) == (1, 1, 2, 1, 1)


def test_arms__score__is_a_loss(bench: Bench) -> None:
    follow(bench, unit="request", share=PARTS)

    with bench.call() as call:
        call.rate(0.75)
        call.rate(2)

    row = only(bench)
    assert (row.scored, row.loss_ppm) == (1, 250_000)
    assert loss_of(1.0) == 0


def test_arms__closing__reports_what_is_known(bench: Bench) -> None:
    follow(bench)
    spend(bench, session="s-1")

    assert only(bench, everything=True).units == 1


def test_window__sent__has_a_releases_section_only_with_counts(bench: Bench) -> None:
    follow(bench, unit="request", share=PARTS)
    spend(bench)

    (window,), _ = bench.guard.report.to_send()

    (row,) = window["releases"]
    assert (row["deployment"], row["step"], row["release"], row["arm"], row["ring"]) == (7, 3, "new", "canary", -1)
    assert row["calls"] == 1


def test_unit__no_name__falls_back_to_the_other_then_to_the_request() -> None:
    one = snapshot().deployments["assistant"]

    names = [
        unit_of(one, tenant="acme", user=user, session=session) for user, session in (("u", "s"), ("u", ""), ("", ""))
    ]

    assert names == ["acme/s", "acme/u", ""]


def test_arms__call_that_says_when_the_first_token_came__counts_the_time(bench: Bench) -> None:
    follow(bench, unit="request", share=PARTS)
    with bench.call() as call:
        bench.clock.advance(0.25)
        call.progress(output_tokens=1)
        bench.clock.advance(1.0)
    spend(bench)

    row = only(bench)
    assert row.unit_latency_us.count == 2
    assert row.unit_ttft_us.packed()[:4] == [1, 250_000, 250_000, 250_000]


def test_shadow__copy_of_a_call__has_the_candidates_config_and_counts_apart(bench: Bench) -> None:
    follow(bench, shadow=True, share=PARTS - 1)

    with bench.call(session="s-1", input_tokens=7) as call:
        copy = call.shadow()
    assert copy is not None
    with pytest.raises(RuntimeError), copy:
        raise RuntimeError
    assert (call.release, copy.release, copy.config) == ("1", "2", {"m": "b"})
    assert (copy.tenant, copy.session, copy.input_tokens) == (call.tenant, "s-1", 7)
    assert copy.priority < call.priority

    found = arms(bench, everything=True)
    assert {(key.release, key.arm, key.ring): (row.units, row.bad) for key, row in found.items()} == {
        ("old", "stable", -1): (1, 0),
        ("new", "shadow", 0): (1, 1),
    }


def test_shadow__copy_that_is_refused__is_no_sign_of_anything(bench: Bench) -> None:
    limit = {"unit": "requests", "amount": 1, "per_s": 60, "scope": "instance"}
    follow(bench, shadow=True, unit="request", share=PARTS, policy={"limits": [limit]})
    with bench.call() as call:
        copy = call.shadow()
    assert copy is not None

    with pytest.raises(tidegate.RateLimited):
        copy.admit()

    assert {key.arm for key in arms(bench)} == {"stable"}


def test_shadow__nothing_in_the_shadow__no_copy_is_wanted(bench: Bench) -> None:
    follow(bench)

    assert spend(bench, session="s-1").shadow() is None

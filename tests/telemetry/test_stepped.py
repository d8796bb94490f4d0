"""Steps of a time by column, and those of tenants against what their windows tell one by one."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from controlplane.telemetry import queries
from controlplane.telemetry.actions.folding import fold_hours
from controlplane.telemetry.actions.ladder import climb
from controlplane.telemetry.models import CallWindow1m, CallWindow10s, LateHour
from controlplane.telemetry.queries import Measured, Steps
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import SYSTEM, Asker
from tidegate.core.window import Distribution

NOW = datetime(2026, 11, 25, 14, 7, 27, tzinfo=UTC)
UNTIL = NOW.replace(minute=5, second=0)
SINCE = UNTIL - timedelta(hours=20)
STEP_S = 300


def test_steps__one_is_asked_for__is_what_was_put_or_nothing() -> None:
    steps = Steps(300.0, 3, ["calls", "errors"])
    some = Measured(300.0, {"calls": 4, "errors": 1, "refused": 9}, (1.0, 2.0, 3.0), 0.5, 2.0)

    steps.put(1, some)

    kept = Measured(300.0, {"calls": 4, "errors": 1}, (1.0, 2.0, 3.0), 0.5, 2.0)
    assert list(steps) == steps[:] == [Measured(300.0), kept, Measured(300.0)]
    assert steps[-2:] == [kept, Measured(300.0)]
    assert steps.counts == {"calls": [0, 4, 0], "errors": [0, 1, 0]}
    assert steps == [Measured(300.0), kept, Measured(300.0)]
    assert steps != [kept, kept, kept]


def _put(at: datetime, tenant: str, latencies: list[int]) -> None:
    spread, depth = Distribution(), Distribution()
    spread.add_all(latencies)
    depth.add_all([len(latencies), 3])
    row = {
        "starts_at": at, "tenant": tenant, "route": "chat", "model": "m", "category": "c", "calls": len(latencies), "errors": 1, "refused": 2,
        "kinds": {}, "latency_us": spread.packed(), "tokens": [], "call_cost_nusd": [], "queue_depth": depth.packed(), "sessions": [],
    }  # fmt: skip
    CallWindow1m.objects.create(**row)
    if at > NOW - timedelta(hours=22):
        CallWindow10s.objects.create(**row)


def _climbed() -> None:
    fold_hours("windows", now=NOW, kept_since=NOW - timedelta(days=20))
    for _ in range(30):
        climb(now=NOW, kept_since=NOW - timedelta(days=20))


@pytest.fixture
def seen(db: None) -> dict[tuple[str, int], list[int]]:
    """Fill minutes of a day; return the latencies of each tenant and step."""
    dice, found = random.Random(7), dict[tuple[str, int], list[int]]()
    for _ in range(120):
        tenant = dice.choice(("acme", "acme", "globex"))
        minute = dice.randrange(20 * 60)
        latencies = [dice.randrange(900, 3_000_000) for _ in range(dice.randrange(1, 9))]
        at = SINCE + timedelta(minutes=minute)
        if not CallWindow1m.objects.filter(starts_at=at, tenant=tenant).exists():
            _put(at, tenant, latencies)
            found.setdefault((tenant, minute // 5), []).extend(latencies)
    return found


def _asked(asker: Asker = SYSTEM, *, latency: bool = True, sampled: bool = True) -> dict[str, Steps]:
    return queries.measured_steps(asker, SINCE, UNTIL, STEP_S, "tenant", latency=latency, sampled=sampled)


def _check(seen: dict[tuple[str, int], list[int]], found: dict[str, Steps]) -> None:
    for tenant, steps in found.items():
        for place, step in enumerate(steps):
            exact = sorted(seen.get((tenant, place), []))
            assert step["calls"] == len(exact)
            if not exact:
                assert step == Measured(300.0)
                continue
            for share, told in zip((0.5, 0.95, 0.99), step.latency_ms, strict=True):
                truth = exact[-(-round(share * 100) * len(exact) // 100) - 1]
                assert told == pytest.approx(truth / 1000, rel=0.011)


def test_steps_of_tenants__kept_and_fresh__are_what_was_seen(seen: dict[tuple[str, int], list[int]]) -> None:
    before = _asked()
    _climbed()

    found = _asked()

    assert set(found) == {tenant for tenant, _ in seen} == {"acme", "globex"}
    _check(seen, found)
    assert found == before
    assert any(step.queue_depth for step in found["acme"])
    for less in (_asked(sampled=False), _asked(latency=False)):
        assert {name: steps.counts for name, steps in less.items()} == {
            name: steps.counts for name, steps in found.items()
        }
    assert _asked(sampled=False)["acme"].latency_ms == found["acme"].latency_ms


def test_steps_of_tenants__one_who_sees_one_tenant__is_told_of_it_alone(seen: dict[tuple[str, int], list[int]]) -> None:
    acme, initech = (create_tenant(by=SYSTEM, slug=slug, name=slug) for slug in ("acme", "initech"))
    _climbed()

    found = _asked(Asker(name="v", role=Role.VIEWER, tenant=acme))

    assert found == {"acme": _asked()["acme"]}
    assert _asked(Asker(name="o", role=Role.VIEWER, tenant=initech)) == {}


def test_steps_of_tenants__what_came_late__is_in_them_when_it_is_folded_again(
    seen: dict[tuple[str, int], list[int]],
) -> None:
    _climbed()
    late = SINCE + timedelta(hours=3, minutes=41)
    _put(late, "late", [5_000, 70_000])
    LateHour.objects.create(kind="ladder", hour=late)
    LateHour.objects.create(kind="windows", hour=late.replace(minute=0))

    _climbed()

    found = _asked()
    _check(seen | {("late", 44): [5_000, 70_000]}, found)
    assert found["late"][44]["calls"] == 2

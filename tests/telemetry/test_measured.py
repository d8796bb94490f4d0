"""What rules look at over some minutes, against what the windows of each group tell one by one."""

from __future__ import annotations

import random
import struct
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from controlplane.telemetry import queries
from controlplane.telemetry.models import CallWindow1m, CallWindow10s
from controlplane.telemetry.packed import Packed
from controlplane.telemetry.queries import Measured
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import SYSTEM, Asker
from tidegate.core.window import Distribution

NOW = datetime(2026, 11, 25, 14, 7, 20, tzinfo=UTC)
SINCE = NOW - timedelta(minutes=5)


def _row(at: datetime, tenant: str, route: str, latencies: list[int]) -> dict[str, object]:
    spread, depth = Distribution(), Distribution()
    spread.add_all(latencies)
    depth.add_all([len(latencies)])
    return {
        "starts_at": at, "tenant": tenant, "route": route, "model": "m", "category": "c", "calls": len(latencies), "errors": 1, "refused": 2,
        "kinds": {}, "latency_us": spread.packed() if latencies else [], "tokens": [], "call_cost_nusd": [], "queue_depth": depth.packed(),
        "sessions": [],
    }  # fmt: skip


@pytest.fixture
def seen(db: None) -> dict[str, list[int]]:
    """Fill the last five minutes; return the latencies of each tenant. Of one tenant's calls none is known."""
    dice, found = random.Random(11), dict[str, list[int]]()
    minutes: dict[tuple[datetime, str, str], list[int]] = {}
    for number in range(5 * 6):
        at = SINCE + timedelta(seconds=10 * number)
        for tenant, route in product(("acme", "globex", "silent"), ("chat", "embed")):
            some = [dice.randrange(1, 40_000_000) for _ in range(dice.randrange(9))] if tenant != "silent" else []
            CallWindow10s.objects.create(**_row(at, tenant, route, some))
            minutes.setdefault((at.replace(second=0), tenant, route), []).extend(some)
            found.setdefault(tenant, []).extend(some)
    for (at, tenant, route), some in minutes.items():
        CallWindow1m.objects.create(**_row(at, tenant, route, some))
    return found


def _asked(asker: Asker = SYSTEM, by: str = "tenant") -> dict[str, Measured]:
    return queries.measured(asker, SINCE, NOW, by)


def _exact(values: list[int]) -> list[object]:
    ordered = sorted(values)
    return [
        pytest.approx(ordered[-(-share * len(ordered) // 100) - 1] / 1000, rel=0.011, abs=0.001)
        for share in (50, 95, 99)
    ]


def test_measured__by_tenant_and_together__is_what_was_seen(seen: dict[str, list[int]]) -> None:
    found = _asked()

    assert list(found) == ["acme", "globex", "silent"]
    assert {name: each["calls"] for name, each in found.items()} == {name: len(each) for name, each in seen.items()}
    assert found["silent"].latency_ms == (None, None, None)
    for name in ("acme", "globex"):
        assert list(found[name].latency_ms) == _exact(seen[name])
    together = _asked(by="")[""]
    assert list(together.latency_ms) == _exact([each for some in seen.values() for each in some])
    assert together.queue_depth is not None
    assert together["calls"] == sum(each["calls"] for each in found.values())


def test_measured__one_who_sees_one_tenant__is_told_of_it_alone(seen: dict[str, list[int]]) -> None:
    acme, initech = (create_tenant(by=SYSTEM, slug=slug, name=slug) for slug in ("acme", "initech"))

    assert _asked(Asker(name="v", role=Role.VIEWER, tenant=acme)) == {"acme": _asked()["acme"]}
    assert _asked(Asker(name="o", role=Role.VIEWER, tenant=initech)) == {}


def test_measured__what_is_not_asked_for__is_left_out(seen: dict[str, list[int]]) -> None:
    found = queries.measured(SYSTEM, SINCE, NOW, "tenant", latency=False, sampled=False, counts=("calls",))

    assert found["acme"] == Measured(300.0, {"calls": len(seen["acme"])})


@pytest.mark.parametrize("rows", [1, 40, 900])
def test_together__rows_of_buckets_one_after_the_other__are_one_in_order(rows: int) -> None:
    dice = random.Random(rows)
    each = [sorted((dice.randrange(4000) << 40) + dice.randrange(1, 9) for _ in range(3)) for _ in range(rows)]
    sent = b"".join(struct.pack(">iq", 8, entry) for row in each for entry in row)

    found = Packed.together(sent)

    assert list(found.entries) == sorted(entry for row in each for entry in row)
    assert found.tails() == Packed(sorted(entry for row in each for entry in row)).tails()

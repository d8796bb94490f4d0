"""State of the small world: rings of several nodes, one of them being rebalanced, traffic, and values of a user."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from django.db import connection

from controlplane.state.actions.rules import put_rule
from controlplane.state.models import Node, Rebalancing, Ring, Traffic, Usage
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import SYSTEM
from tidegate.core.partition import assign, moved, slot_of

KEPT = {
    "preferences": {"tone": "brief", "language": "de"},
    "visits": 41,
    "learned": ["asks for sources", "lives by the sea"],
}


def make(acme: Tenant, now: datetime) -> None:
    """Every node is the tests' own engine under another name."""
    nodes = {
        name: Node.objects.create(kind="database", name=name, weight=weight, began_at=now)
        for name, weight in (("main", 1), ("db-2", 1), ("db-3", 2))
    }
    caches = {name: Node.objects.create(kind="cache", name=name, began_at=now) for name in ("main", "cache-2")}
    before = [nodes[name].pk for name in assign({"main": 1, "db-2": 1})]
    targets = [nodes[name].pk for name in assign({"main": 1, "db-2": 1, "db-3": 2})]
    moving = moved(before, targets)
    owners = [targets[slot] if slot in set(moving[: len(moving) // 3]) else pk for slot, pk in enumerate(before)]
    Ring.objects.create(kind="database", version=171, owners=owners)
    Ring.objects.create(kind="cache", version=1, owners=[caches["main"].pk] * 1024)
    Rebalancing.objects.create(
        kind="database", targets=targets, slots_total=len(moving), slots_done=len(moving) // 3, keys_moved=61_204,
        started_by="anna", started_at=now - timedelta(seconds=48),
    )  # fmt: skip
    Rebalancing.objects.create(
        kind="database", phase="done", targets=before, slots_total=512, slots_done=512, keys_moved=190_311,
        started_by="anna", started_at=now - timedelta(days=3), ended_at=now - timedelta(days=3) + timedelta(minutes=2),
    )  # fmt: skip
    put_rule(by=SYSTEM, tenant=acme, document={"durable_sessions": True, "max_bytes": 200_000_000, "encrypt": True})
    for node, tenant, kind, sessions, keys, size in (
        (caches["main"], "acme", "session", 3_204, 19_800, 41_200_000),
        (caches["main"], "globex", "session", 811, 4_120, 3_900_000),
        (nodes["main"], "acme", "user", 0, 88_120, 66_000_000),
        (nodes["db-2"], "globex", "user", 0, 12_001, 9_100_000),
        (nodes["db-3"], "acme", "shared", 0, 1_210, 2_400_000),
    ):
        Usage.objects.create(node=node, tenant=tenant, kind=kind, owners=sessions, keys=keys, bytes=size, at=now)
    for minute in range(10):
        for tenant, part in (("acme", 3), ("globex", 1)):
            for kind, l2, database in (("session", 900, 40), ("user", 0, 410)):
                Traffic.objects.create(
                    minute=(now - timedelta(minutes=minute)).replace(second=0, microsecond=0), tenant=tenant, kind=kind,
                    l1_hits=8_200 * part, l2_hits=l2 * part, database_hits=database * part, misses=77 * part,
                    writes=610 * part,
                )  # fmt: skip
    _values()


def _values() -> None:
    with connection.cursor() as cursor:
        for turn in range(3):
            for key, value in KEPT.items():
                text = json.dumps(value if key != "visits" else 39 + turn).encode()
                cursor.execute(
                    "SELECT status FROM state_swap('acme', 1, 'u-1', %s, %s, NULL, %s, false, NULL, NULL, 0, NULL, NULL)",
                    [key, slot_of("acme", "user", "u-1"), text],
                )

"""What an edge knows of nodes, rings and rules: read again when they change, followed by every operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from controlplane.state.sealing import unseal
from tidegate.core.partition import SLOTS

RingName = Literal["database", "cache"]


@dataclass(frozen=True, slots=True)
class Place:
    """A node. ``url`` is ``None`` for the installation's own. ``down``: its sessions are served by PostgreSQL.

    ``begun``: it has served before. ``spilled``: PostgreSQL may know sessions of this generation that the cache does not.
    """

    id: int
    kind: RingName
    name: str
    url: str | None
    generation: int
    generation_at: datetime
    down: bool
    begun: bool
    spilled: bool


@dataclass(frozen=True, slots=True)
class Rules:
    """How a tenant's state is kept."""

    durable: bool = False
    session_ttl_s: int = 3600
    max_keys: int | None = None
    max_bytes: int | None = None
    encrypt: bool = False


@dataclass(frozen=True, slots=True)
class Placement:
    """One version of the map. ``owners`` has a node's id for every slot of each ring."""

    mark: tuple[Any, ...] = ()
    places: Mapping[int, Place] = field(default_factory=dict)
    owners: Mapping[RingName, Sequence[int]] = field(default_factory=dict)
    versions: Mapping[RingName, int] = field(default_factory=dict)
    rules: Mapping[str, Rules] = field(default_factory=dict)
    default: Rules = Rules()
    ended: Mapping[tuple[str, str], int] = field(default_factory=dict)  # when a tenant's session was ended, Unix ms

    def place_of(self, ring: RingName, slot: int) -> Place:
        return self.places[self.owners[ring][slot]]

    def rules_of(self, tenant: str) -> Rules:
        return self.rules.get(tenant, self.default)

    def slots_of(self, place: Place) -> list[int]:
        return [slot for slot, owner in enumerate(self.owners[place.kind]) if owner == place.id]


_ENSURE_NODES = (
    "INSERT INTO state_node (kind, name, weight, generation, spilled) "
    "VALUES ('database', 'main', 1, 1, 0), ('cache', 'main', 1, 1, 0) ON CONFLICT DO NOTHING"
)
_ENSURE_RINGS = (
    "INSERT INTO state_ring (kind, version, owners) SELECT kind, 1, array_fill(id::integer, ARRAY[%s::integer]) "
    "FROM state_node WHERE name = 'main' ON CONFLICT DO NOTHING"
)
_MARK = """
SELECT (SELECT array_agg((id, weight, generation, down_at, began_at, spilled)::text ORDER BY id) FROM state_node),
       (SELECT array_agg(version ORDER BY kind) FROM state_ring),
       (SELECT array_agg((id, durable_sessions, session_ttl_s, max_keys, max_bytes, encrypt)::text ORDER BY id)
        FROM state_rule),
       (SELECT max(id) FROM tenancy_tenant), (SELECT max(id) FROM state_endedsession)
"""
_ENDED = "SELECT tenant, session, ended_at FROM state_endedsession WHERE until > now() ORDER BY id DESC LIMIT 10000"
_RULES = """
SELECT DISTINCT ON (tenant.id) tenant.slug, rule.durable_sessions, rule.session_ttl_s, rule.max_keys, rule.max_bytes,
       rule.encrypt
FROM tenancy_tenant AS tenant
JOIN state_rule AS rule ON rule.tenant_id IS NULL OR rule.tenant_id = ANY(tenant.lineage)
ORDER BY tenant.id, array_position(tenant.lineage, rule.tenant_id) DESC NULLS LAST
"""


async def read_mark(connection: AsyncConnection) -> tuple[Any, ...]:
    """Return what differs when the placement does."""
    cursor = await connection.execute(_MARK)
    return tuple(await cursor.fetchone() or ())


async def read(connection: AsyncConnection) -> Placement:
    """Read the placement, and make the installation's own rings where there are none yet."""
    mark = await read_mark(connection)
    if mark[1] is None or len(mark[1]) < 2:
        await connection.execute(_ENSURE_NODES)
        await connection.execute(_ENSURE_RINGS, [SLOTS])
        mark = await read_mark(connection)
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute("SELECT * FROM state_node")
        places = {row["id"]: _place(row) for row in await cursor.fetchall()}
        await cursor.execute("SELECT kind, version, owners FROM state_ring")
        rings = await cursor.fetchall()
        await cursor.execute(_RULES)
        rules = {row["slug"]: _rules(row) for row in await cursor.fetchall()}
        await cursor.execute("SELECT * FROM state_rule WHERE tenant_id IS NULL")
        default = await cursor.fetchone()
        await cursor.execute(_ENDED)
        ended = await cursor.fetchall()
    return Placement(
        mark=mark,
        places=places,
        owners={ring["kind"]: ring["owners"] for ring in rings},
        versions={ring["kind"]: ring["version"] for ring in rings},
        rules=rules,
        default=_rules(default) if default else Rules(),
        ended={(row["tenant"], row["session"]): int(row["ended_at"].timestamp() * 1000) for row in ended},
    )


def _place(row: dict[str, Any]) -> Place:
    sealed = row["sealed_url"]
    return Place(
        id=row["id"],
        kind=row["kind"],
        name=row["name"],
        url=unseal(bytes(sealed), "", "node", row["name"]).decode() if sealed is not None else None,
        generation=row["generation"],
        generation_at=row["generation_at"],
        down=row["down_at"] is not None,
        begun=row["began_at"] is not None,
        spilled=row["spilled"] == row["generation"],
    )


def _rules(row: dict[str, Any]) -> Rules:
    return Rules(
        durable=row["durable_sessions"],
        session_ttl_s=row["session_ttl_s"],
        max_keys=row["max_keys"],
        max_bytes=row["max_bytes"],
        encrypt=row["encrypt"],
    )

"""The values themselves, for operators: looked up, exported, and the sessions that are alive now."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

import redis
from asgiref.sync import async_to_sync

from controlplane.domain.state import KINDS, MAX_NAME, Kind
from controlplane.problems import Invalid, NotFound
from controlplane.state.models import Node, RingKind
from controlplane.state.placement import RingName
from controlplane.state.reach import database_url, reached
from controlplane.state.sameness import url_of
from controlplane.state.stores.words import Space
from controlplane.state.tiers import Earlier, Tiers, Value
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import Asker, slugs_seen_by

MOST_SESSIONS = 500


def space_of(asker: Asker, tenant: str, kind: str, owner: str) -> Space:
    """Return a space in the asker's scope; ``NotFound`` outside of it, ``Invalid`` for what can't be one."""
    if kind not in KINDS:
        raise Invalid("There is no such kind of state.", errors={"kind": f"must be one of {', '.join(KINDS)}"})
    if not 1 <= len(owner) <= MAX_NAME or "\0" in owner:
        raise Invalid("Nobody is named like this.", errors={"owner": f"must have 1 to {MAX_NAME} characters"})
    seen = slugs_seen_by(asker)
    if seen is not None and tenant not in seen:
        raise NotFound(f"There is no tenant {tenant!r} that you may see.")
    return Space.of(tenant, cast("Kind", kind), owner)


@dataclass(frozen=True)
class Held:
    """A value with where it was found and what it was before."""

    key: str
    value: Any
    version: int
    size: int
    left_ms: int | None
    history: list[tuple[int, datetime, Any]]

    @property
    def seconds_left(self) -> float | None:
        return None if self.left_ms is None else self.left_ms / 1000


@dataclass(frozen=True)
class Everything:
    """All that an owner has. ``nodes`` are the names of those that serve its slot, by ring."""

    space: Space
    nodes: dict[str, str]
    values: list[Held]
    durable: bool
    from_cache: int


class _Raw(NamedTuple):
    nodes: dict[str, str]
    values: dict[str, Value]
    history: dict[str, list[Earlier]]
    durable: bool
    from_cache: int


def everything(asker: Asker, tenant: str, kind: str, owner: str) -> Everything:
    """Return all that an owner has, with earlier versions: what its export is. Takes the role operator."""
    asker.must(Role.OPERATOR)
    space = space_of(asker, tenant, kind, owner)
    raw = async_to_sync(_read)(space, database_url())
    values = [
        Held(
            key=key,
            value=json.loads(value.json),
            version=value.version,
            size=len(key.encode()) + len(value.json),
            left_ms=value.left_ms,
            history=[(each.version, each.written_at, json.loads(each.json)) for each in raw.history.get(key, [])],
        )
        for key, value in sorted(raw.values.items())
    ]
    return Everything(space, raw.nodes, values, raw.durable, raw.from_cache)


async def _read(space: Space, url: str) -> _Raw:
    rings: tuple[RingName, ...] = ("cache", "database") if space.kind == "session" else ("database",)
    async with reached(url) as atlas:
        now, tiers = await atlas.current(), Tiers(atlas)
        found = await tiers.read(space, None)
        history = {key: await tiers.history(space, key) for key in found.values} if space.kind != "session" else {}
        nodes: dict[str, str] = {ring: now.place_of(ring, space.slot).name for ring in rings}
        return _Raw(nodes, found.values, history, now.rules_of(space.tenant).durable, found.tiers.get("l2", 0))


@dataclass(frozen=True)
class AliveSession:
    """A session that is kept now. ``seen_at`` is when it was last read or written."""

    tenant: str
    session: str
    started_at: datetime
    seen_at: datetime
    ends_at: datetime
    keys: int
    bytes: int
    node: str


def alive_sessions(asker: Asker, *, tenant: str | None = None, most: int = 100) -> list[AliveSession]:
    """Return the sessions in the asker's scope that are kept in caches now, the last seen first, at most ``most``."""
    from controlplane.state.queries import rule_of
    from controlplane.tenancy.models import Tenant

    found: list[AliveSession] = []
    ttls: dict[str, int] = {}
    for node, valkey in _caches():
        prefix = f"tgs:{node.generation}:"
        for slug in _tenants(asker, tenant, valkey, prefix):
            if slug not in ttls:
                ttls[slug] = rule_of(Tenant.objects.filter(slug=slug).first())[0].session_ttl_s
            pairs: Any = valkey.zrevrange(f"{prefix}i:{slug}", 0, min(most, MOST_SESSIONS) - 1, withscores=True)
            metas: Any = valkey.hmget(f"{prefix}z:{slug}", [name for name, _ in pairs]) if pairs else []
            found += [
                _alive(slug, name, ends_ms, meta, node.name, ttls[slug])
                for (name, ends_ms), meta in zip(pairs, metas, strict=True)
                if meta is not None
            ]
    now = datetime.now(UTC)
    return sorted((each for each in found if each.ends_at > now), key=lambda each: each.seen_at, reverse=True)[:most]


def count_alive(asker: Asker) -> dict[str, int]:
    """Return how many sessions are kept in caches now, by tenant in the asker's scope."""
    counts: dict[str, int] = {}
    now_ms = datetime.now(UTC).timestamp() * 1000
    for node, valkey in _caches():
        prefix = f"tgs:{node.generation}:"
        for slug in _tenants(asker, None, valkey, prefix):
            alive: Any = valkey.zcount(f"{prefix}i:{slug}", now_ms, "+inf")
            counts[slug] = counts.get(slug, 0) + int(alive)
    return counts


def _caches() -> Iterator[tuple[Node, redis.Redis]]:
    for node in Node.objects.filter(kind=RingKind.CACHE, down_at=None).exclude(began_at=None):
        with contextlib.suppress(redis.RedisError), redis.Redis.from_url(url_of(node), socket_timeout=1) as valkey:
            yield node, valkey


def _tenants(asker: Asker, tenant: str | None, valkey: redis.Redis, prefix: str) -> list[str]:
    members: Any = valkey.smembers(f"{prefix}t")
    seen = slugs_seen_by(asker)
    slugs = {member.decode() for member in members}
    if seen is not None:
        slugs &= set(seen)
    return sorted(slugs & {tenant} if tenant is not None else slugs)


def _alive(tenant: str, name: bytes, ends_ms: float, meta: bytes, node: str, ttl_s: int) -> AliveSession:
    _, started_ms, keys, size, _ = meta.split()
    ends = ends_ms / 1000
    return AliveSession(
        tenant=tenant,
        session=name.decode(),
        started_at=datetime.fromtimestamp(int(started_ms) / 1000, UTC),
        seen_at=datetime.fromtimestamp(ends - ttl_s, UTC),
        ends_at=datetime.fromtimestamp(ends, UTC),
        keys=int(keys),
        bytes=int(size),
        node=node,
    )

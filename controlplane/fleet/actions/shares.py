"""Dividing fleet-wide limits among the instances that enforce them (docs/protocol.md, "Shares").

Raw psycopg, a fixed number of statements for many instances, inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection

from controlplane.columns import moments, plain, texts
from controlplane.domain.shares import Holding, give
from controlplane.fleet.schemas import DemandLine, ShareLine, Sighting

# How long a share is good for, counted from when its sync was sent; the server counts from when it arrived, which is later.
SHARE_LASTS = timedelta(seconds=10)
_TTL_MS = int(SHARE_LASTS.total_seconds() * 1000)


class Subject(NamedTuple):
    """What is divided."""

    tenant: str
    route: str
    unit: str


async def divide(
    connection: AsyncConnection[Any], sightings: Sequence[Sighting], *, now: datetime
) -> dict[UUID, list[ShareLine]]:
    """Note what the instances ask of fleet-wide limits and which shares they use; return the share of each.

    Whoever divides the same limit at the same time waits: shares in force never add up to more than the limit.
    """
    asked: dict[Subject, dict[UUID, DemandLine]] = {}
    for seen in sightings:
        for line in seen.demand:
            asked.setdefault(Subject(line.tenant, line.route, line.unit), {})[seen.incarnation] = line
    if not asked:
        return {}
    subjects = sorted(asked)
    await _lock(connection, subjects)
    known = await _holdings(connection, subjects, now=now)
    closing = {seen.incarnation for seen in sightings if seen.final}
    given: list[tuple[UUID, Subject, DemandLine, Holding]] = []
    for subject in subjects:
        lines = asked[subject]
        holdings = _divided(known.get(subject, {}), lines, closing)
        given += [(incarnation, subject, lines[incarnation], holdings[incarnation]) for incarnation in lines]
    await _keep(connection, given, now=now)
    shares: dict[UUID, list[ShareLine]] = {}
    for incarnation, subject, _, holding in given:
        share = ShareLine(**subject._asdict(), share=holding.promised, ttl_ms=_TTL_MS)
        shares.setdefault(incarnation, []).append(share)
    return shares


def _divided(
    known: Mapping[UUID, Holding], lines: Mapping[UUID, DemandLine], closing: set[UUID]
) -> dict[UUID, Holding]:
    """Return the holdings of one limit after its askers were answered, one after the other."""
    holdings = dict(known)
    for incarnation, line in lines.items():
        said = holdings.get(incarnation, Holding(0.0)).acknowledged(line.share)
        holdings[incarnation] = said._replace(demand=line.per_s)
    for incarnation, line in lines.items():
        if incarnation in closing:
            holdings[incarnation] = Holding(0.0)
            continue
        order = sorted(each for each in holdings if each not in closing)
        rows = [holdings[each] for each in order]
        index = order.index(incarnation)
        holdings[incarnation] = give(rows, index, capacity=line.capacity, whole=line.unit == "calls")
    return holdings


async def _lock(connection: AsyncConnection[Any], subjects: Sequence[Subject]) -> None:
    """Have all who divide these limits wait for the end of this transaction, in one order."""
    await connection.execute(
        b"""
        SELECT pg_advisory_xact_lock(key)
        FROM (SELECT DISTINCT hashtextextended(concat_ws(E'\\x1f', tenant, route, unit), 7) AS key
              FROM unnest(%s::text[], %s::text[], %s::text[]) AS subject (tenant, route, unit) ORDER BY 1) AS keys
        """,
        _columns(subjects),
    )


async def _holdings(
    connection: AsyncConnection[Any], subjects: Sequence[Subject], *, now: datetime
) -> dict[Subject, dict[UUID, Holding]]:
    """Return what the instances hold that are still there and were heard of in time."""
    cursor = await connection.execute(
        b"""
        SELECT demand.tenant, demand.route, demand.unit, demand.instance_id, per_s, promised, in_force
        FROM unnest(%s::text[], %s::text[], %s::text[]) AS wanted (tenant, route, unit)
        JOIN fleet_limitdemand AS demand USING (tenant, route, unit)
        JOIN fleet_instance AS instance ON instance.incarnation = demand.instance_id
        WHERE demand.updated_at > %s AND instance.closed_at IS NULL
        """,
        [*_columns(subjects), str(now - SHARE_LASTS)],
    )
    known: dict[Subject, dict[UUID, Holding]] = {}
    for tenant, route, unit, incarnation, *holding in await cursor.fetchall():
        known.setdefault(Subject(tenant, route, unit), {})[incarnation] = Holding(*holding)
    return known


async def _keep(
    connection: AsyncConnection[Any], given: Sequence[tuple[UUID, Subject, DemandLine, Holding]], *, now: datetime
) -> None:
    ordered = sorted(given, key=lambda each: (each[0], each[1]))
    await connection.execute(
        b"""
        INSERT INTO fleet_limitdemand (instance_id, tenant, route, unit, capacity, per_s, promised, in_force, updated_at)
        SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::float8[], %s::float8[], %s::float8[],
                             %s::float8[], %s::timestamptz[])
        ON CONFLICT (instance_id, tenant, route, unit) DO UPDATE
        SET capacity = excluded.capacity, per_s = excluded.per_s, promised = excluded.promised, in_force = excluded.in_force,
            updated_at = excluded.updated_at
        """,
        [
            plain([incarnation for incarnation, *_ in ordered]),
            *_columns([subject for _, subject, *_ in ordered]),
            plain([line.capacity for _, _, line, _ in ordered]),
            plain([holding.demand for *_, holding in ordered]),
            plain([holding.promised for *_, holding in ordered]),
            plain([holding.in_force for *_, holding in ordered]),
            moments([now] * len(ordered)),
        ],
    )


def _columns(subjects: Sequence[Subject]) -> list[str]:
    return [texts(list(column)) for column in zip(*subjects, strict=True)]

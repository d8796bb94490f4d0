"""Folding what SDKs say of arms into totals and ten-second slices; in the caller's transaction, beside their windows.

Who calls sees to it that every window is folded once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from psycopg import AsyncConnection

from controlplane.columns import moments, plain, texts
from controlplane.rollouts.schemas import DISTRIBUTIONS, SUMS, ArmLine
from controlplane.telemetry.actions.bounds import added, bounded
from tidegate.core.window import Distribution

_AHEAD = timedelta(seconds=5)
_BEHIND = timedelta(days=1)

Key = tuple[int, int, str, str, int]  # deployment, step, release, arm, ring


class Reported(NamedTuple):
    """What one window of one instance says of arms. ``payers``: the tenants that its key may speak for; ``None``: all."""

    starts_ms: int
    lines: Sequence[ArmLine]
    payers: frozenset[str] | None


@dataclass(slots=True)
class _Sums:
    amounts: list[int] = field(default_factory=lambda: [0] * len(SUMS))
    spreads: dict[str, Distribution] = field(default_factory=dict)

    def add(self, line: ArmLine) -> None:
        for index, name in enumerate(SUMS):
            self.amounts[index] += getattr(line, name)
        for name in DISTRIBUTIONS:
            packed = getattr(line, name)
            if packed:
                self.spreads.setdefault(name, Distribution()).merge(Distribution.from_packed(packed))

    def packed(self, name: str) -> str:
        spread = self.spreads.get(name)
        return "{" + ",".join(map(str, spread.packed())) + "}" if spread else "{}"


async def fold(connection: AsyncConnection[Any], reports: Sequence[Reported], *, now: datetime) -> None:
    """Add ``reports`` to totals and slices. Lines on deployments that the key may not speak for are dropped."""
    if not reports:
        return
    owners = await _owners(connection, {line.deployment for report in reports for line in report.lines})
    totals: dict[Key, _Sums] = {}
    slices: dict[tuple[datetime, Key], _Sums] = {}
    for report in reports:
        at = _slice_of(report.starts_ms, now)
        for line in report.lines:
            if line.deployment not in owners or not _may(owners[line.deployment], report.payers):
                continue
            key = (line.deployment, line.step, line.release, line.arm, line.ring)
            totals.setdefault(key, _Sums()).add(line)
            slices.setdefault((at, key), _Sums()).add(line)
    if not totals:
        return
    # In the order of their keys, so that two processes never wait for each other.
    wholes = sorted(totals)
    await connection.execute(_INTO_TOTALS, _columns(wholes, [totals[key] for key in wholes]))
    parts = sorted(slices)
    rows = _columns([key for _, key in parts], [slices[part] for part in parts])
    await connection.execute(_INTO_SLICES, [moments([at for at, _ in parts]), *rows])


def _slice_of(starts_ms: int, now: datetime) -> datetime:
    at = datetime.fromtimestamp(starts_ms / 1000, UTC)
    at = at if now - _BEHIND <= at <= now + _AHEAD else now
    return at.replace(second=at.second - at.second % 10, microsecond=0)


def _may(owner: str | None, payers: frozenset[str] | None) -> bool:
    return payers is None or owner is None or owner in payers


async def _owners(connection: AsyncConnection[Any], ids: set[int]) -> dict[int, str | None]:
    """Return the tenants of deployments, ``None`` for the installation's own."""
    cursor = await connection.execute(
        b"SELECT deployment.id, tenant.slug FROM rollouts_deployment AS deployment "
        b"LEFT JOIN tenancy_tenant AS tenant ON tenant.id = deployment.tenant_id WHERE deployment.id = ANY(%s)",
        [sorted(ids)],
    )
    return dict(await cursor.fetchall())


def _upsert(table: str, keys: Sequence[str], types: Sequence[str]) -> bytes:
    names = [*keys, *SUMS, *DISTRIBUTIONS]
    kinds = [*types, *["bigint"] * len(SUMS), *["text"] * len(DISTRIBUTIONS)]
    casts = [*keys, *SUMS, *(f"{name}::bigint[]" for name in DISTRIBUTIONS)]
    updates = [
        *(f"{name} = {added(name)}" for name in SUMS),
        *(f"{name} = tg_dist_merge(kept.{name}, excluded.{name})" for name in DISTRIBUTIONS),
    ]
    return f"""
        INSERT INTO {table} AS kept ({", ".join(names)})
        SELECT {", ".join(casts)} FROM unnest({", ".join(f"%s::{kind}[]" for kind in kinds)}) AS row ({", ".join(names)})
        ON CONFLICT ({", ".join(keys)}) DO UPDATE SET {", ".join(updates)}
    """.encode()  # noqa: S608  (names of our own tables and columns)


_KEYS = ("deployment_id", "step", "release", "arm", "ring")
_TYPES = ("bigint", "bigint", "text", "text", "smallint")
_INTO_TOTALS = _upsert("rollouts_arm_total", _KEYS, _TYPES)
_INTO_SLICES = _upsert("rollouts_arm_10s", ("starts_at", *_KEYS), ("timestamptz", *_TYPES))


def _columns(keys: Iterable[Key], sums: Sequence[_Sums]) -> list[str]:
    deployments, steps, releases, arms, rings = (list(column) for column in zip(*keys, strict=True))
    return [
        plain(deployments), plain(steps), texts(releases), texts(arms), plain(rings),
        *(bounded(each.amounts[index] for each in sums) for index in range(len(SUMS))),
        *(texts([each.packed(name) for each in sums]) for name in DISTRIBUTIONS),
    ]  # fmt: skip

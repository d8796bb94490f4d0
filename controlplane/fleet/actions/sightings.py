"""Noting which SDK instances reported: who they are, what they run, and their breakers.

Raw psycopg, many sightings in a fixed number of statements, inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from controlplane.columns import moments, optional, plain, texts
from controlplane.fleet.schemas import Sighting

_LONGEST_AGE_MS = 366 * 86_400_000


def _columns(rows: Iterable[Iterable[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


async def touch(connection: AsyncConnection[Any], sightings: Sequence[Sighting]) -> dict[UUID, int]:
    """Note ``sightings``, one per incarnation; return the number of the last window acknowledged to each.

    The rows stay locked until the caller's transaction ends.
    """
    ordered = sorted(sightings, key=lambda seen: seen.incarnation)
    acked = await _touch_known(connection, ordered)
    new = [seen for seen in ordered if seen.incarnation not in acked]
    if new:
        acked |= await _insert(connection, new)
    return acked


def _taken_at(seen: Sighting) -> datetime:
    """Return when an instance took its config, by our clock: an instance that does not say took it just now."""
    return seen.seen_at - timedelta(milliseconds=min(seen.config.age_ms or 0, _LONGEST_AGE_MS))


async def _touch_known(connection: AsyncConnection[Any], sightings: Sequence[Sighting]) -> dict[UUID, int]:
    """Note those that were seen before: what may differ from one sync to the next."""
    cursor = await connection.execute(
        b"""
        UPDATE fleet_instance AS kept
        SET key_id = seen.key_id, scope_id = seen.scope_id, seq = greatest(kept.seq, seen.seq), clock_skew_ms = seen.skew_ms,
            config_at = CASE WHEN kept.config_etag = seen.config_etag THEN kept.config_at ELSE seen.config_at END,
            config_etag = seen.config_etag, refused_etag = seen.refused_etag, refused_reason = seen.refused_reason,
            active_sessions = seen.active_sessions, queue_depth = seen.queue_depth,
            dropped_windows = seen.dropped_windows, dropped_spans = seen.dropped_spans, seen_at = seen.seen_at,
            closed_at = coalesce(kept.closed_at, CASE WHEN seen.final THEN seen.seen_at END)
        FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::timestamptz[],
                    %s::text[], %s::text[], %s::int[], %s::int[], %s::bigint[], %s::bigint[], %s::timestamptz[],
                    %s::boolean[])
             AS seen (incarnation, key_id, scope_id, seq, skew_ms, config_etag, config_at, refused_etag, refused_reason,
                      active_sessions, queue_depth, dropped_windows, dropped_spans, seen_at, final)
        WHERE kept.incarnation = seen.incarnation
        RETURNING kept.incarnation, kept.windows_acked
        """,
        [
            plain([seen.incarnation for seen in sightings]),
            plain([seen.key_id for seen in sightings]),
            optional([seen.scope_id for seen in sightings]),
            plain([seen.seq for seen in sightings]),
            plain([seen.skew_ms for seen in sightings]),
            texts([seen.config.etag or "" for seen in sightings]),
            moments([_taken_at(seen) for seen in sightings]),
            texts([seen.config.refused_etag or "" for seen in sightings]),
            texts([(seen.config.refused or "")[:500] for seen in sightings]),
            plain([seen.active_sessions for seen in sightings]),
            plain([seen.gauges.queue_depth for seen in sightings]),
            plain([seen.gauges.dropped_windows for seen in sightings]),
            plain([seen.gauges.dropped_spans for seen in sightings]),
            moments([seen.seen_at for seen in sightings]),
            plain([seen.final for seen in sightings]),
        ],
    )
    return dict(await cursor.fetchall())


async def _insert(connection: AsyncConnection[Any], sightings: Sequence[Sighting]) -> dict[UUID, int]:
    """Note those that are seen for the first time."""
    await connection.execute(
        b"""
        INSERT INTO fleet_instance (incarnation, key_id, scope_id, app, host, pid, sdk, seq, clock_skew_ms, config_etag,
            refused_etag, refused_reason, active_sessions, queue_depth, dropped_windows, dropped_spans, started_at, seen_at,
            windows_acked)
        SELECT incarnation, key_id, scope_id, app, host, pid, sdk, 0, 0, '', '', '', 0, 0, 0, 0, seen_at, seen_at, 0
        FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::bigint[], %s::text[], %s::timestamptz[])
             AS seen (incarnation, key_id, scope_id, app, host, pid, sdk, seen_at)
        ON CONFLICT (incarnation) DO NOTHING
        """,
        [
            plain([seen.incarnation for seen in sightings]),
            plain([seen.key_id for seen in sightings]),
            optional([seen.scope_id for seen in sightings]),
            texts([seen.app for seen in sightings]),
            texts([seen.host for seen in sightings]),
            plain([seen.pid for seen in sightings]),
            texts([seen.sdk for seen in sightings]),
            moments([seen.seen_at for seen in sightings]),
        ],
    )
    return await _touch_known(connection, sightings)


async def acknowledge(connection: AsyncConnection[Any], acked: Mapping[UUID, int]) -> None:
    """Raise the number of the last window folded, for rows that ``touch`` has locked."""
    if acked:
        await connection.execute(
            b"""
            UPDATE fleet_instance SET windows_acked = acked.number
            FROM unnest(%s::uuid[], %s::bigint[]) AS acked (incarnation, number)
            WHERE fleet_instance.incarnation = acked.incarnation
            """,
            _columns(sorted(acked.items())),
        )


async def note_breakers(connection: AsyncConnection[Any], sightings: Sequence[Sighting]) -> None:
    """Keep the last state of each breaker that was reported."""
    rows = {
        (seen.incarnation, line.route, line.model, line.credential): (
            line.phase, line.mode, datetime.fromtimestamp(line.since_ms / 1000, UTC), line.calls, line.failures, line.slow,
            line.hung, line.refused, line.cause[:300], seen.seen_at,
        )
        for seen in sightings
        for line in seen.breakers
    }  # fmt: skip
    if rows:
        await connection.execute(
            b"""
            INSERT INTO fleet_breakerstate (instance_id, route, model, credential, phase, mode, since, calls, failures, slow,
                                            hung, refused, cause, updated_at)
            SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[],
                                 %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[],
                                 %s::timestamptz[])
            ON CONFLICT (instance_id, route, model, credential) DO UPDATE
            SET phase = excluded.phase, mode = excluded.mode, since = excluded.since, calls = excluded.calls,
                failures = excluded.failures, slow = excluded.slow, hung = excluded.hung, refused = excluded.refused,
                cause = excluded.cause, updated_at = excluded.updated_at
            """,
            _columns((*key, *rest) for key, rest in sorted(rows.items())),
        )

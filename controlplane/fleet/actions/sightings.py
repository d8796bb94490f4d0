"""Noting which SDK instances reported: who they are, what they run, and their breakers.

Raw psycopg, many sightings in a fixed number of statements, inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection, AsyncCursor

from controlplane.columns import ids, moments, optional, plain, texts
from controlplane.fleet.schemas import Sighting
from controlplane.problems import Ended, Invalid, Problem

_LONGEST_AGE_MS = 366 * 86_400_000
_OVER = "This incarnation was silent for so long that it was given up: nothing of the sync counts. Begin as a new one."
_FOREIGN = "The sync can't be written: this incarnation speaks with a key of another scope"


def _columns(rows: Iterable[Iterable[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


class Touched:
    """Sightings that have been sent to the database, in the order of their rows, and its answer."""

    def __init__(
        self,
        connection: AsyncConnection[Any],
        sightings: Sequence[Sighting],
        order: Sequence[int],
        cursor: AsyncCursor[Any],
    ) -> None:
        self._connection = connection
        self._sightings = sightings
        self._order = order
        self._cursor = cursor
        self.late = False  # whether some rows could only be locked when the answer had come

    async def acked(self) -> list[int | Problem]:
        """Return, for each sighting, the number of the last window that had been acknowledged before it, or why it is refused.

        ``Ended`` when its incarnation was silent for so long that it was forgotten, ``Invalid`` when it was first heard of from a key
        of another scope: whoever learns its name, from a trace say, can't speak for it.
        """
        acked = await self._places()
        new = [place for place in range(len(self._sightings)) if place not in acked]
        self.late = bool(new)
        if new:
            sightings = [self._sightings[place] for place in new]
            await _insert(self._connection, sightings)
            late = await _send(self._connection, sightings)
            acked |= {new[place]: number for place, number in (await late._places()).items()}
        if len(acked) == len(self._sightings):
            return [acked[place] for place in range(len(self._sightings))]
        ended = await self._ended([self._sightings[place].incarnation for place in new if place not in acked])
        return [
            acked[place] if place in acked else Ended(_OVER) if seen.incarnation in ended else Invalid(_FOREIGN)
            for place, seen in enumerate(self._sightings)
        ]

    async def _ended(self, incarnations: Sequence[UUID]) -> set[UUID]:
        query = b"SELECT incarnation FROM fleet_endedinstance WHERE incarnation = ANY(%s::uuid[])"
        found = await self._connection.execute(query, [ids(incarnations)])
        return {name for (name,) in await found.fetchall()}

    async def _places(self) -> dict[int, int]:
        return {self._order[place - 1]: number for place, number in await self._cursor.fetchall()}


async def touch(connection: AsyncConnection[Any], sightings: Sequence[Sighting]) -> Touched:
    """Note ``sightings``, one per incarnation, and acknowledge the windows that they bring: the caller folds them.

    The rows stay locked until the caller's transaction ends. In a pipeline this only sends.
    """
    first = [seen for seen in sightings if seen.seq <= 1]
    if first:
        await _insert(connection, first)
    return await _send(connection, sightings)


async def _send(connection: AsyncConnection[Any], sightings: Sequence[Sighting]) -> Touched:
    """Note those that were seen before: what may differ from one sync to the next.

    Rows are changed in the order in which they are told, which is that of their keys: so are those of other groups.
    All were heard of by the time at which the last one was.
    """
    order = sorted(range(len(sightings)), key=lambda place: sightings[place].incarnation.int)
    ordered = [sightings[place] for place in order]
    cursor = await connection.execute(
        b"""
        UPDATE fleet_instance AS kept
        SET key_id = seen.key_id, seq = greatest(kept.seq, seen.seq), clock_skew_ms = seen.skew_ms,
            config_at = CASE WHEN kept.config_etag = seen.config_etag THEN kept.config_at
                             ELSE seen.at - seen.config_age_ms * interval '1 millisecond' END,
            config_etag = seen.config_etag, refused_etag = seen.refused_etag, refused_reason = seen.refused_reason,
            active_sessions = seen.active_sessions, queue_depth = seen.queue_depth,
            dropped_windows = seen.dropped_windows, dropped_spans = seen.dropped_spans, seen_at = seen.at,
            closed_at = coalesce(kept.closed_at, CASE WHEN seen.final THEN seen.at END),
            windows_before = kept.windows_acked, windows_acked = greatest(kept.windows_acked, seen.last_window)
        FROM (
            SELECT each.*, %s::timestamptz AS at, (%s::bigint[])[place] AS key_id, (%s::bigint[])[place] AS seq,
                   (%s::bigint[])[place] AS skew_ms, (%s::bigint[])[place] AS config_age_ms,
                   (%s::int[])[place] AS active_sessions, (%s::int[])[place] AS queue_depth,
                   (%s::bigint[])[place] AS dropped_windows, (%s::bigint[])[place] AS dropped_spans,
                   (%s::boolean[])[place] AS final, (%s::bigint[])[place] AS last_window
            FROM unnest(%s::uuid[], %s::bigint[], %s::text[], %s::text[], %s::text[]) WITH ORDINALITY
                 AS each (incarnation, scope_id, config_etag, refused_etag, refused_reason, place)
        ) AS seen
        WHERE kept.incarnation = seen.incarnation AND kept.scope_id IS NOT DISTINCT FROM seen.scope_id
        RETURNING seen.place, kept.windows_before
        """,
        [
            str(max([seen.seen_at for seen in sightings])),
            *map(plain, zip(*map(_numbers, ordered), strict=True)),
            ids([seen.incarnation for seen in ordered]),
            optional([seen.scope_id for seen in ordered]),
            texts([seen.config.etag or "" for seen in ordered]),
            texts([seen.config.refused_etag or "" for seen in ordered]),
            texts([(seen.config.refused or "")[:500] for seen in ordered]),
        ],
    )
    return Touched(connection, sightings, order, cursor)


def _numbers(seen: Sighting) -> tuple[int, ...]:
    config, gauges = seen.config, seen.gauges
    return (
        seen.key_id, seen.seq, seen.skew_ms, min(config.age_ms or 0, _LONGEST_AGE_MS), seen.active_sessions, gauges.queue_depth,
        gauges.dropped_windows, gauges.dropped_spans, seen.final, seen.last_window,
    )  # fmt: skip


async def _insert(connection: AsyncConnection[Any], sightings: Sequence[Sighting]) -> None:
    """Make the rows of those that are seen for the first time."""
    await connection.execute(
        b"""
        INSERT INTO fleet_instance (incarnation, key_id, scope_id, app, host, pid, sdk, seq, clock_skew_ms, config_etag,
            refused_etag, refused_reason, active_sessions, queue_depth, dropped_windows, dropped_spans, started_at, seen_at,
            windows_acked)
        SELECT incarnation, key_id, scope_id, app, host, pid, sdk, 0, 0, '', '', '', 0, 0, 0, 0, seen_at, seen_at, 0
        FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::bigint[], %s::text[], %s::timestamptz[])
             AS seen (incarnation, key_id, scope_id, app, host, pid, sdk, seen_at)
        WHERE NOT EXISTS (SELECT FROM fleet_endedinstance AS ended WHERE ended.incarnation = seen.incarnation)
        ORDER BY incarnation
        ON CONFLICT (incarnation) DO NOTHING
        """,
        [
            ids([seen.incarnation for seen in sightings]),
            plain([seen.key_id for seen in sightings]),
            optional([seen.scope_id for seen in sightings]),
            texts([seen.app for seen in sightings]),
            texts([seen.host for seen in sightings]),
            plain([seen.pid for seen in sightings]),
            texts([seen.sdk for seen in sightings]),
            moments([seen.seen_at for seen in sightings]),
        ],
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

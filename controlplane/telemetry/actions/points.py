"""Storing points of OTLP metrics: series are made when they are first seen, cumulative ones are stored by what they add."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson
from psycopg import AsyncConnection

from controlplane.telemetry import binary
from controlplane.telemetry.actions.copying import copy_new
from controlplane.telemetry.actions.late import note_late
from controlplane.telemetry.otlp.decoding import Decoded
from controlplane.telemetry.otlp.series import Added, Exponential, PointRow, SeriesKey, State, Stream, advance

MAX_SERIES = 10_000  # of one tenant, of those that were sent within a day
MAX_KEPT = 10 * MAX_SERIES  # of one tenant, with those of instances that are long gone
_IN_USE = timedelta(days=1)
_EPOCH_US = 946_684_800 * 10**6
_FIRST_BATCHES = timedelta(seconds=30)  # in which all that a new sender has comes for the first time
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_COLUMNS = ("series_id", "at", "samples", "sum", "min", "max", "buckets", "exemplars")


class _Known(NamedTuple):
    """A series. ``unheard``: it was made now, and nothing was heard of its sender before."""

    id: int
    state: State
    unheard: bool = False


async def store(connection: AsyncConnection[Any], batches: Sequence[Decoded[PointRow]], *, now: datetime) -> None:
    """Store the points of ``batches`` in the caller's transaction; what goes beyond a tenant's series is rejected in them.

    Points of a series are taken in order of time. One that is known already, or not newer than the newest one of a cumulative
    series, changes nothing.
    """
    known = await _known(connection, {row.key.digest: row.key for batch in batches for row in batch.rows}, now)
    beyond = [
        row.key.overflowing()
        for batch in batches
        for row in batch.rows
        if row.key.digest not in known and not row.cumulative
    ]
    known |= await _known(connection, {key.digest: key for key in beyond}, now, capped=False)
    states = {digest: each.state for digest, each in known.items()}
    changed: set[bytes] = set()
    rows: dict[tuple[int, int], bytes] = {}
    for batch in batches:
        for point in sorted(batch.rows, key=lambda each: each.measure.at_ns):
            digest = point.key.digest if point.key.digest in known else point.key.overflowing().digest
            if digest not in known or (digest != point.key.digest and point.cumulative):
                batch.reject(f"the tenant {point.key.tenant!r} has more than {MAX_SERIES} series in use")
                continue
            state, added = advance(states[digest], point, unheard=known[digest].unheard)
            if state is not states[digest]:
                changed.add(digest)
            states[digest] = state
            place = (known[digest].id, point.at_us - _EPOCH_US)
            while added is not None and point.cumulative and place in rows:
                place = (place[0], place[1] + 1)  # another process's: that it is new is known
            if added is not None and place not in rows:
                rows[place] = _row(*place, added, point)
    await copy_new(
        connection, "telemetry_point", _COLUMNS, [rows[place] for place in sorted(rows)], key="series_id, at"
    )
    await _keep(connection, known, states, changed, now)
    moments = (_EPOCH + timedelta(microseconds=at_us) for _, at_us in rows)
    await note_late(connection, "points", moments, now=now)


def _row(series_id: int, at_us: int, added: Added, point: PointRow) -> bytes:
    exemplars = [each._asdict() for each in point.measure.exemplars if each.trace_id]
    return binary.row(
        binary.bigint(series_id),
        binary.bigint(at_us),
        binary.bigint(added.samples),
        binary.double(added.sum),
        binary.double(added.min),
        binary.double(added.max),
        binary.bigints(added.buckets),
        binary.json(orjson.dumps(exemplars)) if exemplars else binary.NULL,
    )


async def _known(
    connection: AsyncConnection[Any], keys: Mapping[bytes, SeriesKey], now: datetime, *, capped: bool = True
) -> dict[bytes, _Known]:
    """Return the series of ``keys``, those made that are missing as far as their tenants may have more; all are locked."""
    if not keys:
        return {}
    found = await _read(connection, keys)
    missing = [keys[digest] for digest in sorted(keys.keys() - found.keys())]
    if missing and capped:
        missing = await _within_cap(connection, missing, now)
    if missing:
        heard = await _heard(connection, missing, now)
        await _make(connection, missing, now)
        made = await _read(connection, [key.digest for key in missing])
        found |= {digest: each._replace(unheard=_sender(keys[digest]) not in heard) for digest, each in made.items()}
    return found


def _sender(key: SeriesKey) -> tuple[str, str, str]:
    """Return whose series it is: an instance of a service; without a name of an instance, the service of a tenant."""
    return ("" if key.instance else key.tenant, key.service, key.instance)


async def _heard(
    connection: AsyncConnection[Any], keys: Sequence[SeriesKey], now: datetime
) -> set[tuple[str, str, str]]:
    """Return the senders of ``keys`` that have sent other series before."""
    senders = sorted({_sender(key) for key in keys})
    cursor = await connection.execute(
        """
        SELECT * FROM unnest(%s::text[], %s::text[], %s::text[]) AS sender (tenant, service, instance)
        WHERE EXISTS (SELECT FROM telemetry_series AS known
                      WHERE known.service = sender.service AND known.instance = sender.instance
                        AND sender.tenant IN ('', known.tenant) AND known.created_at < %s)
        """,
        [*map(list, zip(*senders, strict=True)), now - _FIRST_BATCHES],
    )
    return {(tenant, service, instance) for tenant, service, instance in await cursor.fetchall()}


async def _read(connection: AsyncConnection[Any], digests: Iterable[bytes]) -> dict[bytes, _Known]:
    cursor = await connection.execute(
        "SELECT digest, id, state FROM telemetry_series WHERE digest = ANY(%s) ORDER BY id FOR NO KEY UPDATE",
        [list(digests)],
    )
    return {bytes(digest): _Known(pk, _state(state)) for digest, pk, state in await cursor.fetchall()}


async def _within_cap(connection: AsyncConnection[Any], missing: Sequence[SeriesKey], now: datetime) -> list[SeriesKey]:
    cursor = await connection.execute(
        "SELECT tenant, count(*) FILTER (WHERE seen_at >= %s), count(*) FROM telemetry_series WHERE tenant = ANY(%s) GROUP BY tenant",
        [now - _IN_USE, list({key.tenant for key in missing})],
    )
    room = {tenant: min(MAX_SERIES - used, MAX_KEPT - kept) for tenant, used, kept in await cursor.fetchall()}
    within = []
    for key in missing:
        left = room.get(key.tenant, MAX_SERIES)
        if left > 0:
            within.append(key)
            room[key.tenant] = left - 1
    return within


async def _make(connection: AsyncConnection[Any], keys: Sequence[SeriesKey], now: datetime) -> None:
    async with connection.cursor() as cursor:
        await cursor.executemany(
            """
            INSERT INTO telemetry_series (digest, tenant, name, unit, kind, monotonic, service, instance, route, model,
                                          release, attributes, bounds, created_at, seen_at)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s::float8[], %s, %s)
            ON CONFLICT (digest) DO NOTHING
            """,
            [(*key[:11], key.attributes.decode(), key.bounds, now, now) for key in keys],
        )


async def _keep(
    connection: AsyncConnection[Any],
    known: Mapping[bytes, _Known],
    states: Mapping[bytes, State],
    changed: set[bytes],
    now: datetime,
) -> None:
    """Keep where cumulative series stand, and when each was last seen, to the minute."""
    ordered = sorted(changed, key=lambda digest: known[digest].id)
    await connection.execute(
        "UPDATE telemetry_series AS series SET state = new.state::jsonb, seen_at = %s "
        "FROM unnest(%s::bigint[], %s::text[]) AS new (id, state) WHERE series.id = new.id",
        [now, [known[digest].id for digest in ordered], [_document(states[digest]) for digest in ordered]],
    )
    others = [each.id for digest, each in known.items() if digest not in changed]
    await connection.execute(
        "UPDATE telemetry_series SET seen_at = %s WHERE id = ANY(%s) AND seen_at < %s - interval '1 minute'",
        [now, others, now],
    )


def _document(state: State) -> str | None:
    return orjson.dumps([_plain(stream) for stream in state]).decode() if state else None


def _plain(stream: Stream) -> list[Any]:
    exponential = stream.exponential
    last = None if exponential is None else [exponential.scale, exponential.zero, [*exponential.counts.items()]]
    return [*stream[:5], last]


def _state(document: Any) -> State:
    if not document:
        return ()
    # Those of one stream alone were kept without a list around it.
    return tuple(_stream(each) for each in (document if isinstance(document[0], list) else [document]))


def _stream(document: Any) -> Stream:
    at_ns, start_ns, samples, total, counts, last = document
    exponential = None if last is None else Exponential(last[0], last[1], dict(last[2]))
    return Stream(at_ns, start_ns, samples, total, counts, exponential)

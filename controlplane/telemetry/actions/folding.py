"""Folding finer rollups into hours: windows of calls, and points of metrics.

An hour is computed anew from what is kept of it, so that doing it twice changes nothing, and what came late is found again: who
writes into an hour that may be over leaves its name in ``telemetry_late_hour`` in the same transaction.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import connection, transaction

from controlplane.telemetry.actions.merging import merge_statement

HOUR = timedelta(hours=1)
SETTLED = timedelta(minutes=5)  # after its end an hour is taken to be complete; what comes later is late
MOST_HOURS = 72  # in one go; a worker that was away goes on with the next
_KEYS = ("tenant", "route", "model", "category")
_COUNT = "((1::bigint << 40) - 1)"


class Folded(NamedTuple):
    """How many hours were folded, and until when all are."""

    hours: int
    until: datetime | None


def hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def closed_until(now: datetime) -> datetime:
    """Return the end of the last hour that is taken to be complete."""
    return hour_of(now - SETTLED)


_WINDOWS = merge_statement("telemetry_window_1m", "telemetry_window_1h", _KEYS)


# Packed buckets add up by index; those of explicit histograms by place, for all points of a series have the same bounds.
def _points(table: str) -> str:
    """Return SQL that adds up the points of an hour."""
    return f"""
    WITH hit AS MATERIALIZED (
        SELECT p.*, cardinality(s.bounds) > 0 AS placed, date_bin(%(step)s * interval '1 second', p.at, %(hour)s) AS slot
        FROM telemetry_point AS p JOIN telemetry_series AS s ON s.id = p.series_id
        WHERE p.at >= %(hour)s AND p.at < %(hour)s + interval '1 hour'),
    counted AS (
        SELECT series_id, slot, placed, CASE WHEN placed THEN place ELSE entry >> 40 END AS bucket,
               least(sum(CASE WHEN placed THEN entry ELSE entry & {_COUNT} END), {_COUNT})::bigint AS amount
        FROM hit, unnest(buckets) WITH ORDINALITY AS each (entry, place) GROUP BY 1, 2, 3, 4),
    merged AS (
        SELECT series_id, slot, array_agg(CASE WHEN placed THEN amount ELSE (bucket << 40) + amount END ORDER BY bucket) AS buckets
        FROM counted GROUP BY series_id, slot)
    INSERT INTO {table} (series_id, at, samples, sum, min, max, buckets, exemplars)
    SELECT hit.series_id, slot, tg_whole(sum(samples)), sum(sum), min(min), max(max), merged.buckets,
           (array_agg(exemplars ORDER BY max DESC NULLS LAST) FILTER (WHERE exemplars IS NOT NULL))[1]
    FROM hit LEFT JOIN merged USING (series_id, slot) GROUP BY hit.series_id, slot, merged.buckets"""  # noqa: S608 - as above


_AGAIN = "INSERT INTO telemetry_late_hour (kind, hour) VALUES (%s, %s) ON CONFLICT DO NOTHING"
_AFTER = {"windows": "ladder", "points": "quarters"}  # what else is made of an hour that is folded again
_FIRST = {
    "windows": "SELECT min(starts_at) FROM telemetry_window_1m",
    "points": "SELECT min(at) FROM telemetry_point",
    "quarters": "SELECT min(at) FROM telemetry_point",
}
_FOLDS = {
    "windows": (_WINDOWS, "starts_at", "telemetry_window_1h", 3600),
    "points": (_points("telemetry_point_1h"), "at", "telemetry_point_1h", 3600),
    "quarters": (_points("telemetry_point_15m"), "at", "telemetry_point_15m", 900),
}


def _fold(kind: str, hour: datetime) -> None:
    statement, column, table, step_s = _FOLDS[kind]
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {table} WHERE {column} >= %s AND {column} < %s", [hour, hour + HOUR])  # noqa: S608
        cursor.execute(statement, {"hour": hour, "step": step_s, "since": hour, "until": hour + HOUR})


def fold_hours(kind: str, *, now: datetime, kept_since: datetime) -> Folded:
    """Fold the hours of ``kind`` (``windows``, ``points`` or ``quarters`` of points) that ended since the last time, and those that got late data.

    Hours that began before ``kept_since`` are left as they are: of what they were folded from, part may be gone.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('telemetry.fold'))")
        late = _take_late(kind, kept_since)
        start = _start(kind, kept_since)
        closed = closed_until(now)
        hours = 0
        while start is not None and start < closed and hours < MOST_HOURS:
            _fold(kind, start)
            start += HOUR
            hours += 1
        for hour in late:
            if start is not None and hour < start:
                _fold(kind, hour)
                hours += 1
                if kind in _AFTER:
                    cursor.execute(_AGAIN, [_AFTER[kind], hour])
        if start is not None:
            cursor.execute(
                "INSERT INTO telemetry_fold (kind, until) VALUES (%s, %s) "
                "ON CONFLICT (kind) DO UPDATE SET until = greatest(telemetry_fold.until, excluded.until)",
                [kind, start],
            )
    return Folded(hours, start)


def _take_late(kind: str, kept_since: datetime) -> list[datetime]:
    """Take the hours that got late data. Who names one of them now waits until this transaction is over, then does."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM telemetry_late_hour WHERE kind = %s RETURNING hour", [kind])
        return sorted(row[0] for row in cursor.fetchall() if row[0] >= kept_since)


def _start(kind: str, kept_since: datetime) -> datetime | None:
    """Return the first hour that was not folded yet; ``None`` when there is nothing at all."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT until FROM telemetry_fold WHERE kind = %s", [kind])
        row = cursor.fetchone()
        if row is None:
            cursor.execute(_FIRST[kind])
            row = cursor.fetchone()
    first = row[0] if row else None
    return max(hour_of(first), hour_of(kept_since) + HOUR) if first is not None else None

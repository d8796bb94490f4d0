"""What is kept, and for how long: a partition per day for spans, made ahead and dropped whole; old windows deleted."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

import structlog
from django.db import connection, transaction

log = structlog.get_logger(__name__)

DAYS_AHEAD = 2
_PARTITION = re.compile(r"telemetry_span_(\d{4})(\d{2})(\d{2})")


def _bounds(day: date) -> tuple[datetime, datetime]:
    starts = datetime.combine(day, time(), UTC)
    return starts, starts + timedelta(days=1)


def make_partitions(*, today: date) -> list[str]:
    """Make the partitions from today on that are missing; return their names. Spans that came too early move in."""
    made = []
    for ahead in range(DAYS_AHEAD + 1):
        day = today + timedelta(days=ahead)
        name = f"telemetry_span_{day:%Y%m%d}"
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("LOCK TABLE telemetry_span IN SHARE ROW EXCLUSIVE MODE")
            cursor.execute("SELECT to_regclass(%s)", [name])
            if cursor.fetchone()[0] is not None:
                continue
            bounds = _bounds(day)
            cursor.execute(f"CREATE TABLE {name} (LIKE telemetry_span INCLUDING DEFAULTS)")
            cursor.execute(
                f"WITH moved AS (DELETE FROM telemetry_span_strays WHERE starts_at >= %s AND starts_at < %s RETURNING *) "  # noqa: S608
                f"INSERT INTO {name} SELECT * FROM moved",
                bounds,
            )
            cursor.execute(
                f"ALTER TABLE telemetry_span ATTACH PARTITION {name} FOR VALUES FROM ('{bounds[0]}') TO ('{bounds[1]}')"
            )
        made.append(name)
    return made


def drop_partitions(*, today: date, keep_days: int) -> list[str]:
    """Drop the partitions of days before the last ``keep_days``; return their names."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'telemetry_span'::regclass")
        names = [row[0] for row in cursor.fetchall()]
        old = []
        for name in names:
            match = _PARTITION.fullmatch(name)
            if match and date(int(match[1]), int(match[2]), int(match[3])) < today - timedelta(days=keep_days):
                cursor.execute(f"DROP TABLE {name}")
                old.append(name)
        cursor.execute(
            "DELETE FROM telemetry_span_strays WHERE starts_at < %s", [_bounds(today - timedelta(days=keep_days))[0]]
        )
    return old


def delete_windows(*, now: datetime, keep_hours: int) -> int:
    """Delete the windows that are older: 10-second ones after ``keep_hours``, 1-minute ones after 30 times that."""
    deleted = 0
    with connection.cursor() as cursor:
        for table, hours in (("telemetry_window_10s", keep_hours), ("telemetry_window_1m", keep_hours * 30)):
            cursor.execute(f"DELETE FROM {table} WHERE starts_at < %s", [now - timedelta(hours=hours)])  # noqa: S608
            deleted += cursor.rowcount
    return deleted

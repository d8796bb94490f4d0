"""Finding traces whose root has not arrived: a crashed process, a sampler that disagrees, a service that does not report."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import connection, transaction

LOOKS_BACK = timedelta(minutes=15)
WAITS = timedelta(seconds=45)  # a root ends, and is sent, after all that is below it


def note_rootless(*, now: datetime) -> int:
    """Note the traces of the last minutes that have no root, by the first of their spans; forget those that got theirs.

    What has been counted of these times is then counted again.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            """
            WITH found AS (INSERT INTO telemetry_rootless (trace_id, span_id, starts_at)
            SELECT DISTINCT ON (trace_id) trace_id, span_id, starts_at FROM telemetry_span AS s
            WHERE starts_at >= %s AND starts_at < %s AND parent_span_id <> '' AND NOT EXISTS (
                SELECT 1 FROM telemetry_span AS c WHERE c.trace_id = s.trace_id
                AND (c.parent_span_id = '' OR c.starts_at < %s))
            ORDER BY trace_id, starts_at ON CONFLICT DO NOTHING RETURNING starts_at)
            INSERT INTO telemetry_late_spans (since, until) SELECT starts_at, starts_at + interval '1 microsecond' FROM found
            """,
            [now - LOOKS_BACK, now - WAITS, now - LOOKS_BACK],
        )
        found = int(cursor.rowcount)
        cursor.execute(
            """
            WITH gone AS (DELETE FROM telemetry_rootless AS less WHERE starts_at >= %s AND EXISTS (
                SELECT 1 FROM telemetry_span AS c WHERE c.trace_id = less.trace_id AND c.parent_span_id = '') RETURNING starts_at)
            INSERT INTO telemetry_late_spans (since, until) SELECT starts_at, starts_at + interval '1 microsecond' FROM gone
            """,
            [now - 4 * LOOKS_BACK],
        )
    return found


def forget_rootless(*, before: datetime) -> None:
    """Forget what was noted of spans that are no longer kept."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM telemetry_rootless WHERE starts_at < %s", [before])

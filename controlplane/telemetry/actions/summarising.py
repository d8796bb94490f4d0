"""Telling BRIN of new pages: until it knows which times they have, whoever asks for any time reads all of them.

PostgreSQL does so by itself once a minute, for 256 ranges of pages at most; at thousands of spans a second that is too few.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from django.db import OperationalError, connection, transaction

from controlplane.telemetry.actions.retention import SPAN_SUMS, SPANS, Partitioned

BY_TIME: Sequence[Partitioned] = (SPANS, *(kept for kept in SPAN_SUMS if kept.table == "telemetry_trace_head"))
_BUSY = "55P03"  # lock_not_available


def summarise(*, today: date) -> int:
    """Summarise new pages of the spans of today and yesterday, and of their traces; return how many ranges. A busy table is left."""
    days = (today - timedelta(days=1), today)
    return sum(_summarised(f"{kept.table}_{day:%Y%m%d}") for kept in BY_TIME for day in days)


def _summarised(table: str) -> int:
    """Do it for one partition, unless it is being vacuumed: whoever waits longer than a second for its lock ends that."""
    sql = """SELECT coalesce(sum(brin_summarize_new_values(indexrelid)), 0) FROM pg_index JOIN pg_class AS of ON of.oid = indexrelid
             JOIN pg_am ON pg_am.oid = of.relam WHERE indrelid = to_regclass(%s) AND amname = 'brin'"""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '100ms'")
            cursor.execute(sql, [table])
            return int(cursor.fetchone()[0])
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", "") == _BUSY:
            return 0
        raise

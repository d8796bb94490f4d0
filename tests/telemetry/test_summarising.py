"""New pages of spans are summarised for their index by time."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg
import pytest
from django.db import connection

from controlplane.telemetry.actions import summarising
from controlplane.telemetry.actions.retention import make_partitions
from controlplane.telemetry.models import Span

NOW = datetime(2031, 11, 25, 7, 3, 27, tzinfo=UTC)


def _blocks_read() -> int:
    """Return how many blocks are read for a time that has no span."""
    sql = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT 1 FROM telemetry_span_20311125 WHERE starts_at < %s"
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off")
        cursor.execute(sql, [NOW.replace(hour=3)])
        return int(cursor.fetchone()[0][0]["Plan"]["Shared Hit Blocks"])


def test_summarise__new_pages_of_today__are_no_longer_read_for_other_times(db: None) -> None:
    make_partitions(today=NOW.date())
    Span.objects.bulk_create(
        Span(trace_id=f"{n:032x}", span_id=f"{n:016x}", starts_at=NOW, duration_us=5, tenant="acme", service="s", name="n" * 200, kind=1, status=1)
        for n in range(3000)
    )  # fmt: skip
    before = _blocks_read()

    done = summarising.summarise(today=NOW.date())

    assert done > 1
    assert before > 60
    assert _blocks_read() < 10
    assert summarising.summarise(today=NOW.date()) == 0


@pytest.mark.django_db(transaction=True)
def test_summarise__a_table_that_is_being_vacuumed__is_left() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        (name,) = cursor.fetchone()
    kept = connection.settings_dict
    address = {"host": kept["HOST"], "port": kept["PORT"], "user": kept["USER"], "password": kept["PASSWORD"] or None}
    with psycopg.connect(dbname=name, **address) as other:
        other.execute("LOCK TABLE telemetry_span_strays IN SHARE UPDATE EXCLUSIVE MODE")

        assert summarising._summarised("telemetry_span_strays") == 0

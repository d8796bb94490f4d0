"""Exports: the same rows as CSV and Parquet, scoped, a few at a time, in bounded memory, ended when the reader leaves."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pyarrow.parquet as parquet
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection, connections
from django.test import AsyncClient

from controlplane.problems import Invalid, Unavailable
from controlplane.telemetry import exporting, exports
from controlplane.telemetry.exporting import Format, Statement, blocks_of, response
from controlplane.telemetry.models import CallWindow1m, Span
from controlplane.telemetry.queries import Question, TraceFilter
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.actions.tokens import create_token
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import SYSTEM, Asker
from tidegate.core.window import Distribution

pytestmark = pytest.mark.django_db(transaction=True)
NOW = datetime(2026, 11, 25, 14, 0, 0, 123456, tzinfo=UTC)
SINCE, UNTIL = NOW - timedelta(minutes=5), NOW + timedelta(minutes=5)


def span(number: int, tenant: str = "acme", **more: Any) -> Span:
    fields = {
        "trace_id": f"{number // 2:032x}", "span_id": f"{number:016x}", "parent_span_id": "" if number % 2 == 0 else f"{number - 1:016x}",
        "starts_at": NOW + timedelta(milliseconds=number), "duration_us": 1000 + number, "tenant": tenant, "service": "s", "name": "n",
        "kind": 1, "status": 0, **more,
    }  # fmt: skip
    return Span(**fields)


def taken(statement: Statement, form: Format) -> bytes:
    async def read() -> bytes:
        return b"".join([block async for block in blocks_of(statement, form)])

    return asyncio.run(read())


def rows_of(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode())))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "RESTS", 0.0)


def test_spans__csv_and_parquet__hold_the_same_rows() -> None:
    odd = {"quote": 'a "b", c', "line": "one\ntwo", "n": 3}
    Span.objects.bulk_create(
        [span(0, attributes=odd, status_message=""), span(1, input_tokens=7, model="m, x"), span(2, name="ünï\r\n")]
    )
    statement = exports.spans_seen_by(SYSTEM, TraceFilter(), SINCE, UNTIL)

    as_csv = rows_of(taken(statement, "csv"))
    table = parquet.read_table(io.BytesIO(taken(statement, "parquet"))).to_pylist()

    assert [row["span_id"] for row in as_csv] == [row["span_id"] for row in table] == [f"{n:016x}" for n in range(3)]
    assert json.loads(as_csv[0]["attributes"]) == json.loads(table[0]["attributes"]) == odd
    assert table[0]["starts_at"] == NOW
    assert (table[1]["input_tokens"], table[0]["input_tokens"]) == (7, None)
    assert (table[0]["status_message"], table[1]["model"], table[2]["name"]) == ("", "m, x", "ünï\r\n")


def test_spans__a_filter__takes_all_spans_of_the_traces_that_fit() -> None:
    Span.objects.bulk_create([span(0), span(1, model="m"), span(2), span(3, model="other")])

    statement = exports.spans_seen_by(SYSTEM, TraceFilter(model="m"), SINCE, UNTIL)

    assert [row["span_id"] for row in rows_of(taken(statement, "csv"))] == [f"{n:016x}" for n in range(2)]


def test_exports__another_tenants_asker__gets_only_theirs() -> None:
    globex = Asker(name="g", role=Role.VIEWER, tenant=create_tenant(by=SYSTEM, slug="globex", name="Globex"))
    Span.objects.bulk_create([span(0), span(2, tenant="globex")])
    asked = Question(SINCE, UNTIL, 60)
    for tenant in ("acme", "globex"):
        CallWindow1m.objects.create(starts_at=NOW, tenant=tenant, route="r", model="m", category="", calls=1)

    spans = rows_of(taken(exports.spans_seen_by(globex, TraceFilter(), SINCE, UNTIL), "csv"))
    windows = rows_of(taken(exports.windows_seen_by(globex, asked, "1m"), "csv"))

    assert [row["tenant"] for row in spans] == ["globex"]
    assert [row["tenant"] for row in windows] == ["globex"]


def test_windows__a_distribution__is_told_by_its_percentiles() -> None:
    spread = Distribution()
    spread.add_all(list(range(1000, 101_000, 1000)))
    CallWindow1m.objects.create(
        starts_at=NOW, tenant="acme", route="r", model="m", category="", calls=100, latency_us=spread.packed()
    )

    (row,) = parquet.read_table(
        io.BytesIO(taken(exports.windows_seen_by(SYSTEM, Question(SINCE, UNTIL, 60), "1m"), "parquet"))
    ).to_pylist()

    assert (row["latency_us_count"], row["latency_us_max"], row["tokens_count"], row["tokens_p99"]) == (
        100,
        100_000,
        None,
        None,
    )
    assert row["latency_us_p50"] == pytest.approx(50_000, rel=0.006)
    assert row["latency_us_p99"] == pytest.approx(99_000, rel=0.006)


def test_exports__a_time_too_long__are_refused() -> None:
    with pytest.raises(Invalid):
        exports.spans_seen_by(SYSTEM, TraceFilter(), NOW - timedelta(days=500), NOW)


def test_response__too_many_at_once__are_refused_and_an_unread_one_gives_its_place_back() -> None:
    statement = Statement("SELECT 1", [])
    going = [response(statement, "csv", "x") for _ in range(exporting.MOST_AT_ONCE)]

    with pytest.raises(Unavailable):
        response(statement, "csv", "x")

    going[0].close()
    going[0].close()
    going[0] = response(statement, "csv", "x")
    with pytest.raises(Unavailable):
        response(statement, "csv", "x")
    for each in going:
        each.close()


MANY = Statement("SELECT n, repeat(md5(n::text), 8) AS said FROM generate_series(1, %s) AS n", [200_000])  # 50 MB


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_blocks__fifty_megabytes__are_never_in_memory_together(form: Format) -> None:
    async def read() -> int:
        return sum([len(block) async for block in blocks_of(MANY, form)])

    tracemalloc.start()
    try:
        size = asyncio.run(read())
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert size > 10**6
    assert most < 40_000_000


def exporting_backends() -> int:
    with psycopg.connect(settings.DATABASE_URL) as looking:
        row = looking.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tidegate export' AND datname = current_database()"
        ).fetchone()
        return int(row[0]) if row else 0


def test_blocks__the_reader_leaves__the_server_stops_reading() -> None:
    async def leave() -> None:
        blocks: AsyncIterator[bytes] = blocks_of(MANY, "csv")
        await anext(blocks)
        assert await sync_to_async(exporting_backends)() == 1
        await blocks.aclose()  # type: ignore[attr-defined]  # it is a generator
        for _ in range(200):
            if await sync_to_async(exporting_backends)() == 0:
                return
            await asyncio.sleep(0.05)

    asyncio.run(leave())

    assert exporting_backends() == 0


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let exports read the database of the tests."""
    name = connection.settings_dict["NAME"]
    monkeypatch.setattr(settings, "DATABASE_URL", settings.DATABASE_URL.rsplit("/", 1)[0] + f"/{name}")
    yield
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE telemetry_span")  # which the ORM does not manage


async def test_api__asked_for_parquet__streams_a_file() -> None:
    def token() -> str:
        return create_token(by=SYSTEM, name="export", role="viewer")[1]

    def make() -> None:
        Span.objects.bulk_create([span(0), span(1)])

    await sync_to_async(make)()
    query = f"since={SINCE:%Y-%m-%dT%H:%M:%SZ}&until={UNTIL:%Y-%m-%dT%H:%M:%SZ}&format=parquet"
    headers = {"authorization": f"Bearer {await sync_to_async(token)()}"}

    answer = await AsyncClient().get(f"/api/v1/traces/export?{query}", headers=headers)
    data = b"".join([block async for block in answer.streaming_content])  # type: ignore[attr-defined]
    wrong = await AsyncClient().get("/api/v1/metrics/export?since=x&until=y", headers=headers)

    await sync_to_async(answer.close)()
    await sync_to_async(connections.close_all)()

    assert answer["Content-Type"] == "application/vnd.apache.parquet"
    assert parquet.read_table(io.BytesIO(data)).num_rows == 2
    assert wrong.status_code == 422

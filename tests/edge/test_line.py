"""The line along which groups of syncs are written: what it reads, in which order it sends, and what is left of a transaction that fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections

from controlplane.edge.line import Line
from controlplane.tenancy.models import Tenant

ADD = b"INSERT INTO tenancy_tenant (slug, name, lineage, is_demo) SELECT slug, slug, '{}', false FROM unnest(%s::text[]) AS new (slug)"


def nobody() -> None:
    """Nobody waits for a transaction to be sent."""


async def rest() -> None:
    """There is nothing more to be done in the transaction."""


async def add(line: Line, *slugs: str, then: Callable[[], Awaitable[None]] = rest) -> None:
    """Add tenants one by one, and do something else, in one transaction."""
    async with line.transaction(nobody) as link:
        for slug in slugs:
            await link.execute(ADD, [f"{{{slug}}}"])
        await then()


@pytest.fixture
async def line(database_url: str) -> AsyncIterator[Line]:
    line = Line()
    yield line
    await line.close()
    await sync_to_async(connections.close_all)()


def test_psycopg__of_another_kind_than_the_line_is_made_for__is_noticed() -> None:
    """A line uses ``_pipeline``, ``command_queue``, ``result_queue``, ``_fetch_gen``, ``_enqueue_sync`` and ``PostgresQuery``."""
    assert psycopg.__version__.startswith("3.3."), (
        "look at controlplane/edge/line.py: are they still what it takes them for?"
    )


async def test_statements__of_texts__are_answered_with_values_of_their_types(line: Line) -> None:
    async with line.transaction(nobody) as link:
        asked = await link.execute(
            b"SELECT %s::bigint, %s::uuid, %s::timestamptz, %s::bigint[], %s::text, %s::boolean",
            ["7", "0" * 31 + "1", "2026-01-02 03:04:05+00", "{1,2}", None, "t"],
        )
        nothing = await link.execute(b"SELECT 1 WHERE false")
        rows, none = await asked.fetchall(), await nothing.fetchall()

    assert rows == [(7, UUID(int=1), datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), [1, 2], None, True)]
    assert none == []


async def test_statements__some_not_of_texts__are_sent_in_their_order(line: Line) -> None:
    async with line.transaction(nobody) as link:
        await link.execute(ADD, ["{one}"])
        await link.execute("UPDATE tenancy_tenant SET name = 'first' WHERE slug = ANY(%s)", [["one"]])
        await link.execute(ADD, ["{two}"])
        found = await link.execute(b"SELECT slug, name FROM tenancy_tenant WHERE slug IN ('one', 'two') ORDER BY slug")
        rows = await found.fetchall()

    assert rows == [("one", "first"), ("two", "two")]


async def test_transaction__ended__was_sent_once_and_is_seen_by_others(line: Line) -> None:
    sent: list[bool] = []
    for slug in ("{one}", "{two}"):
        async with line.transaction(lambda: sent.append(True)) as link:
            await link.execute(ADD, [slug])

    assert sent == [True, True]
    assert await Tenant.objects.filter(slug__in=["one", "two"]).acount() == 2


async def test_transaction__a_statement_fails__nothing_of_it_is_kept_and_the_next_one_is_whole(line: Line) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation):
        await add(line, "one", "one", "two")
    kept = line.is_open
    await add(line, "three")

    assert not kept
    assert [tenant.slug async for tenant in Tenant.objects.filter(slug__in=["one", "two", "three"])] == ["three"]


async def test_transaction__its_block_fails__nothing_of_it_is_kept(line: Line) -> None:
    async def think() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await add(line, "one", then=think)

    assert not await Tenant.objects.filter(slug="one").aexists()


async def test_transaction__the_connection_was_lost__fails_and_the_next_one_is_written(line: Line) -> None:
    async with line.transaction(nobody) as link:
        me = await (await link.execute(b"SELECT pg_backend_pid()")).fetchall()
    await sync_to_async(_end)(me[0][0])

    with pytest.raises(psycopg.OperationalError):
        await add(line, "one")
    await add(line, "two")

    assert [tenant.slug async for tenant in Tenant.objects.filter(slug__in=["one", "two"])] == ["two"]


def _end(pid: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])


async def test_transaction__waited_for__is_durable_when_it_has_ended_though_its_locks_went_before(line: Line) -> None:
    await add(line, "one")
    async with line.transaction(nobody) as link:
        await link.execute(ADD, ["{two}"])
        said = await link.execute(b"SELECT current_setting('synchronous_commit'), pg_current_wal_insert_lsn()::text")
        ((lets_go, before),) = await said.fetchall()

    durable = await sync_to_async(_flushed_beyond)(before)
    assert (lets_go, durable) == ("off", True)


async def test_statements__a_table_has_grown_since_they_were_planned__are_planned_anew(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = b"SELECT grown.id FROM unnest(%s::bigint[]) AS wanted (id) JOIN grown USING (id)"
    async with line.transaction(nobody) as link:
        await link.execute("CREATE TEMP TABLE grown (id bigint PRIMARY KEY)")
        await link.execute("INSERT INTO grown VALUES (1)")
        await link.execute("ANALYZE grown")
        await link.execute(ask, ["{1}"])
        named = b"SELECT name FROM pg_prepared_statements WHERE statement LIKE %s"
        ((name,),) = await (await link.execute(named, ["SELECT grown.id%"])).fetchall()

    async def plan() -> str:
        async with line.transaction(nobody) as link:
            lines = await (await link.execute(f"EXPLAIN (COSTS off) EXECUTE {name}('{{1}}')")).fetchall()
        return " ".join(str(each[0]) for each in lines)

    before = await plan()
    async with line.transaction(nobody) as link:
        await link.execute("INSERT INTO grown SELECT generate_series(2, 5000)")
    kept = await plan()
    monkeypatch.setattr("controlplane.edge.line._PLANS_LAST_S", 0.0)

    assert "Join Filter" in before  # the whole index, for each row that is asked for
    assert kept == before
    assert "Join Filter" not in await plan()


def _flushed_beyond(place: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_wal_flush_lsn() > %s::pg_lsn", [place])
        return bool(cursor.fetchone()[0])

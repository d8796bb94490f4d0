"""Indexes of full tables are made while others write, and again after somebody was interrupted."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest
from django.apps import apps
from django.db import IntegrityError, connection, connections

from controlplane.indexes import concurrently

pytestmark = pytest.mark.django_db(transaction=True)
TABLE, NAME = "things_by_day", "things_by_name"


@pytest.fixture
def parts() -> Iterator[list[str]]:
    """A partitioned table with rows in each of its three partitions."""
    names = [f"{TABLE}_1", f"{TABLE}_2", f"{TABLE}_strays"]
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TABLE {TABLE} (day int, name text) PARTITION BY RANGE (day);"
            f"CREATE TABLE {names[0]} PARTITION OF {TABLE} FOR VALUES FROM (1) TO (2);"
            f"CREATE TABLE {names[1]} PARTITION OF {TABLE} FOR VALUES FROM (2) TO (3);"
            f"CREATE TABLE {names[2]} PARTITION OF {TABLE} DEFAULT;"
            f"INSERT INTO {TABLE} SELECT n % 4, 'thing' FROM generate_series(1, 100) AS n"
        )
        yield names
        cursor.execute(f"DROP TABLE {TABLE}")


def make(table: str = TABLE) -> None:
    with connection.schema_editor(atomic=False) as editor:
        concurrently(NAME, table, "(name) WHERE day > 0").code(apps, editor)  # type: ignore[arg-type]  # it looks at none of them


def indexes() -> dict[str, bool]:
    """Return which tables have the index, and whether it is valid."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indrelid::regclass::text, indisvalid FROM pg_index WHERE indrelid::regclass::text LIKE %s",
            [f"{TABLE}%"],
        )
        return dict(cursor.fetchall())


def test_concurrently__a_partitioned_table__every_partition_has_it_and_so_will_new_ones(parts: list[str]) -> None:
    make()
    make()
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {TABLE}_9 PARTITION OF {TABLE} FOR VALUES FROM (9) TO (10)")

    assert indexes() == dict.fromkeys([TABLE, *parts, f"{TABLE}_9"], True)


def test_concurrently__a_plain_table__has_it(parts: list[str]) -> None:
    make(parts[0])

    assert indexes() == {parts[0]: True}


def test_concurrently__somebody_was_interrupted__goes_on(parts: list[str]) -> None:
    make()
    with connection.cursor() as cursor:
        cursor.execute(f"DROP INDEX {NAME}")
    with connection.cursor() as cursor, contextlib.suppress(IntegrityError):
        cursor.execute(f"CREATE UNIQUE INDEX CONCURRENTLY {NAME} ON {parts[0]} (name)")
    assert indexes() == {parts[0]: False}

    make(parts[0])

    assert indexes() == {parts[0]: True}


def test_concurrently__somebody_is_writing__others_write_meanwhile(
    parts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlplane.indexes.PATIENCE", "20ms")
    slow, quick = connections["default"].copy(), connections["default"].copy()

    def make_and_leave() -> None:
        make()
        connections.close_all()

    making = threading.Thread(target=make_and_leave)
    try:
        with slow.cursor() as writes, quick.cursor() as writes_too:
            writes.execute(f"BEGIN; INSERT INTO {TABLE} VALUES (1, 'slow')")
            making.start()
            for _ in range(50):
                writes_too.execute(f"INSERT INTO {TABLE} VALUES (2, 'quick')")
            unfinished = making.is_alive()
            writes.execute("COMMIT")
            making.join(60)
    finally:
        slow.close()
        quick.close()

    assert unfinished
    assert indexes() == dict.fromkeys([TABLE, *parts], True)

"""The database's own functions and tables, as migrated."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.db import connection


@pytest.mark.django_db
def test_migrations__models_as_written__nothing_left_to_make() -> None:
    call_command("makemigrations", "--check", "--dry-run")


@pytest.mark.django_db
def test_tg_dist_merge__overlapping_buckets__sums_counts_and_keeps_extremes() -> None:
    left, right = [2, 30, 10, 20, (5 << 40) + 1, (9 << 40) + 1], [1, 40, 40, 40, (9 << 40) + 1]

    with connection.cursor() as cursor:
        cursor.execute("SELECT tg_dist_merge(%s::bigint[], %s::bigint[])", [left, right])
        (merged,) = cursor.fetchone()

    assert merged == [3, 70, 10, 40, (5 << 40) + 1, (9 << 40) + 2]


@pytest.mark.django_db
def test_tg_counts_merge__two_objects__adds_what_both_have() -> None:
    with connection.cursor() as cursor:
        cursor.execute("""SELECT tg_counts_merge('{"a": 1, "b": 2}', '{"b": 3}')::text""")
        (merged,) = cursor.fetchone()

    assert merged == '{"a": 1, "b": 5}'

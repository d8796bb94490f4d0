"""Array literals, read back by PostgreSQL itself."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from controlplane import columns

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
MOMENTS = st.integers(0, 4_000_000_000_000_000).map(
    lambda us: datetime.fromtimestamp(us // 10**6, UTC).replace(microsecond=us % 10**6)
)


def read_back(literal: str, kind: str) -> object:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT %s::{kind}[]", [literal])
        row = cursor.fetchone()
    assert row is not None
    return row[0]


class LiteralsTest(TestCase):
    @settings(max_examples=50, deadline=None)
    @given(st.lists(TEXTS))
    def test_texts__any__come_back(self, values: list[str]) -> None:
        assert read_back(columns.texts(values), "text") == values

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.integers(-(2**63), 2**63 - 1)))
    def test_plain__whole_numbers__come_back(self, values: list[int]) -> None:
        assert read_back(columns.plain(values), "bigint") == values

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.none() | MOMENTS))
    def test_moments__any__come_back(self, values: list[datetime | None]) -> None:
        assert read_back(columns.moments(values), "timestamptz") == values


@pytest.mark.django_db
def test_plain__ids_and_truth__come_back() -> None:
    ids = [UUID(int=1), UUID(int=2)]

    assert read_back(columns.plain(ids), "uuid") == ids
    assert read_back(columns.plain([True, False]), "boolean") == [True, False]
    assert read_back(columns.optional([1, None]), "bigint") == [1, None]

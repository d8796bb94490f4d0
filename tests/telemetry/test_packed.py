"""Packed buckets as PostgreSQL sends them."""

from __future__ import annotations

import pytest

from controlplane.telemetry.packed import Packed
from controlplane.telemetry.patience import packed_rows

pytestmark = pytest.mark.django_db
MUCH = (1 << 40) - 1


def _entries(*buckets: tuple[int, int]) -> list[int]:
    return [(bucket << 40) + amount for bucket, amount in buckets]


@pytest.mark.parametrize(
    "entries",
    [
        _entries((7, 1)),
        _entries((-70, 3), (-1, 1), (0, 4), (1, 2**31), (1300, 2**32 - 1)),
        _entries((-70, 3), (0, 2**32), (5, MUCH)),
    ],
    ids=["one", "below one", "more than 32 bits"],
)
def test_packed_rows__buckets__say_the_same_as_numbers_would(entries: list[int]) -> None:
    ((sent,),) = packed_rows("SELECT %s::bigint[]", [entries])
    plain = Packed(entries)

    assert sent
    assert len(sent) == len(plain)
    ((again,),) = packed_rows("SELECT %s::bigint[]", [entries])
    assert again.tails() == plain.tails()  # before its entries were looked at
    assert sent.seen == plain.seen
    assert list(sent.entries) == entries
    assert sent.tails() == plain.tails()


def test_packed_rows__nothing_in_an_array__is_false() -> None:
    ((empty, missing, shorter, text),) = packed_rows(
        "SELECT '{}'::bigint[], NULL::bigint[], ('{1,2,3}'::bigint[])[4:], 'a'", []
    )

    assert not empty
    assert not shorter
    assert missing is None
    assert text == "a"
    assert list(empty.entries) == []


def test_packed_rows__nulls_in_an_array__are_kept() -> None:
    (((found,)),) = packed_rows("SELECT ARRAY[5, NULL, 7]::bigint[]", [])

    assert list(found.entries) == [5, None, 7]


def test_packed_rows__a_part_of_an_array__begins_with_its_first() -> None:
    ((found,),) = packed_rows("SELECT (%s::bigint[])[5:]", [[3, 30, 1, 20, *_entries((7, 1), (9, 2))]])

    assert list(found.entries) == _entries((7, 1), (9, 2))
    assert found.seen == [0, 1, 3]

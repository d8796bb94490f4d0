"""Labels of changes on a course: in two rows, none over another."""

from __future__ import annotations

from dashboard.courses import FIRST_ROW, SECOND_ROW, Mark, apart


def _mark(x: float, text: str, anchor: str = "start") -> Mark:
    return Mark(x, FIRST_ROW, text, anchor)


def test_apart__labels_that_touch__stand_in_two_rows_and_a_third_is_left_out() -> None:
    placed = apart([_mark(100, "policy r1"), _mark(110, "policy r2"), _mark(120, "policy r3"), _mark(400, "r4")])

    assert [(mark.x, mark.y, mark.text) for mark in placed] == [
        (100, FIRST_ROW, "policy r1"),
        (110, SECOND_ROW, "policy r2"),
        (120, FIRST_ROW, ""),
        (400, FIRST_ROW, "r4"),
    ]


def test_apart__label_to_the_left_of_its_line__keeps_clear_of_the_one_before() -> None:
    placed = apart([_mark(560, "policy r1"), _mark(600, "demo 1.1.0: rolled back", "end")])

    assert [mark.y for mark in placed] == [FIRST_ROW, SECOND_ROW]

"""Labels of changes on a course: in two rows, none over another."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controlplane.policy.models import Revision
from controlplane.tenancy.queries import SYSTEM
from dashboard.asking import Asking
from dashboard.budget_course import course_of
from dashboard.courses import FIRST_ROW, SECOND_ROW, Mark, apart
from tests.dashboard.world import World


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


@pytest.mark.parametrize(("subject", "drawn"), [("acme/support", 1), ("acme/other", 0)])
def test_budget_course__changes_of_budgets__its_own_is_drawn_and_no_others(
    subject: str, drawn: int, world: World
) -> None:
    asking = Asking(SYSTEM, world.now)
    standing = next(each for each in asking.standings if each.budget.name == "acme/support")
    before = course_of(asking, standing)
    Revision.objects.create(
        at=world.now - timedelta(days=1),
        actor="x",
        kind="budget",
        subject=subject,
        summary="",
        tenant=world.tenants["acme"],
    )

    after = course_of(asking, standing)

    assert before is not None
    assert after is not None
    assert sum(mark.text.startswith("budget r") for mark in after.events) == drawn
    assert len(after.events) - len(before.events) == drawn
    assert {mark.y for mark in after.events} <= {FIRST_ROW}

"""Labels of changes on a course: in two rows, none over another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from controlplane.policy.models import Revision
from controlplane.telemetry.queries import Point
from controlplane.tenancy.queries import SYSTEM
from dashboard.asking import Asking
from dashboard.budget_course import course_of
from dashboard.courses import FIRST_ROW, SECOND_ROW, Mark, apart, outcome_course, steps_of
from dashboard.page import RANGES
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


NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "past_s", "lengths"),
    [
        ("24h", 59, [900.0]),  # of what has just begun nothing is told
        ("24h", 60, [900.0, 60.0]),
        ("24h", 450, [900.0, 450.0]),
        ("24h", 900, [900.0, 900.0]),
        ("1h", 59, [60.0]),
        ("5m", 9, [10.0]),
    ],
)
def test_steps_of__last_one_is_not_over__is_as_long_as_it_is_so_far(
    name: str, past_s: int, lengths: list[float]
) -> None:
    chosen = RANGES[name]
    course = [Point(at=NOON - timedelta(seconds=chosen.step_s)), Point(at=NOON)]

    steps = steps_of(course, chosen, NOON + timedelta(seconds=past_s))

    assert [step.length_s for step in steps] == lengths


def test_outcome_course__first_calls_of_a_day__are_drawn_before_their_step_is_over() -> None:
    course = [Point(at=NOON - timedelta(minutes=15)), Point(at=NOON, calls=600)]

    drawn = outcome_course(course, RANGES["24h"], NOON + timedelta(seconds=300), [])

    assert drawn is not None
    assert [mark.text for mark in drawn.grid][-1] == "2/s"

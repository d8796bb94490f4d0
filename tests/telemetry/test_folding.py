"""Hours out of minutes: the same sums and spreads, twice as well as once, and what came late."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from controlplane.telemetry import queries
from controlplane.telemetry.actions import folding, retention
from controlplane.telemetry.models import CallWindow1h, CallWindow1m, Fold, LateHour, Point, PointHour, Series, Span
from controlplane.tenancy.queries import SYSTEM
from tidegate.core.window import Distribution, quantile

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 25, 14, 20, tzinfo=UTC)
KEPT = NOW - timedelta(days=30)
NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def packed(*values: int) -> list[int]:
    made = Distribution()
    for value in values:
        made.add(value)
    return made.packed()


def minute(at: datetime, tenant: str = "acme", **more: Any) -> None:
    CallWindow1m.objects.create(starts_at=at, tenant=tenant, route="chat", model="m", category="c", **more)


def fold(kind: str = "windows", now: datetime = NOW) -> folding.Folded:
    return folding.fold_hours(kind, now=now, kept_since=KEPT)


def rows() -> list[tuple[Any, ...]]:
    return list(
        CallWindow1h.objects.order_by("starts_at", "tenant").values_list("starts_at", "tenant", "calls", "latency_us")
    )


def test_fold__minutes_of_two_hours__add_up_by_hour_and_tenant() -> None:
    values = list(range(1000, 61000, 1000))
    for number, value in enumerate(values):
        minute(NOON + timedelta(minutes=number), calls=1, kinds={"error.timeout": 2}, latency_us=packed(value))
    minute(NOON + timedelta(minutes=61), calls=5)
    minute(NOON, tenant="globex", calls=7, latency_us=packed(5, 6))

    folded = fold()

    first, other, second = rows()
    assert folded == (2, NOON + timedelta(hours=2))
    assert (first[2], other[2], second[2]) == (60, 7, 5)
    assert first[3] == packed(*values)
    assert second[3] == []
    assert CallWindow1h.objects.get(starts_at=NOON, tenant="acme").kinds == {"error.timeout": 120}


def test_fold__again__changes_nothing() -> None:
    minute(NOON, calls=3, latency_us=packed(9))
    fold()
    before = rows()

    folding._fold("windows", NOON)
    again = fold()

    assert again.hours == 0
    assert rows() == before


def test_fold__an_hour_that_is_not_over__waits() -> None:
    minute(NOON, calls=3)

    early = fold(now=NOON + timedelta(minutes=64))
    later = fold(now=NOON + timedelta(minutes=66))

    assert (early.hours, later.hours) == (0, 1)


def test_fold__late_data__fold_their_hour_again() -> None:
    minute(NOON, calls=3)
    fold()
    minute(NOON + timedelta(minutes=1), calls=4)
    LateHour.objects.create(kind="windows", hour=NOON)

    fold()

    assert [row[2] for row in rows()] == [7]
    assert not LateHour.objects.filter(kind="windows").exists()


def test_fold__late_data_of_hours_whose_minutes_are_gone__leave_them_as_they_are() -> None:
    old = KEPT - timedelta(hours=5)
    CallWindow1h.objects.create(starts_at=folding.hour_of(old), tenant="acme", route="", model="", category="", calls=9)
    LateHour.objects.create(kind="windows", hour=folding.hour_of(old))
    Fold.objects.create(kind="windows", until=NOON)

    fold()

    assert [row[2] for row in rows()] == [9]


def test_fold__after_a_long_stop__catches_up_in_steps() -> None:
    for hours in range(100):
        minute(NOON - timedelta(hours=hours), calls=1)

    steps = [fold().hours for _ in range(3)]

    assert steps[0] == folding.MOST_HOURS
    assert sum(steps) == 101  # up to the end of the last hour that is over
    assert sum(row[2] for row in rows()) == 100


def test_figures__of_a_week__come_from_hours_and_the_minutes_since() -> None:
    for hours in range(5):
        minute(NOON - timedelta(hours=hours), calls=10, latency_us=packed(1000 * (hours + 1)))
    fold(now=NOON + timedelta(minutes=10))
    CallWindow1m.objects.filter(starts_at__lt=NOON - timedelta(hours=1)).delete()

    told = queries.figures(SYSTEM, NOON - timedelta(days=7), NOON + timedelta(minutes=5))

    assert (told.calls, told.latency_us.count, told.latency_us.max) == (50, 5, 5000)


def series(**more: Any) -> Series:
    fields = {"tenant": "acme", "name": "took", "unit": "s", "kind": "histogram", "monotonic": True, "service": "", "instance": "",
              "route": "", "model": "", "release": "", "digest": bytes(16)}  # fmt: skip
    return Series.objects.create(**{**fields, **more})


def test_fold__points_of_explicit_histograms__add_up_by_place() -> None:
    one = series(bounds=[0.5, 1.0])
    for place in range(3):
        Point.objects.create(
            series=one, at=NOON + timedelta(minutes=place), samples=3, sum=1.5, max=place, buckets=[1, 2, 0]
        )

    fold("points")

    hour = PointHour.objects.get()
    assert (hour.samples, hour.sum, hour.max, hour.buckets) == (9, 4.5, 2.0, [3, 6, 0])


def test_fold__points_of_exponential_histograms_and_numbers__add_up() -> None:
    one, other = series(kind="exponential"), series(kind="sum", digest=b"x" * 16)
    for place, entry in enumerate([(-5 << 40) + 2, (7 << 40) + 1, (-5 << 40) + 3]):
        Point.objects.create(series=one, at=NOON + timedelta(minutes=place), samples=1, sum=1, buckets=[entry])
        Point.objects.create(series=other, at=NOON + timedelta(minutes=place), samples=1, sum=2)

    fold("points")

    assert PointHour.objects.get(series=one).buckets == [(-5 << 40) + 5, (7 << 40) + 1]
    assert PointHour.objects.get(series=other).sum == 6.0
    assert quantile([1, 5, 5, 5, (149 << 40) + 1], 0.5) == 5


@pytest.mark.parametrize(
    ("kind", "bounds", "buckets"),
    [
        ("histogram", [0.5, 1.0, 4.0], [3, 1, 2, 4]),
        ("exponential", [], [(-5 << 40) + 2, (70 << 40) + 8]),
        ("gauge", [], None),
    ],
)
def test_courses__from_quarters_of_points__are_those_of_points(
    kind: str, bounds: list[float], buckets: list[int] | None
) -> None:
    def told() -> list[queries.Course]:
        metric = queries.metric_seen_by(SYSTEM, "took")
        return [
            queries.course_seen_by(
                SYSTEM, metric, queries.Question(NOON - timedelta(hours=3), NOON + folding.HOUR, step_s, by)
            )
            for by in ("", "tenant", "instance")
            for step_s in (900, 3600)
        ]

    every = [
        series(kind=kind, bounds=bounds, digest=bytes([number]) * 16, tenant=f"t{number % 2}", instance=str(number))
        for number in range(4)
    ]
    for number, one in enumerate(every):
        for minutes in range(0, 235, 5):
            at = NOON - timedelta(hours=3) + timedelta(minutes=minutes)
            samples = sum(entry & 255 for entry in buckets) if buckets else 1
            Point.objects.create(
                series=one, at=at, samples=samples, sum=number + 0.5, min=0.25, max=8.0, buckets=buckets
            )
    plain = told()

    folding.fold_hours("quarters", now=NOON + timedelta(minutes=7), kept_since=KEPT)
    folding.fold_hours("quarters", now=NOON + timedelta(minutes=7), kept_since=KEPT)

    if kind != "gauge":  # levels are read from points
        Point.objects.filter(at__lt=NOON).delete()
    assert told() == plain
    assert all(course.lines for course in plain)


def test_fold__late_points__are_in_hours_and_in_quarters() -> None:
    one = series(kind="sum")
    Point.objects.create(series=one, at=NOON, samples=1, sum=2)
    for kind in ("points", "quarters"):
        fold(kind)
    Point.objects.create(series=one, at=NOON + timedelta(minutes=20), samples=1, sum=5)
    LateHour.objects.create(kind="points", hour=NOON)

    for kind in ("points", "quarters"):
        fold(kind)

    with connection.cursor() as cursor:
        cursor.execute("SELECT at, sum FROM telemetry_point_15m ORDER BY at")
        assert cursor.fetchall() == [(NOON, 2), (NOON + timedelta(minutes=15), 5)]
    assert PointHour.objects.get().sum == 7
    assert not LateHour.objects.exists()


def partitions(table: str) -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass", [table])
        return {row[0] for row in cursor.fetchall()}


def test_partitions__made_ahead_and_dropped_whole__by_day_and_by_month() -> None:
    Span.objects.create(
        trace_id="a" * 32, span_id="b" * 16, starts_at=datetime(2031, 1, 31, 12, tzinfo=UTC), duration_us=1, tenant="", service="",
        name="n", kind=1, status=0,
    )  # fmt: skip

    made = retention.make_partitions(today=date(2031, 1, 31))
    again = retention.make_partitions(today=date(2031, 1, 31))

    assert {
        "telemetry_span_20310131",
        "telemetry_log_20310202",
        "telemetry_point_1h_203101",
        "telemetry_point_1h_203102",
    } <= set(made)
    assert again == []
    assert Span.objects.filter(trace_id="a" * 32).count() == 1
    assert retention.drop_partitions(retention.SPANS, today=date(2031, 2, 3), keep_days=2) == [
        "telemetry_span_20310131"
    ]
    assert retention.drop_partitions(retention.POINT_HOURS, today=date(2031, 2, 3), keep_days=2) == [
        "telemetry_point_1h_203101"
    ]
    assert "telemetry_span_20310201" in partitions("telemetry_span")
    assert Span.objects.filter(trace_id="a" * 32).count() == 0

"""Explicit histograms of many series: added up place by place they tell what each of their buckets would."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from controlplane.telemetry import queries
from controlplane.telemetry.models import Point, Series
from controlplane.telemetry.queries import Question, explore, lines
from controlplane.tenancy.queries import SYSTEM

NOW = datetime(2026, 11, 25, 14, 0, tzinfo=UTC)
BOUNDS = ([0.1, 1.0, 10.0], [0.0, 0.5, 0.501, 2.0, 40.0], [5.0])


@pytest.fixture
def series(db: None) -> None:
    """Fill an hour of thirty series with three kinds of bounds, some of whose last buckets have values."""
    dice = random.Random(4)
    for number in range(30):
        bounds = dice.choice(BOUNDS)
        made = Series.objects.create(
            digest=bytes([number]) * 16, tenant=f"t{number % 12}", name="took", unit="s", kind="histogram", monotonic=True, service="web",
            instance=str(number), route="", model="", release="", bounds=bounds,
        )  # fmt: skip
        for minute in range(0, 60, 7):
            buckets = [dice.randrange(9) for _ in bounds] + [dice.choice([0, 0, 5])]
            Point.objects.create(
                series=made, at=NOW - timedelta(minutes=minute + 1), samples=sum(buckets), sum=sum(buckets) * 0.7,
                min=dice.choice([None, 0.01]), max=dice.choice([None, 3.0, 77.0, 90.0]), buckets=buckets,
            )  # fmt: skip


@pytest.mark.parametrize("by", ["", "tenant", "instance"])
@pytest.mark.parametrize("names", [None, ["t3", "7", "nobody"]])
def test_courses__added_up_by_bounds__are_those_of_every_bucket(
    by: str, names: list[str] | None, series: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    metric = queries.metric_seen_by(SYSTEM, "took")
    asked = Question(NOW - timedelta(hours=1), NOW, 300, by)
    added = queries.course_seen_by(SYSTEM, metric, asked, names)

    monkeypatch.setattr(explore, "MOST_PLACES", 0)

    plain = queries.course_seen_by(SYSTEM, metric, asked, names)
    assert [line.name for line in added.lines] == [line.name for line in plain.lines]
    for one, other in zip(added.lines, plain.lines, strict=True):
        for step, counted in zip((*one.steps, one.all), (*other.steps, other.all), strict=True):
            assert (step is None) == (counted is None)
            if step is not None and counted is not None:
                assert (step.samples, step.quantiles, step.least, step.most) == (
                    counted.samples,
                    counted.quantiles,
                    counted.least,
                    counted.most,
                )
                assert step.total == pytest.approx(counted.total)
    if names is None:
        assert (added.names, len(added.lines)) == (plain.names, min(8, plain.names))
        assert all(line.all.samples for line in added.lines)


@pytest.mark.parametrize("buckets", [[0, 0, 0, 0], None, []])
@pytest.mark.parametrize("places", [explore.MOST_PLACES, 0])
def test_courses__nothing_was_counted_in_a_step__has_no_percentiles(
    buckets: list[int] | None, places: int, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explore, "MOST_PLACES", places)
    idle = Series.objects.create(
        digest=b"1" * 16, tenant="t", name="took", unit="s", kind="histogram", monotonic=True, service="web", instance="", route="",
        model="", release="", bounds=BOUNDS[0],
    )  # fmt: skip
    for ago, counted in ((1, buckets), (6, buckets), (6, [0, 7, 0, 0])):
        at = NOW - timedelta(minutes=ago, seconds=len(counted or ()) and sum(counted or ()))
        Point.objects.create(series=idle, at=at, samples=sum(counted or ()), sum=0, min=None, max=None, buckets=counted)

    asked = Question(NOW - timedelta(minutes=10), NOW, 300)
    (line,) = queries.course_seen_by(SYSTEM, queries.metric_seen_by(SYSTEM, "took"), asked).lines

    before, last = line.steps
    assert last is not None
    assert before is not None
    assert (last.samples, last.quantiles) == (0, (None,) * 4)
    assert (before.samples, line.all.samples) == (7, 7)
    assert before.quantiles == line.all.quantiles == (before.quantiles[0],) * 4
    assert before.quantiles[0] == pytest.approx(0.316, rel=0.02)


def test_middles__bounds_near_the_greatest_numbers__are_numbers() -> None:
    assert lines._middles((1e200, 1e300))[1] == lines._index_of(1e250)


def test_within__a_bucket_beyond_all_numbers__is_the_greatest_value_there_was() -> None:
    assert lines._within(1 << 22, None, 5.0) == 5.0

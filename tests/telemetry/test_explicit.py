"""Explicit histograms of many series: added up place by place they tell what each of their buckets would."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from controlplane.telemetry import queries
from controlplane.telemetry.models import Point, Series
from controlplane.telemetry.queries import Question, explore
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

"""The newest steps of the page of metrics: what was counted a second ago is there, whatever the range is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from controlplane.telemetry.models import CallWindow1m, CallWindow10s
from controlplane.telemetry.queries import Exemplar
from controlplane.tenancy.queries import SYSTEM
from dashboard.asking import Asking
from dashboard.metric_chart import chart_of
from dashboard.page import Params
from dashboard.pages.metrics import SINCE, build, courses_of, view_of
from dashboard.templatetags.drawings import sparkline
from tests.dashboard.world import packed

NOW = datetime(2026, 11, 25, 12, 34, 56, 500_000, tzinfo=UTC)
RANGES = pytest.mark.parametrize("since", SINCE)


def counted(at: datetime, *, calls: int = 1, tokens: int = 120) -> None:
    """Write what a sync does of calls at one time."""
    fields = {
        "tenant": "acme", "route": "chat", "model": "gpt-4o", "category": "", "calls": calls, "input_tokens": tokens,
        "latency_us": packed(*[400_000] * calls),
    }  # fmt: skip
    CallWindow10s.objects.create(starts_at=at.replace(second=at.second // 10 * 10, microsecond=0), **fields)
    CallWindow1m.objects.create(starts_at=at.replace(second=0, microsecond=0), **fields)


@pytest.mark.django_db
@RANGES
def test_page__one_call_three_seconds_ago__is_counted(since: str) -> None:
    counted(NOW - timedelta(seconds=3))

    context = build(Asking(SYSTEM, NOW), Params(since=since))

    assert [row.samples for row in context["rows"]] == [1]
    assert context["rows"][0].course[-1] == pytest.approx(400, rel=0.011)


@pytest.mark.django_db
@RANGES
def test_rate__of_a_step_that_goes_on__is_per_second_of_it(since: str) -> None:
    counted(NOW - timedelta(seconds=3), tokens=1200)
    asking = Asking(SYSTEM, NOW)

    view = view_of(asking, Params(since=since, metric="tokens_used", stat="rate"))
    course, _ = courses_of(asking, view)
    seconds = (NOW.replace(microsecond=0) - timedelta(seconds=1) - course.times[-1]).total_seconds()

    assert 0 < seconds <= view.asked.step_s
    assert view.course(course, course.lines[0])[-1] == pytest.approx(1200 / seconds)


@pytest.mark.django_db
def test_rate__of_a_step_that_has_just_begun__is_not_told_yet() -> None:
    now = NOW.replace(second=3)
    counted(now - timedelta(seconds=1))

    context = build(Asking(SYSTEM, now), Params(since="15m", metric="tokens_used", stat="rate"))

    assert context["rows"][0].course[-1] is None
    assert context["rows"][0].value is not None


@pytest.mark.django_db
def test_before__a_range_of_long_steps__is_as_long_as_what_is_known_of_this_one() -> None:
    asking = Asking(SYSTEM, NOW)
    view = view_of(asking, Params(since="7d", compare="1"))

    before = view.before

    assert before.since == view.asked.since - timedelta(days=7)
    assert abs((before.until - before.since).total_seconds() - view.seconds) <= 60


@pytest.mark.django_db
def test_chosen_time__in_the_past__is_drawn_whole() -> None:
    asking = Asking(SYSTEM, NOW)
    view = view_of(asking, Params({"from": "2026-11-25T10:00:00+00:00", "to": "2026-11-25T11:00:00+00:00"}))

    assert (view.asked.since, view.asked.until) == (NOW.replace(hour=10, minute=0, second=0, microsecond=0),
                                                    NOW.replace(hour=11, minute=0, second=0, microsecond=0))  # fmt: skip
    assert view.seconds == 3600
    assert view.before.until == view.asked.since


@pytest.mark.django_db
@RANGES
def test_chart__a_single_value__is_a_dot(since: str) -> None:
    counted(NOW - timedelta(seconds=3))
    asking = Asking(SYSTEM, NOW)
    view = view_of(asking, Params(since=since))
    course, _ = courses_of(asking, view)

    (line,) = chart_of(view, course, None, [], [])["data"]

    assert line["mode"] == "lines+markers"
    assert [size for size, value in zip(line["marker"]["size"], line["y"], strict=True) if value is not None] == [7]
    assert "polyline" in sparkline(line["y"])


@pytest.mark.django_db
@pytest.mark.parametrize(("stat", "height"), [("p99", 700.0), ("mean", 700.0)])
def test_trace__beside_values_of_calls__stands_at_its_own(stat: str, height: float) -> None:
    counted(NOW - timedelta(seconds=3))

    assert dots_of("request_latency_ms", stat, 700_000.0) == [height]


@pytest.mark.django_db
def test_trace__beside_a_sum__stands_on_the_line() -> None:
    counted(NOW - timedelta(seconds=3), tokens=1200)

    assert dots_of("tokens_used", "sum", 77.0) == [1200]


def dots_of(metric: str, stat: str, value: float) -> list[float]:
    """Return where the dot of one trace of three seconds ago is drawn."""
    asking = Asking(SYSTEM, NOW)
    view = view_of(asking, Params(metric=metric, stat=stat))
    course, _ = courses_of(asking, view)
    data = chart_of(view, course, None, [Exemplar(NOW - timedelta(seconds=3), value, "a" * 32, "b" * 16)], [])["data"]
    return next(each["y"] for each in data if each["name"] == "Traces")

"""Rules over any metric: against a limit, by group, divided by another, missing, unlike the hour of the week; and tried on the past."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import pytest

from controlplane.alerting.actions import configuring, evaluation
from controlplane.alerting.models import Alert, Rule
from controlplane.alerting.past import eyes_of, try_on_past
from controlplane.alerting.schemas import MetricSpec
from controlplane.alerting.sent import look_at_metric
from controlplane.domain.alerts import Timing
from controlplane.problems import Invalid
from controlplane.telemetry.models import Fold, Point, PointHour, Series
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import SYSTEM
from dashboard.alert_words import condition_text, evidence_of
from tests.alerting.conftest import NOW, Calls, packed

pytestmark = pytest.mark.django_db


def series(name: str, kind: str = "sum", **more: Any) -> Series:
    fields = {
        "tenant": "acme", "unit": "", "monotonic": kind == "sum", "service": "shop", "instance": "", "route": "", "model": "", "release": "",
        **more,
    }  # fmt: skip
    digest = hashlib.blake2b(repr((name, fields)).encode(), digest_size=16).digest()
    found, _ = Series.objects.get_or_create(digest=digest, defaults={"name": name, "kind": kind, **fields})
    return found


def sent(one: Series, at: datetime, value: float, table: type[Point | PointHour] = Point, **more: Any) -> None:
    table.objects.create(series=one, at=at, **{"samples": 1, "sum": value, **more})


def every(one: Series, minutes: Iterable[int], value: Callable[[int], float]) -> None:
    """Send a value that many minutes ago each, half a minute before."""
    Point.objects.bulk_create(
        Point(series=one, at=NOW - timedelta(minutes=ago, seconds=30), samples=1, sum=value(ago)) for ago in minutes
    )


def rule(**spec: Any) -> Rule:
    return configuring.put_rule(by=SYSTEM, tenant=None, slug="one", name="One", kind="metric", spec=spec)


def look(one: Rule, now: datetime = NOW) -> dict[str, str]:
    evaluation.evaluate(one.pk, now=now)
    return dict(one.alerts.values_list("label", "state"))


@pytest.mark.parametrize(
    ("spec", "holds"),
    [
        ({"metric": "orders", "op": "above", "value": 0.1}, True),  # 60 in 300 s
        ({"metric": "orders", "op": "above", "value": 0.2}, False),
        ({"metric": "orders", "stat": "sum", "op": "at_least", "value": 60}, True),
        ({"metric": "orders", "stat": "sum", "op": "below", "value": 60}, False),
        ({"metric": "depth", "op": "at_least", "value": 7}, True),  # 3 and 4 of two instances
        ({"metric": "depth", "stat": "max", "op": "above", "value": 4}, False),
        ({"metric": "took", "stat": "p99", "op": "above", "value": 150}, True),
        ({"metric": "took", "stat": "p50", "op": "above", "value": 250}, False),
        ({"metric": "failures", "per": "orders", "op": "above", "value": 0.09}, True),  # 6 of 60
        ({"metric": "failures", "per": "orders", "op": "above", "value": 0.11}, False),
        ({"metric": "orders", "service": "none"}, None),
        ({"metric": "nobody.sends.it", "op": "above", "value": 0}, False),
        ({"metric": "nobody.sends.it", "op": "absent"}, True),
        ({"metric": "orders", "op": "absent", "window_s": 60}, False),
        ({"metric": "orders", "op": "absent", "window_s": 60, "route": "other"}, True),
        ({"metric": "request_latency_ms", "stat": "p90", "op": "above", "value": 150}, True),
        ({"metric": "tokens_used", "stat": "max", "op": "above", "value": 10}, False),
    ],
)
def test_metric__any_of_them__is_held_against_a_limit(spec: dict[str, Any], holds: bool | None, calls: Calls) -> None:
    for ago in (20, 100):
        sent(series("orders"), NOW - timedelta(seconds=ago), 30)
        sent(series("failures"), NOW - timedelta(seconds=ago), 3)
    sent(series("orders"), NOW - timedelta(seconds=400), 9999)
    sent(series("depth", "gauge", monotonic=False, instance="a"), NOW - timedelta(seconds=20), 3, min=None, max=None)
    sent(series("depth", "gauge", monotonic=False, instance="b"), NOW - timedelta(seconds=30), 4)
    took = packed(*[200] * 9, 201)
    sent(
        series("took", "exponential"), NOW - timedelta(seconds=9), 2001, samples=10, min=200, max=201, buckets=took[4:]
    )
    calls(NOW, calls=20, latency_us=packed(*[200_000] * 20))

    if holds is None:
        with pytest.raises(Invalid, match="can't say that"):
            rule(**spec)
    else:
        assert (look(rule(**spec)) == {"": "firing"}) is holds


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ({"metric": "cost_usd", "per": "orders"}, 0.05),  # dollars an order
        ({"metric": "tokens_used", "per": "orders"}, 7.0),
        ({"metric": "error_rate", "per": "orders"}, 0.1),  # failed calls
        ({"metric": "request_latency_ms", "per": "orders"}, 0.5),  # calls
        ({"metric": "orders", "per": "cost_usd"}, 20.0),
        ({"metric": "orders", "per": "nobody.sends.it"}, None),
        ({"metric": "orders", "per": "nobody.sends.it", "op": "unusual"}, None),
    ],
)
def test_metric__divided_by_another__is_in_the_units_of_both(
    spec: dict[str, Any], value: float | None, calls: Calls
) -> None:
    sent(series("orders"), NOW - timedelta(seconds=20), 40)
    calls(
        NOW,
        calls=20,
        errors=4,
        input_tokens=200,
        output_tokens=80,
        cost_nusd=2 * 10**9,
        latency_us=packed(*[200_000] * 20),
    )

    found = look_at_metric(SYSTEM, MetricSpec(**spec), NOW)
    assert [each.value for each in found if each.value is not None] == ([] if value is None else [pytest.approx(value)])


def test_metric__by_service__has_an_alert_for_each_and_says_what_it_saw() -> None:
    for service, value in (("shop", 90), ("bank", 3)):
        sent(series("orders", service=service, unit="{order}"), NOW - timedelta(seconds=20), value)

    assert look(rule(metric="orders", stat="sum", op="above", value=50, by="service")) == {"shop": "firing"}
    alert = Alert.objects.get()
    assert (alert.value, alert.summary) == (90.0, "orders sum 90 order > 50 order")
    assert condition_text(alert.rule) == "orders sum > 50 over 5 min, per service"
    assert evidence_of(alert)[0] == "/explore/?metric=orders&stat=sum&by=service&since=6h"


def test_metric__absent_by_instance__is_of_those_that_sent_the_day_before() -> None:
    sent(series("up", "gauge", monotonic=False, instance="a"), NOW - timedelta(seconds=20), 1)
    sent(series("up", "gauge", monotonic=False, instance="b"), NOW - timedelta(hours=2), 1)
    sent(series("up", "gauge", monotonic=False, instance="c"), NOW - timedelta(hours=30), 1)

    assert look(rule(metric="up", op="absent", by="instance")) == {"b": "firing"}


def test_metric__another_tenants__is_not_looked_at(acme: Tenant) -> None:
    sent(series("orders", tenant="globex"), NOW - timedelta(seconds=20), 90)
    spec = {"metric": "orders", "stat": "sum", "op": "above", "value": 50}
    theirs = configuring.put_rule(by=SYSTEM, tenant=acme, slug="theirs", name="Theirs", kind="metric", spec=spec)

    assert look(theirs) == {}


def test_metric__unlike_the_same_hours_before__fires_from_hours_that_are_folded() -> None:
    one, hour = series("orders"), NOW - timedelta(hours=1)
    for week in range(1, 6):
        sent(one, hour - timedelta(weeks=week), 100 + week, PointHour)
    Fold.objects.create(kind="points", until=hour)
    sent(one, hour + timedelta(minutes=30), 4000)

    assert look(rule(metric="orders", stat="sum", op="unusual")) == {"": "firing"}
    assert "usual at this hour of the week is 103" in Alert.objects.get().summary
    assert look(rule(metric="orders", stat="sum", op="unusual", value=10_000)) == {"": "inactive"}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"metric": "orders", "stat": "p99"}, "spec.stat"),
        ({"metric": "queue_depth", "by": "service"}, "spec.by"),
        ({"metric": "orders", "per": "tokens_used", "by": "service"}, "spec.by"),
        ({"metric": "queue_depth", "release": "r1"}, "spec.release"),
        ({"metric": "orders", "per": "active_sessions", "model": "m"}, "spec.model"),
        ({"metric": ""}, "spec.metric"),
        ({"metric": "orders", "op": "near"}, "spec.op"),
    ],
)
def test_metric__asked_for_what_it_has_not__is_refused_by_field(spec: dict[str, Any], field: str) -> None:
    series("orders")

    with pytest.raises(Invalid) as refused:
        rule(**spec)
    assert list(refused.value.errors) == [field]


def tried(**spec: Any) -> list[tuple[str, float, float | None]]:
    found = try_on_past(eyes_of(SYSTEM, None), "metric", spec, Timing(), NOW, days=1)
    return [
        (
            track.label,
            (NOW - each.begins).total_seconds() / 60,
            (NOW - each.ends).total_seconds() / 60 if each.ends else None,
        )
        for track in found.tracks
        for each in track.episodes
    ]


def test_past__a_limit_passed_for_ten_minutes__is_one_episode_of_the_service() -> None:
    every(series("orders"), range(300), lambda ago: 50 if 100 <= ago < 110 else 1)
    every(series("orders", service="bank"), range(300), lambda _: 1)

    assert tried(metric="orders", stat="sum", op="above", value=100, by="service") == [("shop", 105.0, 95.0)]
    assert tried(metric="orders", stat="rate", op="above", value=0.5, window_s=600) == [("", 100.0, 95.0)]


def test_past__a_level_over_several_steps__is_their_mean() -> None:
    every(series("depth", "gauge", monotonic=False), range(120), lambda _: 10)

    assert tried(metric="depth", op="above", value=11, window_s=1800) == []
    assert tried(metric="depth", op="above", value=9, window_s=1800)[0][2] is None


def test_past__a_counter_over_a_level__divides_by_the_mean_of_its_steps() -> None:
    every(series("orders"), range(120), lambda _: 10)
    every(series("depth", "gauge", monotonic=False), range(120), lambda _: 10)

    assert (
        tried(metric="orders", per="depth", op="above", value=31, window_s=1800) == []
    )  # 300 in half an hour, over 10
    assert tried(metric="orders", per="depth", op="above", value=29, window_s=1800)[0][2] is None


def test_past__histograms_not_sent_for_ten_minutes__are_missed_to_five_minutes() -> None:
    one = series("took", "exponential")
    for minute in [*range(0, 60, 5), *range(70, 120, 5)]:
        at = NOW - timedelta(minutes=minute, seconds=30)
        sent(one, at, 0, samples=1, min=200, max=200, buckets=packed(200)[4:])

    assert tried(metric="took", op="absent", window_s=300)[-1][1:] == (65.0, 55.0)


def test_past__not_sent_for_half_an_hour__is_an_episode_of_who_sent_before() -> None:
    every(series("up", "gauge", monotonic=False), [*range(0, 60, 5), *range(90, 700, 5)], lambda _: 1)

    assert tried(metric="up", op="absent", window_s=600, by="service") == [("shop", 80.0, 55.0)]


def test_past__percentiles__are_tried_by_quarters_and_the_editor_says_so() -> None:
    one = series("took", "exponential")
    for minute in range(0, 120, 5):
        slow = 60 <= minute < 75
        took = packed(*[2000 if slow else 200] * 10)
        sent(
            one, NOW - timedelta(minutes=minute, seconds=30), 0, samples=10, min=200, max=2000, buckets=took[4:]
        )  # fmt: skip

    assert tried(metric="took", stat="p99", op="above", value=1000) == [("", 70.0, 55.0)]
    found = try_on_past(eyes_of(SYSTEM, None), "metric", {"metric": "took"}, Timing(), NOW, days=1)
    assert found.note == "By quarters of an hour."


def test_past__nobody_sent_it__has_nothing_to_draw() -> None:
    assert tried(metric="nobody.sends.it", op="above", value=1) == []


def test_past__an_hour_unlike_the_weeks_before__is_an_episode_of_an_hour() -> None:
    one, hour = series("orders"), NOW - timedelta(hours=6)
    for week in range(6):
        sent(one, hour - timedelta(weeks=week), 4000 if week == 0 else 100 + week, PointHour)
    Fold.objects.create(kind="points", until=NOW)

    assert tried(metric="orders", stat="sum", op="unusual") == [("", 300.0, 240.0)]

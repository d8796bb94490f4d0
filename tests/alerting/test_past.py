"""Rules tried on the past: every kind measures what its evaluation would have, and fires when it would have."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from controlplane.alerting import past
from controlplane.alerting.actions import configuring, evaluation
from controlplane.alerting.conditions import FIGURES
from controlplane.alerting.courses import Tried
from controlplane.alerting.models import Alert
from controlplane.budgets.actions.budgets import create_budget
from controlplane.domain.alerts import Timing
from controlplane.problems import Invalid
from controlplane.telemetry.actions.ladder import LEVELS, fold_level
from controlplane.telemetry.models import CallWindow1h, CallWindow1m, Fold
from controlplane.telemetry.resolutions import floor
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import SYSTEM
from tests.alerting.conftest import NOW, Calls, packed

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)
THEN = NOW - timedelta(days=2)
USD = 10**9


def tried(kind: str, spec: dict[str, Any], for_s: int = 0, now: datetime = NOW) -> Tried:
    return past.try_on_past(SYSTEM, kind, spec, Timing(for_s), now)


def minutes(begin: datetime, count: int, **fields: Any) -> None:
    usual = {"tenant": "acme", "route": "chat", "model": "m", "category": "", "kinds": {}}
    CallWindow1m.objects.bulk_create(
        CallWindow1m(starts_at=begin + timedelta(minutes=number), **{**usual, **fields}) for number in range(count)
    )


def test_threshold__an_hour_of_errors__is_one_episode_of_the_route_that_had_them() -> None:
    minutes(THEN, 60, calls=100, errors=50)
    minutes(THEN, 60, route="embed", calls=100)

    found = tried("threshold", {"metric": "error_rate", "value": 0.1, "window_s": 300, "by": "route"}, for_s=600)

    tracks = {track.label: track for track in found.tracks}
    (episode,) = tracks["chat"].episodes
    assert tracks["embed"].episodes == []
    assert episode.begins == THEN + timedelta(minutes=15)
    assert episode.ends == THEN + HOUR + timedelta(minutes=5)
    assert (found.steps, found.measured, found.limit, found.unit) == (2016, 12, 0.1, "error_rate")


def test_threshold__percentiles_and_long_windows__are_those_of_the_slowest_step() -> None:
    minutes(THEN, 60, calls=2, latency_us=packed(100_000, 900_000))

    found = tried("threshold", {"metric": "latency_p50_ms", "value": 50, "window_s": 3600})

    ((track),) = found.tracks
    held = [sample for sample in track.samples if sample.holds]
    assert len(held) == 23
    assert held[0].value == pytest.approx(100, rel=0.02)


def test_ratio_and_absence__without_calls_but_for_an_hour__say_so() -> None:
    minutes(THEN, 60, calls=100, refused=80)

    ratio = tried("ratio", {"numerator": "refused", "denominator": "calls", "value": 0.5})
    absence = tried("absence", {"window_s": 600})

    assert [(each.begins, each.ends) for each in ratio.episodes] == [
        (THEN + timedelta(minutes=5), THEN + HOUR + timedelta(minutes=5))
    ]
    assert len(absence.episodes) == 2
    assert absence.measured == 2016


def test_tried__on_steps_that_are_kept__is_what_minutes_tell() -> None:
    for number, tenant in enumerate(("acme", "globex")):
        minutes(
            THEN, 90, tenant=tenant, calls=100 + number, errors=7, refused=3, fallbacks=2, input_tokens=9, cached_input_tokens=4, output_tokens=5,
            cost_nusd=USD, latency_us=packed(100_000, 900_000 + number), queue_depth=[2, 6, 1, 5, (1 << 40) + 2], sessions=[1, 4, 4, 4, (4 << 40) + 1],
        )  # fmt: skip
    specs: list[tuple[str, dict[str, Any]]] = [
        ("threshold", {"metric": metric, "value": 1, "window_s": 900}) for metric in FIGURES
    ]
    specs += [
        ("ratio", {"numerator": "errors", "denominator": "fallbacks", "value": 0.5}),
        ("absence", {"window_s": 600}),
    ]
    every = [(kind, spec | {"by": "tenant"}) for kind, spec in specs] + specs[-3:]
    before = [tried(kind, spec) for kind, spec in every]

    levels = {level.mark: level for level in LEVELS}
    for mark in ("total_1m", "tenant_5m"):
        fold_level(levels[mark], THEN - HOUR, floor(NOW, 300), NOW)
        Fold.objects.create(kind=mark, until=floor(NOW, 300))
    CallWindow1m.objects.update(errors=0, refused=0, input_tokens=0, latency_us=[], queue_depth=[])

    assert [tried(kind, spec) for kind, spec in every] == before
    assert all(each.measured for each in before)


def test_absence__by_route__expects_only_who_called_the_day_before() -> None:
    minutes(THEN, 10, calls=1)

    (track,) = tried("absence", {"window_s": 600, "by": "route"}).tracks

    assert track.label == "chat"
    (episode,) = track.episodes
    assert episode.ends is not None
    assert timedelta(hours=23) < episode.ends - episode.begins <= timedelta(hours=24)


def test_anomaly__an_hour_unlike_the_weeks_before__is_an_episode_of_an_hour() -> None:
    first = NOW - timedelta(weeks=6)
    CallWindow1h.objects.bulk_create(
        CallWindow1h(
            starts_at=first + number * HOUR, tenant="acme", route="chat", model="m", category="", kinds={},
            calls=5000 if first + number * HOUR == THEN else 100 + number % 3,
        )
        for number in range(6 * 7 * 24)
    )  # fmt: skip

    Fold.objects.create(kind="windows", until=NOW)

    found = tried("anomaly", {"metric": "calls"})

    assert [(each.begins, each.ends) for each in found.episodes] == [(THEN + HOUR, THEN + 2 * HOUR)]


def test_anomaly__by_model__is_an_episode_of_the_model_that_fell_silent() -> None:
    first = NOW - timedelta(weeks=6)
    CallWindow1h.objects.bulk_create(
        CallWindow1h(
            starts_at=first + number * HOUR, tenant="acme", route="chat", model=model, category="", kinds={},
            calls=usual + number % 3,
        )
        for number in range(6 * 7 * 24)
        for model, usual in (("a", 100), ("b", 900))
        if (model, first + number * HOUR) != ("a", THEN)
    )  # fmt: skip
    Fold.objects.create(kind="windows", until=NOW)

    found = tried("anomaly", {"metric": "calls", "direction": "down", "by": "model"})

    fired = {track.label: [(each.begins, each.ends) for each in track.episodes] for track in found.tracks}
    assert fired == {"a": [(THEN + HOUR, THEN + 2 * HOUR)], "b": []}


def test_burn_rate__a_bad_hour__fires_as_its_evaluation_then_did(calls: Calls, acme: Tenant) -> None:
    configuring.put_slo(by=SYSTEM, tenant=acme, slug="chat", name="", kind="availability", objective=0.99)
    rule = configuring.put_rule(by=SYSTEM, tenant=acme, slug="b", name="", kind="burn_rate", spec={"slo": "chat"})
    minutes(THEN, 60, calls=100, errors=50)
    eyes = past.eyes_of(SYSTEM, acme)

    found = past.try_on_past(eyes, "burn_rate", {"slo": "chat"}, Timing(), NOW)
    for minute in (0, 10, 70):
        evaluation.evaluate(rule.pk, now=THEN + timedelta(minutes=minute))
        fired = Alert.objects.filter(state="firing").exists()
        at = THEN + timedelta(minutes=minute)
        assert fired is any(each.begins <= at and (each.ends is None or at < each.ends) for each in found.episodes)
    assert found.episodes[0].begins == THEN + timedelta(minutes=5)


def test_forecast_and_budget__a_day_that_costs_too_much__fire_before_and_when_it_is_spent(acme: Tenant) -> None:
    create_budget(
        by=SYSTEM, tenant=acme, slug="day", amount_nusd=100 * USD, now=NOW, thresholds=[50, 100],
        period={"kind": "calendar", "unit": "day", "timezone": "UTC"}, match={"route": "chat"},
    )  # fmt: skip
    midnight = THEN.replace(hour=0)
    minutes(midnight, 12 * 60, calls=1, cost_nusd=USD // 5)  # twelve dollars an hour

    forecast = tried("forecast", {})
    spent = tried("budget", {})

    (episode,) = forecast.episodes
    assert episode.begins == midnight + timedelta(minutes=25)  # 5 $ in the hour before, 95 $ are left for 19 h
    assert episode.ends == midnight + timedelta(hours=8, minutes=20)
    begins = {track.label: [each.begins for each in track.episodes] for track in spent.tracks}
    assert begins == {"acme/day 50%": [midnight + timedelta(hours=4, minutes=10)], "acme/day 100%": [episode.ends]}


@pytest.mark.parametrize(
    ("kind", "spec", "field"),
    [
        ("forecast", {"budget": "none"}, "spec.budget"),
        ("threshold", {"metric": "calls"}, "spec.value"),
        ("odd", {}, "kind"),
    ],
)
def test_try__what_can_not_be_tried__says_why(kind: str, spec: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        tried(kind, spec)
    assert list(refused.value.errors) == [field]


@pytest.mark.parametrize(
    ("what", "summary"),
    [
        ("clients_dropping", "0 clients with telemetry dropped"),
        ("rollouts_waiting", "wait for a person: none"),
        ("rollouts_undone", "taken back: none"),
        ("ingest_lag_s", "telemetry last arrived 10 s ago"),
    ],
)
def test_fleet__every_state_of_it__can_be_looked_at(what: str, summary: str, calls: Calls) -> None:
    rule = configuring.put_rule(
        by=SYSTEM, tenant=None, slug="f", name="", kind="fleet", spec={"what": what, "op": "at_least", "value": 0}
    )
    calls(NOW, calls=1)

    evaluation.evaluate(rule.pk, now=NOW)

    alert = Alert.objects.get()
    assert (alert.state, alert.summary) == ("firing", summary)


def test_fleet__nothing_arrived_for_an_hour__is_no_data() -> None:
    spec = {"what": "ingest_lag_s", "op": "above", "value": 60}
    rule = configuring.put_rule(
        by=SYSTEM, tenant=None, slug="f", name="", kind="fleet", spec=spec, no_data="alert"
    )  # fmt: skip
    evaluation.evaluate(rule.pk, now=NOW)

    assert Alert.objects.get().state == "no-data"

"""Rules over calls: states, one notification per change, silences, faults."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from controlplane.alerting import conditions, queries, standings
from controlplane.alerting.actions import configuring, delivering, evaluation, silencing
from controlplane.alerting.models import Alert, Change, Channel, Delivery, Silence
from controlplane.alerting.senders import signature
from controlplane.budgets.actions.budgets import create_budget
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import SYSTEM
from tests.alerting.conftest import NOW, Calls, Hook, packed
from tests.alerting.watching import ERRORS, look, rule

pytestmark = pytest.mark.django_db


def test_evaluate__a_condition_that_comes_and_goes__is_pending_firing_kept_and_resolved(calls: Calls) -> None:
    one = rule(for_s=60, keep_firing_s=60)
    for minute in range(6):
        calls(NOW + timedelta(minutes=minute), calls=100, errors=50 if minute < 3 else 0)

    states = [look(one, minute)[""] for minute in range(6)]

    assert states == ["pending", "firing", "firing", "keep-firing", "resolved", "resolved"]
    assert list(Change.objects.order_by("id").values_list("state", "told")) == [
        ("pending", ""), ("firing", "firing"), ("keep-firing", ""), ("resolved", "resolved")
    ]  # fmt: skip


def test_evaluate__the_worker_was_away_while_it_was_pending__waits_for_the_rest(calls: Calls) -> None:
    one = rule(for_s=120)
    for minute in (0, 1, 61, 62):
        calls(NOW + timedelta(minutes=minute), calls=10, errors=9)

    states = [look(one, minute)[""] for minute in (0, 1, 61, 62)]

    assert states == ["pending", "pending", "pending", "firing"]


def test_evaluate__twice_at_one_time__changes_nothing_twice(calls: Calls, channel: Channel) -> None:
    one = rule(channels=[channel])
    calls(NOW, calls=10, errors=9)

    look(one)
    look(one)
    look(one, 0.25)

    assert Change.objects.count() == Delivery.objects.count() == 1


def test_evaluate__by_route__has_an_alert_for_each(calls: Calls) -> None:
    one = rule({**ERRORS, "by": "route", "min_calls": 5})
    calls(NOW, route="chat", calls=100, errors=50)
    calls(NOW, route="embed", calls=100)
    calls(NOW, route="rare", calls=1, errors=1)

    assert look(one) == {"chat": "firing"}
    alert = Alert.objects.get()
    assert (alert.value, alert.summary) == (0.5, "error rate 50.0 % > 10.0 %")


@pytest.mark.parametrize(
    ("kind", "spec", "holds"),
    [
        ("threshold", {"metric": "latency_p99_ms", "value": 150}, True),
        ("threshold", {"metric": "cost_usd_per_h", "op": "at_most", "value": 1}, False),
        ("threshold", {"metric": "calls_per_s", "op": "below", "value": 1}, True),
        ("threshold", {"metric": "refused_rate", "value": 0.3}, True),
        ("threshold", {"metric": "cache_hit_rate", "op": "below", "value": 0.5}, True),
        ("ratio", {"numerator": "refused", "denominator": "calls", "value": 0.9}, True),
        ("ratio", {"numerator": "cost_usd", "denominator": "calls", "op": "at_least", "value": 0.05}, True),
        ("ratio", {"numerator": "errors", "denominator": "retries", "value": 0}, False),
        ("absence", {"window_s": 60}, False),
        ("absence", {"window_s": 60, "route": "other"}, True),
        ("fleet", {"what": "breakers_open"}, False),
        ("fleet", {"what": "clients_lost", "op": "below", "value": 1}, True),
        ("budget", {}, False),
        ("forecast", {}, False),
        ("anomaly", {"metric": "calls"}, False),
    ],
)
def test_evaluate__every_kind_of_rule__looks_at_what_it_says(
    kind: str, spec: dict[str, Any], holds: bool, calls: Calls
) -> None:
    calls(
        NOW,
        calls=20,
        refused=20,
        cost_nusd=10**9,
        input_tokens=100,
        cached_input_tokens=10,
        latency_us=packed(*[200_000] * 20),
    )

    states = look(rule(spec, kind))

    assert (states == {"": "firing"}) is holds


def test_evaluate__an_hour_unlike_the_same_hours_before__is_an_anomaly(calls: Calls) -> None:
    hour = NOW - timedelta(hours=1)
    for week in range(1, 5):
        calls(hour - timedelta(weeks=week) + timedelta(minutes=30), 0, calls=100 + week)
    calls(hour + timedelta(minutes=30), 0, calls=5000)

    assert look(rule({"metric": "calls"}, "anomaly")) == {"": "firing"}
    assert "usual at this hour of the week is 102" in Alert.objects.get().summary


def test_evaluate__a_peak_of_an_hour_that_comes_every_week__is_no_anomaly(calls: Calls) -> None:
    hour = NOW - timedelta(minutes=30)
    for week in range(6):
        for beside, usual in ((-1, 100), (0, 300), (1, 100)):
            calls(hour - timedelta(weeks=week, hours=-beside), 0, calls=usual + week)

    assert look(rule({"metric": "calls", "direction": "both"}, "anomaly")) == {}


def test_evaluate__an_anomaly_by_route__is_of_the_route_that_is_unlike_itself(calls: Calls) -> None:
    hour = NOW - timedelta(minutes=30)
    for week in range(1, 5):
        for route, usual in (("chat", 100), ("embed", 5000), ("silent", 100)):
            calls(hour - timedelta(weeks=week), 0, route=route, calls=usual + week)
    calls(hour, 0, route="chat", calls=5000)
    calls(hour, 0, route="embed", calls=5003)
    calls(hour, 0, route="new", calls=9000)

    states = look(rule({"metric": "calls", "direction": "both", "by": "route"}, "anomaly"))

    assert states == {"chat": "firing", "silent": "firing"}
    assert Alert.objects.get(label="chat").summary.startswith("calls was 5,000, usual at this hour of the week is 102")
    assert Alert.objects.get(label="silent").value == 0


def test_evaluate__a_group_that_calls_no_more__is_over_and_does_not_say_that_it_holds(
    calls: Calls, channel: Channel
) -> None:
    one = rule({**ERRORS, "by": "route"}, channels=[channel])
    calls(NOW, calls=10, errors=9)

    assert [look(one, minute) for minute in (0, 2)] == [{"chat": "firing"}, {"chat": "resolved"}]

    said = [(each.body["value"], each.body["summary"]) for each in Delivery.objects.order_by("id")]
    holds = "error rate 90.0 % > 10.0 %"
    assert said == [(0.9, holds), (None, f"nothing of it is left to measure, before: {holds}")]


def test_evaluate__a_rule_by_group_can_look_again__says_so(acme: Tenant, channel: Channel) -> None:
    one = rule({"budget": "month"}, "forecast", channels=[channel])
    assert look(one) == {"": "error"}

    create_budget(
        by=SYSTEM, tenant=acme, slug="month", amount_nusd=10**9, now=NOW, match={},
        period={"kind": "calendar", "unit": "month", "timezone": "UTC"},
    )  # fmt: skip

    assert look(one, 1)[""] == "inactive"
    said = [(each.body["event"], each.body["summary"]) for each in Delivery.objects.order_by("id")]
    assert said[1:] == [("resolved", "the rule can look again")]


def test_evaluate__nothing_to_measure__is_no_data_where_the_rule_says_so(channel: Channel) -> None:
    one = rule(no_data="alert", channels=[channel])

    assert look(one) == {"": "no-data"}
    assert Delivery.objects.get().body["event"] == "no-data"


def test_evaluate__a_rule_that_can_not_look__is_an_error_told_once(channel: Channel, calls: Calls) -> None:
    one = rule({"slo": "gone"}, "burn_rate", channels=[channel])

    states = [look(one, minute)[""] for minute in range(3)]

    one.refresh_from_db()
    assert states == ["error"] * 3
    assert "no service level 'gone'" in one.fault
    assert Delivery.objects.count() == 1


def test_evaluate__a_service_level_that_burns__fires_with_the_steepest_windows(calls: Calls, acme: Tenant) -> None:
    configuring.put_slo(
        by=SYSTEM, tenant=acme, slug="chat", name="Chat", kind="availability", objective=0.99, route="chat"
    )
    one = rule({"slo": "chat"}, "burn_rate", tenant=acme)
    calls(NOW, calls=1000, errors=200)

    assert look(one) == {"": "firing"}
    assert "burns 20.0 × over 1 h, more than 14.4 ×" in Alert.objects.get().summary


def test_evaluate__another_tenants_calls__are_not_looked_at(calls: Calls, acme: Tenant) -> None:
    create_tenant(by=SYSTEM, slug="globex", name="Globex")
    one = rule(tenant=acme)
    calls(NOW, tenant="globex", calls=100, errors=100)

    assert look(one) == {}


def test_evaluate__in_a_silence__tells_nobody_until_it_ends(calls: Calls, channel: Channel) -> None:
    one = rule({**ERRORS, "by": "route"}, channels=[channel])
    for minute in range(4):
        calls(NOW + timedelta(minutes=minute), route="chat", calls=10, errors=9)
        calls(NOW + timedelta(minutes=minute), route="embed", calls=10, errors=9)
    silencing.create_silence(
        by=SYSTEM, tenant=None, rule=one, label="ch*", starts_at=NOW, ends_at=NOW + timedelta(minutes=2), reason="work"
    )

    told = []
    for minute in range(4):
        look(one, minute)
        told.append(sorted(Delivery.objects.values_list("body__label", flat=True)))

    assert told == [["embed"], ["embed"], ["chat", "embed"], ["chat", "embed"]]
    assert list(queries.alerts_seen_by(SYSTEM, now=NOW).values_list("silenced", flat=True)) == [False, False]


def test_due_rules__time__comes_after_the_interval() -> None:
    one = rule(every_s=30)
    assert evaluation.due_rules(NOW) == [one.pk]
    evaluation.evaluate(one.pk, now=NOW)

    assert evaluation.due_rules(NOW + timedelta(seconds=20)) == []
    assert evaluation.due_rules(NOW + timedelta(seconds=30)) == [one.pk]


def test_evaluate__no_longer_beyond__does_not_say_that_it_is(calls: Calls) -> None:
    one = rule()
    calls(NOW, calls=10, errors=9)
    calls(NOW + timedelta(minutes=2), calls=10)
    look(one)
    look(one, 2)

    assert Alert.objects.get().summary == "error rate 0.0 %, not > 10.0 %"


def test_slo__its_standing_and_course__follow_the_calls(calls: Calls, acme: Tenant) -> None:
    slo = configuring.put_slo(
        by=SYSTEM, tenant=acme, slug="fast", name="", kind="latency", objective=0.9, threshold=100, days=1
    )
    calls(NOW, 3600, latency_us=packed(*[50_000] * 95, *[200_000] * 5))

    standing = standings.standing_of(slo, NOW)
    course = standings.burn_course(slo, NOW, steps=24)

    assert (standing.count, standing.good) == ((100, 5), 0.95)
    assert standing.left == pytest.approx(0.5)
    assert len(course) == 24
    assert course[-1].left == pytest.approx(0.5)


def test_deliver__the_outbox__is_sent_once_and_signed(calls: Calls, channel: Channel, hook: Hook) -> None:
    one = rule(channels=[channel])
    calls(NOW, calls=10, errors=9)
    look(one)

    assert delivering.deliver(now=NOW) == 1
    assert delivering.deliver(now=NOW + timedelta(hours=1)) == 0

    ((headers, body),) = hook.got
    timestamp = int(headers["tidegate-signature"].partition(",")[0][2:])
    assert headers["tidegate-signature"] == signature(channel.secret, timestamp, body)
    assert headers["tidegate-delivery"] == str(Delivery.objects.get().pk)
    assert json.loads(body)["summary"] == "error rate 90.0 % > 10.0 %"


def test_evaluate__the_clock_was_an_hour_ahead__goes_on_from_now(calls: Calls, channel: Channel) -> None:
    one = rule(for_s=120, every_s=15)
    for minute in range(61, 64):
        calls(NOW + timedelta(minutes=minute - 60), calls=10, errors=9)
    calls(NOW + timedelta(minutes=60), calls=10, errors=9)
    assert look(one, 60) == {"": "pending"}

    assert evaluation.due_rules(NOW + timedelta(minutes=1)) == [one.pk]
    states = [look(one, minute)[""] for minute in (1, 2, 3)]

    assert states == ["pending", "pending", "firing"]
    assert evaluation.due_rules(NOW + timedelta(minutes=3, seconds=5)) == []


def test_evaluate__the_clock_was_ahead_while_it_fired__ends_and_is_told(calls: Calls, channel: Channel) -> None:
    one = rule(channels=[channel], keep_firing_s=60)
    calls(NOW + timedelta(minutes=60), calls=10, errors=9)
    calls(NOW + timedelta(minutes=61), calls=10)
    assert look(one, 60) == {"": "firing"}
    assert look(one, 61) == {"": "keep-firing"}
    for minute in (1, 2):
        calls(NOW + timedelta(minutes=minute), calls=10)

    assert [look(one, minute)[""] for minute in (1, 2)] == ["keep-firing", "resolved"]


def test_evaluate__more_things_than_are_looked_at__still_ends_what_fires(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "MOST_LABELS", 2)
    one = rule({**ERRORS, "by": "route"})
    calls(NOW, route="z", calls=10, errors=9)
    assert look(one) == {"z": "firing"}
    for route in ("a", "b", "c", "z"):
        calls(NOW + timedelta(minutes=1), route=route, calls=10, errors=0 if route == "z" else 9)

    assert look(one, 1) == {"z": "resolved", "a": "firing"}
    assert look(one, 1.25) == {"z": "resolved", "a": "firing", "b": "firing"}


@pytest.mark.parametrize(
    ("pattern", "label", "mutes"),
    [
        ("gpt[1]", "gpt[1]", True), ("gpt[1]", "gpt1", False), ("a?", "ab", False), ("a?", "a?", True), ("gpt-*", "gpt-4o", True),
        ("", "anything", True), ("*a*a*a*a*a*a*a*a*a*a*a*a*a*b", "a" * 120, False),
    ],
)  # fmt: skip
def test_muted_by__a_pattern__knows_of_the_star_alone(pattern: str, label: str, mutes: bool) -> None:
    silence = Silence(label=pattern, reason="because")

    assert bool(queries.muted_by(label, [silence], [])) is mutes


def test_forget_quiet__what_was_sent_long_ago_of_what_is_forgotten__leaves_the_log(
    calls: Calls, channel: Channel
) -> None:
    one = rule(channels=[channel])
    calls(NOW, calls=10, errors=9)
    look(one)
    delivering.deliver(now=NOW)
    Delivery.objects.create(channel=channel, body={}, next_at=NOW)  # waits
    Delivery.objects.update(created_at=NOW)

    evaluation.forget_quiet(now=NOW + timedelta(days=91))
    assert Delivery.objects.count() == 2
    Alert.objects.all().delete()
    evaluation.forget_quiet(now=NOW + timedelta(days=89))
    assert Delivery.objects.count() == 2
    evaluation.forget_quiet(now=NOW + timedelta(days=91))
    assert [each.status for each in Delivery.objects.all()] == ["waiting"]


def test_evaluate__something_unforeseen__is_an_error_that_people_are_told_of(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = rule(channels=[channel])

    def broken(*_: object) -> None:
        raise OverflowError("nobody thought of that")

    monkeypatch.setattr(conditions, "findings_of", broken)

    assert look(one) == {"": "error"}
    assert Delivery.objects.get().body["summary"] == "Something went wrong here: OverflowError."


@pytest.mark.parametrize("kind", ["forecast", "budget"])
def test_evaluate__a_budget_that_there_is_not__is_an_error(kind: str) -> None:
    one = rule({"budget": "typo"}, kind)

    assert look(one) == {"": "error"}
    assert "no budget 'typo'" in one.alerts.get().summary

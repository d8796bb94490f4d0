"""Alerts and service levels on their pages: what is said, what can be done, what is drawn before it is saved."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from controlplane.alerting.courses import Sample, Tried, track_of
from controlplane.alerting.models import Alert, Channel, Delivery, Rule, Silence, Slo
from controlplane.domain.alerts import Timing
from controlplane.policy.models import Revision
from controlplane.telemetry.models import Series
from dashboard.past_course import WIDTH, course_of
from dashboard.rule_forms import FIELDS, number
from tests.dashboard.world import World

SignIn = Callable[[str], Client]
NOW = datetime(2026, 11, 25, 14, tzinfo=UTC)
RULE = {
    "tenant": "acme", "slug": "new", "name": "New", "kind": "threshold", "spec.metric": "error_rate", "spec.op": "above",
    "spec.value": "0.5 %", "spec.window_s": "300", "spec.by": "model", "spec.min_calls": "5", "for_s": "0", "no_data": "ok",
    "severity": "page",
}  # fmt: skip


def firing() -> Alert:
    return Alert.objects.filter(state="firing", rule__slug="model-errors").order_by("label")[0]


def test_alerts__one_that_fires__says_why_since_when_and_against_which_limit(sign_in: SignIn, world: World) -> None:
    html = sign_in("anna").get("/alerts/", {"alert": firing().pk}).content.decode()

    assert "Calls of a model fail" in html
    assert re.search(r"error rate \d+\.\d % &gt; 5\.0 %", html)
    assert "&gt; 5.0 %</dd>" in html
    assert "told that it fires" in html
    assert "on-call sent" in html
    assert re.search(r'id="alert_course">.*<polyline', html, re.DOTALL)


@pytest.mark.parametrize("path", ["/", "/budgets/", "/settings/", "/alerts/rules/"])
def test_banner__while_something_fires__is_on_every_page_with_a_link(path: str, sign_in: SignIn, world: World) -> None:
    html = sign_in("anna").get(path).content.decode()

    banner = re.search(r'id="incidents">(.*?)</div>', html, re.DOTALL)
    assert banner is not None
    assert re.search(r'href="/alerts/\?alert=\d+"', banner[1])


def test_banner__what_fires_is_silenced__is_not_there(sign_in: SignIn, world: World) -> None:
    html = sign_in("gus").get("/").content.decode()

    assert '<div id="incidents" hidden></div>' in html
    assert "Silenced" in sign_in("gus").get("/alerts/").content.decode()


@pytest.mark.parametrize("by", ["state", "rule", "tenant", "severity"])
def test_alerts__grouped__has_every_alert_once(by: str, sign_in: SignIn, world: World) -> None:
    html = sign_in("anna").get("/alerts/", {"by": by, "show": "all"}).content.decode()

    assert len(re.findall(r'<tr id="a_\d+"', html)) == Alert.objects.count()


def test_acknowledge_and_silence__an_alert__by_an_operator(sign_in: SignIn, world: World) -> None:
    client, alert = sign_in("otto"), firing()

    client.post(f"/alerts/{alert.pk}/acknowledge/", {"hours": "4"})
    client.post(f"/alerts/{alert.pk}/silence/", {"hours": "4", "reason": "we know"})

    alert.refresh_from_db()
    silence = Silence.objects.get(reason="we know")
    assert alert.acknowledged_by == "otto"
    assert alert.acknowledged_at is not None
    assert alert.acknowledged_until == alert.acknowledged_at + timedelta(hours=4)
    assert (silence.rule, silence.label) == (alert.rule, alert.label)
    assert silence.ends_at - silence.starts_at == timedelta(hours=4)
    assert client.post(f"/alerts/silences/{silence.pk}/end/").status_code == 302


def test_silence__without_a_reason__is_shown_again_with_what_is_wrong(sign_in: SignIn, world: World) -> None:
    answer = sign_in("otto").post(f"/alerts/{firing().pk}/silence/", {"hours": "4", "reason": ""})

    assert answer.status_code == 422
    assert "A silence says why." in answer.content.decode()


def test_maintenance__planned__is_listed(sign_in: SignIn, world: World) -> None:
    client = sign_in("otto")
    typed = {
        "starts_at": "2031-01-01T10:00",
        "ends_at": "2031-01-01T11:00",
        "repeats": "week",
        "why": "upgrade",
        "label": "*",
    }

    client.post("/alerts/silences/plan/", typed)

    html = client.get("/alerts/").content.decode()
    assert "every week" in html
    assert "upgrade · otto" in html


@pytest.mark.parametrize("do", ["acknowledge", "silence"])
def test_alert__viewer_or_outsider__can_not_touch_it(do: str, sign_in: SignIn, world: World) -> None:
    path = f"/alerts/{firing().pk}/{do}/"

    assert sign_in("vera").post(path, {"hours": "1", "reason": "x"}).status_code == 403
    assert sign_in("gus").post(path, {"hours": "1", "reason": "x"}).status_code == 404


def test_try__a_rule_that_is_typed__is_drawn_and_nothing_is_saved(sign_in: SignIn, world: World) -> None:
    before = Rule.objects.count()

    html = sign_in("otto").get("/alerts/rules/try/", RULE).content.decode()

    assert "It would have fired <strong>" in html
    assert html.count("lane-track") == 3
    assert "The same as a table" in html
    assert Rule.objects.count() == before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"spec.value": "much"}, "must be a number"),
        ({"spec.value": ""}, "is missing"),
        ({"kind": "fleet", "spec.what": "clients_dropping"}, "nothing for this rule to measure"),
        ({"spec.route": "nobody-calls-this"}, "nothing for this rule to measure"),
    ],
)
def test_try__what_can_not_be_tried__says_why(change: dict[str, str], says: str, sign_in: SignIn, world: World) -> None:
    answer = sign_in("otto").get("/alerts/rules/try/", {**RULE, **change})

    assert answer.status_code == 200
    assert says in answer.content.decode()


def test_editor__any_metric__offers_those_that_are_sent_tries_and_keeps_one(sign_in: SignIn, world: World) -> None:
    named = {
        "name": "orders.placed",
        "tenant": "acme",
        "unit": "",
        "kind": "sum",
        "monotonic": True,
        "digest": b"o" * 16,
    }
    Series.objects.create(**named, service="", instance="", route="", model="", release="")
    client = sign_in("otto")
    typed = {"kind": "metric", "tenant": "acme", "name": "Orders", "slug": "orders", "severity": "ticket", "no_data": "ok",
             "spec.metric": "orders.placed", "spec.stat": "sum", "spec.op": "absent", "spec.window_s": "600"}  # fmt: skip

    form = client.get("/alerts/rules/edit/", {"kind": "metric"}).content.decode()
    tried = client.get("/alerts/rules/try/", typed).content.decode()
    kept = client.post("/alerts/rules/put/", typed)
    wrong = client.post("/alerts/rules/put/", {**typed, "slug": "more", "spec.stat": "p99"})

    assert '<option value="orders.placed">' in form
    assert '<option value="cost_usd">Cost' in form
    assert "It would have fired <strong>" in tried
    assert kept.status_code == 302
    assert "orders.placed sum none in 10 min" in client.get("/alerts/rules/").content.decode()
    assert "must be one of rate, sum, or empty" in wrong.content.decode()


def test_try__viewer_and_outsider__are_refused(sign_in: SignIn, world: World) -> None:
    assert sign_in("vera").get("/alerts/rules/try/", RULE).status_code == 403
    assert "It would" not in sign_in("gus").get("/alerts/rules/try/", RULE).content.decode()


def test_put_rule__with_everything__is_as_typed(sign_in: SignIn, world: World) -> None:
    hook = Channel.objects.get(name="on-call")
    other = Rule.objects.get(slug="slow")
    more = {
        f"channel.{hook.pk}": "yes",
        f"escalate.{hook.pk}": "yes",
        f"inhibited.{other.pk}": "yes",
        "escalate_after_s": "900",
    }

    assert sign_in("otto").post("/alerts/rules/put/", {**RULE, **more}).status_code == 302

    rule = Rule.objects.get(slug="new")
    spec = {"metric": "error_rate", "op": "above", "value": 0.005, "window_s": 300, "by": "model", "min_calls": 5}
    assert (rule.spec, rule.escalate_after_s) == (spec, 900)
    assert [list(each.all()) for each in (rule.channels, rule.escalate_to, rule.inhibited_by)] == [
        [hook],
        [hook],
        [other],
    ]


def test_put_rule__one_that_is_changed__keeps_its_name_and_what_has_no_field(sign_in: SignIn, world: World) -> None:
    rule = Rule.objects.get(slug="model-errors")
    Rule.objects.filter(pk=rule.pk).update(spec={**rule.spec, "tenant": "acme-eu"})

    sign_in("otto").post("/alerts/rules/put/", {**RULE, "rule": "acme/model-errors", "slug": "model-errors"})

    rule.refresh_from_db()
    assert (rule.name, rule.spec["value"], rule.spec["tenant"]) == ("New", 0.005, "acme-eu")


def test_put_rule__wrong_or_taken__is_shown_again_with_what_was_typed(sign_in: SignIn, world: World) -> None:
    client = sign_in("otto")
    wrong = client.post("/alerts/rules/put/", {**RULE, "spec.value": "much"})
    taken = client.post("/alerts/rules/put/", {**RULE, "slug": "slow"})

    assert (wrong.status_code, taken.status_code) == (422, 422)
    assert 'value="much"' in wrong.content.decode()
    assert "is taken" in taken.content.decode()


@pytest.mark.parametrize("kind", FIELDS)
def test_editor__every_kind__has_its_fields(kind: str, sign_in: SignIn, world: World) -> None:
    html = sign_in("otto").get("/alerts/rules/edit/", {"kind": kind}).content.decode()

    assert all(f'name="{field.name}"' in html for field in FIELDS[kind])


def test_channels__made_tested_and_removed__with_a_secret_that_is_shown_once(sign_in: SignIn, world: World) -> None:
    client = sign_in("otto")
    made = client.post(
        "/alerts/channels/create/", {"name": "own", "kind": "webhook", "target": "http://127.0.0.1:9/hook"}
    )
    channel = Channel.objects.get(name="own")

    tested = client.post(f"/alerts/channels/{channel.pk}/test/", follow=True).content.decode()

    assert channel.secret in made.content.decode()
    assert channel.secret not in tested
    assert "did not arrive: 127.0.0.1 is at 127.0.0.1, inside of a private network" in tested
    assert Delivery.objects.get(channel=channel).status == "failed"
    assert "inside of a private network" in client.get("/alerts/channels/", {"status": "failed"}).content.decode()
    client.post(f"/alerts/channels/{channel.pk}/archive/")
    assert 'id="c_' + str(channel.pk) not in client.get("/alerts/channels/").content.decode()


def test_channels__private_addresses__only_by_an_admin(sign_in: SignIn, world: World) -> None:
    typed = {"name": "own", "kind": "webhook", "target": "http://127.0.0.1:9/", "allow_private": "yes"}

    assert sign_in("otto").post("/alerts/channels/create/", typed).status_code == 403
    assert sign_in("anna").post("/alerts/channels/create/", typed).status_code == 200


def test_usual_rules__added_twice__are_there_once(sign_in: SignIn, world: World) -> None:
    client = sign_in("gus")

    first = client.post("/alerts/rules/usual/", follow=True).content.decode()
    second = client.post("/alerts/rules/usual/", follow=True).content.decode()

    assert "Added: 6 rules." in first
    assert "They are all there already." in second
    assert Rule.objects.filter(tenant__slug="globex", slug="budget-forecast").count() == 1


def test_slos__every_kind__stands_where_its_calls_put_it(sign_in: SignIn, world: World) -> None:
    html = sign_in("anna").get("/slos/", {"slo": "acme/chat"}).content.decode()

    for name in ("Chat answers", "Chat is quick", "Globex is cheap"):
        assert name in html
    assert "Overspent" in html
    assert re.search(r'href="/traces/\?route=chat&amp;tenant=acme&amp;status=error&amp;since=7d"', html)
    assert "The service level of chat burns" in html


@pytest.mark.parametrize(("whose", "drawn"), [("acme", True), ("globex", False)])
def test_slos__policy_changed_meanwhile__is_marked_on_the_charts_of_those_it_governs(
    whose: str, drawn: bool, sign_in: SignIn, world: World
) -> None:
    revision = Revision.objects.create(
        at=world.now - timedelta(minutes=30), actor="x", kind="policy", subject=f"{whose}/chat", summary="",
        tenant=world.tenants[whose],
    )  # fmt: skip

    html = sign_in("anna").get("/slos/", {"slo": "acme/chat"}).content.decode()

    assert (f"r{revision.pk}</text>" in html) is drawn


def test_slos__the_offenders_of_a_slow_one__link_to_traces_that_took_longer(sign_in: SignIn, world: World) -> None:
    html = sign_in("anna").get("/slos/", {"slo": "acme/quick", "by": "model"}).content.decode()

    assert "min_ms=900" in html


def test_slo__made_on_its_page__has_a_rule_that_tells_when_it_burns(sign_in: SignIn, world: World) -> None:
    typed = {
        "tenant": "acme", "slug": "code", "name": "Code", "kind": "latency", "objective": "99,5", "threshold": "800", "days": "28",
        "rule": "yes",
    }  # fmt: skip
    client = sign_in("otto")

    refused = client.post("/slos/put/", {**typed, "objective": "150"})
    made = client.post("/slos/put/", {**typed, "objective": "99.5"})

    slo = Slo.objects.get(slug="code")
    assert (refused.status_code, made.status_code) == (422, 302)
    assert slo.objective == pytest.approx(0.995)
    assert slo.threshold == 800
    assert Rule.objects.get(slug="code-burns").spec == {"slo": "code"}


@pytest.mark.parametrize(("text", "value"), [("10 %", 0.1), ("0.1", 0.1), ("$1,000.50", 1000.5), ("80%", 0.8)])
def test_number__as_people_type_it__is_read(text: str, value: float) -> None:
    assert number("x", text) == pytest.approx(value)


def tracks(*values: float | None, limit: float = 10) -> Tried:
    samples = [
        Sample(NOW + timedelta(minutes=5 * place), value, None if value is None else value > limit)
        for place, value in enumerate(values)
    ]
    return Tried([track_of("chat", samples, Timing())], limit, "calls")


def test_course__a_gap_and_a_peak__are_drawn_as_they_were() -> None:
    course = course_of(tracks(1, 2, None, 3, 20, 20, 1))

    assert course is not None
    (lane,) = course.lanes
    (bar,) = lane.bars
    assert len(lane.lines) == 2
    assert bar.x == pytest.approx(WIDTH * 4 / 6, abs=0.1)
    assert bar.width == pytest.approx(WIDTH * 2 / 6, abs=0.1)
    assert [each.lasted for each in course.firings] == ["10 min"]
    assert course.limit_y is not None


def test_course__of_very_many_points__keeps_the_extremes() -> None:
    values: list[Any] = [1.0] * 2016
    values[1000] = 99.0

    course = course_of(tracks(*values))

    assert course is not None
    points = " ".join(course.lanes[0].lines).split()
    assert len(points) <= 280
    assert min(float(point.partition(",")[2]) for point in points) < 20


def test_course__nothing_measured__is_none() -> None:
    assert course_of(tracks(None, None)) is None


def test_channel__grouped_by_hand__is_told_so_and_the_form_says_what_is_wrong(sign_in: SignIn, world: World) -> None:
    client = sign_in("otto")
    channel = Channel.objects.create(tenant=world.tenants["acme"], name="mails", kind="email", target="a@acme.example")
    address = f"/alerts/channels/{channel.pk}/grouping/"
    typed = {
        "grouped": "yes",
        "by.label": "yes",
        "group_wait_s": "60",
        "group_interval_s": "300",
        "repeat_interval_s": "0",
    }

    shown = client.get("/alerts/channels/", {"channel": str(channel.pk)}).content.decode()
    refused = client.post(address, {**typed, "group_interval_s": "1"})
    done = client.post(address, typed, follow=True).content.decode()

    assert "How mails is told" in shown
    assert (refused.status_code, "must be from 10 seconds to a day" in refused.content.decode()) == (422, True)
    assert "mails is told of many alerts in one message" in done
    channel.refresh_from_db()
    assert (channel.grouped, channel.group_by, channel.group_wait_s) == (True, ["label"], 60)
    assert sign_in("gus").post(address, typed).status_code == 404
    assert sign_in("vera").post(address, typed).status_code == 403

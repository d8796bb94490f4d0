"""One message for many alerts, out of the outbox: each change in exactly one message of each channel."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail

from controlplane.alerting import queries, senders
from controlplane.alerting.actions import configuring, delivering, evaluation, grouping, silencing
from controlplane.alerting.models import Alert, Channel, Delivery, Group, Mention, Rule
from controlplane.domain.alert_groups import Grouping
from controlplane.problems import Forbidden, Invalid
from controlplane.tenancy.models import Role, Tenant
from controlplane.tenancy.queries import SYSTEM, Asker
from tests.alerting.conftest import NOW, Calls, Hook

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
BY_RULE = Grouping(("rule",), 30, 300, 14_400)


def channel(how: Grouping | None = BY_RULE, kind: str = "email", target: str = "ops@a.example", **more: Any) -> Channel:
    made = configuring.create_channel(by=SYSTEM, tenant=None, name="ops", kind=kind, target=target, **more)
    grouping.set_grouping(by=SYSTEM, channel=made, grouping=how, now=NOW)
    made.refresh_from_db()
    return made


def errors(slug: str = "errors", **more: object) -> Rule:
    spec = {"metric": "error_rate", "value": 0.1, "window_s": 60, "by": "route"}
    fields = {"tenant": None, "slug": slug, "name": slug, "kind": "threshold", "spec": spec, **more}
    return configuring.put_rule(by=SYSTEM, **fields)  # type: ignore[arg-type]  # fields by name


def said() -> list[tuple[str, list[tuple[str, str]]]]:
    """Return all messages: the event of each, and event and label of what is in it."""
    return [
        (each.body["event"], [(alert["event"], alert["label"]) for alert in each.body["alerts"]])
        for each in Delivery.objects.order_by("id")
    ]


def test_group__three_routes_fail__is_one_message_after_the_wait(calls: Calls) -> None:
    one = errors(channels=[channel()])
    for route in ("a", "b", "c"):
        calls(NOW, route=route, calls=10, errors=9)
    evaluation.evaluate(one.pk, now=NOW)

    early = grouping.flush(now=NOW + 29 * SECOND)
    made = grouping.flush(now=NOW + 30 * SECOND)

    assert (early, made, grouping.flush(now=NOW + 31 * SECOND)) == (0, 1, 0)
    assert said() == [("firing", [("firing", "a"), ("firing", "b"), ("firing", "c")])]
    assert Mention.objects.filter(delivery=Delivery.objects.get()).count() == 3
    assert Delivery.objects.get().body["summary"] == "3 firing, 3 of it new"


def test_group__one_more_and_one_over__is_told_after_the_interval_with_what_still_fires(calls: Calls) -> None:
    one = errors(channels=[channel()])
    calls(NOW, route="a", calls=10, errors=9)
    calls(NOW, route="b", calls=10, errors=9)
    evaluation.evaluate(one.pk, now=NOW)
    grouping.flush(now=NOW + 30 * SECOND)
    later = NOW + 2 * MINUTE
    calls(later, route="b", calls=10, errors=9)
    calls(later, route="c", calls=10, errors=9)
    evaluation.evaluate(one.pk, now=later)

    assert grouping.flush(now=NOW + 329 * SECOND) == 0
    assert grouping.flush(now=NOW + 330 * SECOND) == 1

    assert said()[1] == ("firing", [("firing", "c"), ("resolved", "a"), ("firing", "b")])
    assert (Delivery.objects.last().body["firing"], Delivery.objects.last().body["resolved"]) == (2, 1)  # type: ignore[union-attr]


def test_group__all_over__says_so_and_the_next_one_waits_anew(calls: Calls) -> None:
    one = errors(channels=[channel()])
    calls(NOW, route="a", calls=10, errors=9)
    evaluation.evaluate(one.pk, now=NOW)
    grouping.flush(now=NOW + 30 * SECOND)
    evaluation.evaluate(one.pk, now=NOW + 2 * MINUTE)
    grouping.flush(now=NOW + 6 * MINUTE)

    assert said()[1] == ("resolved", [("resolved", "a")])
    assert not Group.objects.exists()
    calls(NOW + 7 * MINUTE, route="a", calls=10, errors=9)
    evaluation.evaluate(one.pk, now=NOW + 7 * MINUTE)
    assert grouping.flush(now=NOW + 7 * MINUTE + 29 * SECOND) == 0
    assert grouping.flush(now=NOW + 7 * MINUTE + 30 * SECOND) == 1


def test_group__over_before_it_was_told__says_nothing(calls: Calls) -> None:
    one = errors(channels=[channel(BY_RULE._replace(wait_s=300))])
    calls(NOW, route="a", calls=10, errors=9)
    evaluation.evaluate(one.pk, now=NOW)
    evaluation.evaluate(one.pk, now=NOW + 2 * MINUTE)

    assert grouping.flush(now=NOW + 5 * MINUTE) == 0
    assert not Mention.objects.filter(settled_at=None).exists()
    assert not Mention.objects.filter(delivery__isnull=False).exists()


def test_group__nothing_new__is_said_again_after_the_repeat_until_somebody_looks_after_it(calls: Calls) -> None:
    one = errors(channels=[channel(BY_RULE._replace(repeat_s=3600))])
    calls(NOW, route="a", calls=10, errors=9)
    evaluation.evaluate(one.pk, now=NOW)
    grouping.flush(now=NOW + 30 * SECOND)
    told_at = NOW + 30 * SECOND

    assert grouping.flush(now=told_at + 3599 * SECOND) == 0
    assert grouping.flush(now=told_at + 3600 * SECOND) == 1

    again = Delivery.objects.last()
    assert again is not None
    assert (again.body["repeated"], again.body["event"]) == (True, "firing")
    silencing.acknowledge(by=SYSTEM, alert=Alert.objects.get(), now=NOW + 60 * MINUTE)
    assert grouping.flush(now=told_at + 7200 * SECOND) == 0


def test_group__its_rule_is_taken_away__is_silent(calls: Calls) -> None:
    one = errors(channels=[channel(BY_RULE._replace(repeat_s=3600))])
    calls(NOW, route="a", calls=10, errors=9)
    evaluation.evaluate(one.pk, now=NOW)
    grouping.flush(now=NOW + 30 * SECOND)

    configuring.archive_rule(by=SYSTEM, rule=one, now=NOW + MINUTE)

    assert grouping.flush(now=NOW + 3 * 60 * MINUTE) == 0
    assert not Group.objects.exists()


def test_group__its_rule_is_switched_off__is_told_of_the_end(calls: Calls) -> None:
    one = errors(channels=[channel(BY_RULE)])
    for route in ("a", "b"):
        calls(NOW, route=route, calls=10, errors=9)
    evaluation.evaluate(one.pk, now=NOW)
    grouping.flush(now=NOW + 30 * SECOND)

    configuring.set_rule_enabled(by=SYSTEM, rule=one, enabled=False)
    evaluation.end_unwatched(now=NOW + MINUTE)
    grouping.flush(now=NOW + 60 * MINUTE)

    said = [(each.body["event"], each.body["summary"]) for each in Delivery.objects.order_by("id")]
    assert said == [("firing", "2 firing, 2 of it new"), ("resolved", "2 resolved, 2 of it new")]


@pytest.mark.parametrize(
    ("by", "messages"), [((), 1), (("rule",), 2), (("severity",), 2), (("label",), 2), (("rule", "label"), 4), (("tenant",), 1)]
)  # fmt: skip
def test_group__cut_by_labels__is_a_message_for_each_of_their_values(
    by: tuple[str, ...], messages: int, calls: Calls
) -> None:
    ops = channel(BY_RULE._replace(by=by))
    rules = [errors(slug, channels=[ops], severity=severity) for slug, severity in (("x", "page"), ("y", "ticket"))]
    for route in ("a", "b"):
        calls(NOW, route=route, calls=10, errors=9)
    for rule in rules:
        evaluation.evaluate(rule.pk, now=NOW)

    assert grouping.flush(now=NOW + 30 * SECOND) == messages
    assert sum(len(alerts) for _, alerts in said()) == 4


def test_grouping__changed_while_it_fires__the_end_is_told(calls: Calls) -> None:
    ops = channel(None)
    one = errors(channels=[ops])
    calls(NOW, route="a", calls=10, errors=9)
    evaluation.evaluate(one.pk, now=NOW)  # told at once, by itself

    grouping.set_grouping(by=SYSTEM, channel=ops, grouping=BY_RULE, now=NOW + SECOND)
    grouping.set_grouping(by=SYSTEM, channel=ops, grouping=BY_RULE._replace(by=("label",)), now=NOW + 2 * SECOND)
    evaluation.evaluate(one.pk, now=NOW + 2 * MINUTE)
    grouping.flush(now=NOW + 10 * MINUTE)

    assert list(Delivery.objects.order_by("id").values_list("body__event", flat=True)) == ["firing", "resolved"]


def test_grouping__ended_while_something_waits__is_told_at_once(calls: Calls) -> None:
    ops = channel()
    one = errors(channels=[ops])
    calls(NOW, route="a", calls=10, errors=9)
    evaluation.evaluate(one.pk, now=NOW)

    grouping.set_grouping(by=SYSTEM, channel=ops, grouping=None, now=NOW + SECOND)
    grouping.flush(now=NOW + 2 * SECOND)
    evaluation.evaluate(one.pk, now=NOW + 2 * MINUTE)
    grouping.flush(now=NOW + 2 * MINUTE)

    assert list(Delivery.objects.order_by("id").values_list("body__event", flat=True)) == ["firing", "resolved"]
    assert not Group.objects.exists()


def test_escalation__to_a_grouped_channel__is_told_with_the_end(calls: Calls) -> None:
    boss = channel()
    one = errors(escalate_to=[boss], escalate_after_s=60, channels=[configuring.create_channel(
        by=SYSTEM, tenant=None, name="first", kind="email", target="first@a.example")])  # fmt: skip
    for minute in range(4):
        calls(NOW + minute * MINUTE, calls=10, errors=9 if minute < 3 else 0)

    for minute in range(4):
        evaluation.evaluate(one.pk, now=NOW + minute * MINUTE)
        grouping.flush(now=NOW + minute * MINUTE + 40 * SECOND)
    grouping.flush(now=NOW + 10 * MINUTE)

    told = Delivery.objects.filter(channel=boss).order_by("id")
    assert list(told.values_list("body__event", flat=True)) == ["escalated", "resolved"]


def test_message__of_a_group__is_read_by_webhooks_slack_and_mail(calls: Calls, hook: Hook) -> None:
    ops = channel(kind="webhook", target=hook.url, allow_private=True)
    one = errors(channels=[ops])
    for route in ("a", "b"):
        calls(NOW, route=route, calls=10, errors=9)
    evaluation.evaluate(one.pk, now=NOW)
    grouping.flush(now=NOW + 30 * SECOND)

    delivering.deliver(now=NOW + 31 * SECOND)

    body = json.loads(hook.got[0][1])
    assert (body["group"], body["firing"], body["rule"]) == ({"rule": "/errors"}, 2, "/errors")
    assert senders.title_of(body) == "[ticket] firing: errors (2 firing)"
    assert "errors (b)" in senders.slack_body(body)["text"]
    Channel.objects.update(kind="email", target="ops@a.example")
    senders.send(Delivery(channel=Channel.objects.get(), body=body))
    assert "firing: errors (a): " in mail.outbox[0].body


def test_message__of_very_many__says_how_many_are_left_out(calls: Calls) -> None:
    one = errors(channels=[channel()])
    for number in range(130):
        calls(NOW, route=f"r{number:03}", calls=10, errors=9)
    evaluation.evaluate(one.pk, now=NOW)

    grouping.flush(now=NOW + 30 * SECOND)

    body = Delivery.objects.get().body
    assert (len(body["alerts"]), body["omitted"], body["firing"]) == (100, 30, 130)
    assert senders.members_of(body)[-1] == "… and 80 more"


def test_history__of_an_alert__says_in_which_message_it_was(calls: Calls) -> None:
    one = errors(channels=[channel()])
    calls(NOW, route="a", calls=10, errors=9)
    evaluation.evaluate(one.pk, now=NOW)
    grouping.flush(now=NOW + 30 * SECOND)

    (change,) = queries.history_of(Alert.objects.get(), 10)

    assert [mention.delivery for mention in change.mentions.all()] == [Delivery.objects.get()]


@pytest.mark.parametrize(
    ("how", "field"),
    [
        (BY_RULE._replace(by=("colour",)), "group_by"),
        (BY_RULE._replace(wait_s=90_000), "group_wait_s"),
        (BY_RULE._replace(interval_s=5), "group_interval_s"),
        (BY_RULE._replace(repeat_s=60), "repeat_interval_s"),
    ],
)
def test_grouping__not_sound__names_the_field(how: Grouping, field: str) -> None:
    ops = channel(None)

    with pytest.raises(Invalid) as refused:
        grouping.set_grouping(by=SYSTEM, channel=ops, grouping=how, now=NOW)

    assert field in refused.value.errors


def test_grouping__of_the_installation__is_not_a_tenants_to_change(acme: Tenant) -> None:
    ops = channel(None)

    with pytest.raises(Forbidden):
        grouping.set_grouping(by=Asker("gus", Role.OPERATOR, acme), channel=ops, grouping=BY_RULE, now=NOW)
    with pytest.raises(Forbidden):
        grouping.set_grouping(by=Asker("vera", Role.VIEWER), channel=ops, grouping=BY_RULE, now=NOW)


def test_group__the_clock_was_an_hour_ahead__speaks_all_the_same(calls: Calls) -> None:
    one = errors(channels=[channel()])
    later = NOW + 60 * MINUTE
    calls(later, route="a", calls=10, errors=9)
    evaluation.evaluate(one.pk, now=later)

    assert grouping.flush(now=NOW) == 1
    assert grouping.flush(now=NOW + SECOND) == 0
    assert said() == [("firing", [("firing", "a")])]

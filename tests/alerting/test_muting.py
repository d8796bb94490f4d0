"""Who is told more, later, or nothing: escalation, inhibition, maintenance; each notification once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from controlplane.alerting import queries
from controlplane.alerting.actions import configuring, evaluation, silencing
from controlplane.alerting.models import Alert, Change, Channel, Delivery, Rule
from controlplane.problems import Invalid
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import SYSTEM
from tests.alerting.conftest import NOW, Calls

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


@pytest.fixture
def people(db: None) -> dict[str, Channel]:
    return {
        name: configuring.create_channel(by=SYSTEM, tenant=None, name=name, kind="email", target=f"{name}@a.example")
        for name in ("first", "boss")
    }


def errors(slug: str = "errors", **more: object) -> Rule:
    spec = {"metric": "error_rate", "value": 0.1, "window_s": 60, "by": "route"}
    fields = {"tenant": None, "slug": slug, "name": slug, "kind": "threshold", "spec": spec, **more}
    return configuring.put_rule(by=SYSTEM, **fields)  # type: ignore[arg-type]  # fields by name


def sent() -> list[tuple[str, str, str]]:
    return [(each.body["event"], each.body["label"], each.channel.name) for each in Delivery.objects.order_by("id")]


def test_escalation__nobody_takes_it__tells_more_people_once_and_them_of_the_end(
    calls: Calls, people: dict[str, Channel]
) -> None:
    one = errors(channels=[people["first"]], escalate_after_s=120, escalate_to=[people["boss"]])
    for minute in range(6):
        calls(NOW + minute * MINUTE, calls=10, errors=9 if minute < 5 else 0)

    for minute in range(6):
        evaluation.evaluate(one.pk, now=NOW + minute * MINUTE)

    assert sent() == [
        ("firing", "chat", "first"), ("escalated", "chat", "boss"), ("resolved", "chat", "first"), ("resolved", "chat", "boss")
    ]  # fmt: skip
    assert list(Change.objects.order_by("id").values_list("told", flat=True)) == ["firing", "escalated", "resolved"]
    assert Alert.objects.get().escalated_at is None


def test_escalation__somebody_took_it__tells_nobody_else(calls: Calls, people: dict[str, Channel]) -> None:
    one = errors(channels=[people["first"]], escalate_after_s=60, escalate_to=[people["boss"]])
    for minute in range(4):
        calls(NOW + minute * MINUTE, calls=10, errors=9)
    evaluation.evaluate(one.pk, now=NOW)
    silencing.acknowledge(by=SYSTEM, alert=Alert.objects.get(), now=NOW)

    for minute in range(1, 4):
        evaluation.evaluate(one.pk, now=NOW + minute * MINUTE)

    assert sent() == [("firing", "chat", "first")]


def test_escalation__over_while_it_was_silenced__tells_all_of_the_end_afterwards(
    calls: Calls, people: dict[str, Channel]
) -> None:
    one = errors(channels=[people["first"]], escalate_after_s=60, escalate_to=[people["boss"]])
    for minute in range(5):
        calls(NOW + minute * MINUTE, calls=10, errors=9 if minute < 2 else 0)
    for minute in range(2):
        evaluation.evaluate(one.pk, now=NOW + minute * MINUTE)
    silence = silencing.create_silence(
        by=SYSTEM, tenant=None, rule=one, label="", starts_at=NOW + MINUTE, ends_at=NOW + 3 * MINUTE, reason="work"
    )
    evaluation.evaluate(one.pk, now=NOW + 2 * MINUTE)
    assert sent() == [("firing", "chat", "first"), ("escalated", "chat", "boss")]

    evaluation.evaluate(one.pk, now=silence.ends_at)

    assert sent()[2:] == [("resolved", "chat", "first"), ("resolved", "chat", "boss")]
    assert Alert.objects.get().escalated_at is None


def test_inhibition__the_cause_fires__what_follows_from_it_is_told_to_nobody(
    calls: Calls, people: dict[str, Channel]
) -> None:
    cause = errors("cause")
    effect = errors("effect", channels=[people["first"]], inhibited_by=[cause])
    for minute in range(3):
        calls(NOW + minute * MINUTE, route="chat", calls=10, errors=9)
        calls(NOW + minute * MINUTE, route="embed", calls=10, errors=9)
    evaluation.evaluate(cause.pk, now=NOW)
    evaluation.evaluate(effect.pk, now=NOW)

    assert sent() == []
    assert set(effect.alerts.values_list("state", "silenced", "muted_by")) == {("firing", True, "cause fires")}
    configuring.set_rule_enabled(by=SYSTEM, rule=cause, enabled=False)
    evaluation.evaluate(effect.pk, now=NOW + MINUTE)
    assert sent() == [("firing", "chat", "first"), ("firing", "embed", "first")]


@pytest.mark.parametrize("no_data", ["ok", "alert"])
def test_rule__changed_while_it_fires__tells_of_the_end_only_where_it_is_over(
    no_data: str, calls: Calls, people: dict[str, Channel]
) -> None:
    more: dict[str, Any] = {"channels": [people["first"]], "no_data": no_data}
    one = errors(**more)
    for minute in range(4):
        calls(NOW + minute * MINUTE, route="chat", calls=10, errors=9)
        calls(NOW + minute * MINUTE, route="embed", calls=10, errors=3)
    evaluation.evaluate(one.pk, now=NOW)
    silencing.acknowledge(by=SYSTEM, alert=Alert.objects.get(label="chat"), now=NOW)
    fired = [("firing", "chat", "first"), ("firing", "embed", "first")]
    assert sent() == fired

    errors(**more, spec={"metric": "error_rate", "value": 0.5, "window_s": 60, "by": "route"})
    evaluation.evaluate(one.pk, now=NOW + MINUTE)
    assert sent() == [*fired, ("resolved", "embed", "first")]
    chat = Alert.objects.get(label="chat")
    assert (chat.state, chat.acknowledged_by) == ("firing", SYSTEM.name)

    errors(**more, spec={"metric": "error_rate", "value": 0.5, "window_s": 60, "by": "model"})
    evaluation.evaluate(one.pk, now=NOW + 2 * MINUTE)
    assert sent()[3:] == [("resolved", "chat", "first"), ("firing", "m", "first")]
    assert Alert.objects.get(label="chat").acknowledged_at is None


def test_rule__changed_and_still_held_after_its_wait__is_not_told_again(
    calls: Calls, people: dict[str, Channel]
) -> None:
    one = errors(channels=[people["first"]])
    for minute in range(4):
        calls(NOW + minute * MINUTE, calls=10, errors=9)
    evaluation.evaluate(one.pk, now=NOW)

    errors(
        channels=[people["first"]], for_s=60, spec={"metric": "error_rate", "value": 0.5, "window_s": 60, "by": "route"}
    )
    for minute, state in ((1, "pending"), (2, "firing")):
        evaluation.evaluate(one.pk, now=NOW + minute * MINUTE)
        assert Alert.objects.get().state == state

    assert sent() == [("firing", "chat", "first")]


@pytest.mark.parametrize("how", ["off", "archived", "tenant"])
def test_rule__looked_at_no_more_while_it_fires__tells_all_who_were_told_once(
    how: str, calls: Calls, people: dict[str, Channel], acme: Tenant
) -> None:
    one = errors(channels=[people["first"]], tenant=acme, escalate_after_s=60, escalate_to=[people["boss"]])
    errors("pending", tenant=acme, for_s=600)
    for minute in range(2):
        calls(NOW + minute * MINUTE, calls=10, errors=9)
        for rule in Rule.objects.all():
            evaluation.evaluate(rule.pk, now=NOW + minute * MINUTE)
    assert evaluation.end_unwatched(now=NOW + MINUTE) == 0
    for rule in Rule.objects.all():
        if how == "off":
            configuring.set_rule_enabled(by=SYSTEM, rule=rule, enabled=False)
        elif how == "archived":
            configuring.archive_rule(by=SYSTEM, rule=rule, now=NOW + MINUTE)
    Tenant.objects.update(archived_at=NOW if how == "tenant" else None)

    ended = [evaluation.end_unwatched(now=NOW + 2 * MINUTE) for _ in range(2)]

    assert ended == [2, 0]
    assert sent()[2:] == [("resolved", "chat", "first"), ("resolved", "chat", "boss")]
    assert set(Alert.objects.values_list("rule__slug", "state")) == {("errors", "resolved"), ("pending", "inactive")}
    assert Delivery.objects.latest("id").body["summary"].startswith("The ")
    assert one.alerts.get().changes.count() == 3


def test_channels__told_at_once_or_by_escalation__count_the_rules_that_tell_them(people: dict[str, Channel]) -> None:
    first, boss = people["first"], people["boss"]
    errors("one", channels=[first], escalate_after_s=60, escalate_to=[boss])
    errors("two", channels=[first, boss], escalate_after_s=60, escalate_to=[boss])
    gone = errors("gone", channels=[first])
    configuring.archive_rule(by=SYSTEM, rule=gone, now=NOW)
    configuring.create_channel(by=SYSTEM, tenant=None, name="idle", kind="email", target="i@a.example")

    found = {each.name: each.used for each in queries.channels_with_news(SYSTEM)}  # type: ignore[attr-defined]

    assert found == {"boss": 2, "first": 2, "idle": 0}


def test_due_rules__one_that_inhibits_others__comes_first() -> None:
    effect = errors("effect")
    cause = errors("cause")
    errors("effect", inhibited_by=[cause])

    assert evaluation.due_rules(NOW) == [cause.pk, effect.pk]


def test_due_rules__of_a_tenant_that_is_gone__are_none(acme: Tenant) -> None:
    errors(tenant=acme)
    acme.archived_at = NOW
    acme.save()

    assert evaluation.due_rules(NOW) == []
    assert list(queries.rules_seen_by(SYSTEM)) == []


def test_maintenance__that_repeats__mutes_every_time_until_it_is_ended(
    calls: Calls, people: dict[str, Channel]
) -> None:
    one = errors(channels=[people["first"]])
    plan = silencing.create_silence(
        by=SYSTEM, tenant=None, rule=None, label="*", starts_at=NOW - 2 * MINUTE, ends_at=NOW + 2 * MINUTE, reason="upgrade",
        kind="maintenance", repeats="day",
    )  # fmt: skip
    tomorrow = NOW + timedelta(days=1)
    for at in (tomorrow, tomorrow + MINUTE):
        calls(at, calls=10, errors=9)

    evaluation.evaluate(one.pk, now=tomorrow)
    assert Alert.objects.get().muted_by == "maintenance, upgrade"
    assert [each.pk for each in queries.silences_seen_by(SYSTEM, tomorrow)] == [plan.pk]
    silencing.end_silence(by=SYSTEM, silence=plan, now=tomorrow)
    evaluation.evaluate(one.pk, now=tomorrow + MINUTE)

    assert sent() == [("firing", "chat", "first")]
    assert list(queries.silences_seen_by(SYSTEM, tomorrow)) == []


@pytest.mark.parametrize("more", [{"repeats": "odd"}, {"kind": "odd"}, {"repeats": "day"}])
def test_maintenance__that_makes_no_sense__is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        silencing.create_silence(
            by=SYSTEM, tenant=None, rule=None, label="*", starts_at=NOW, ends_at=NOW + timedelta(days=1), reason="x", **more
        )  # fmt: skip

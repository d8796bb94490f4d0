"""Rules and service levels are put, alerts acknowledged: by whom, and what makes no sense."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from controlplane.alerting import queries
from controlplane.alerting.actions import configuring, delivering, evaluation, silencing
from controlplane.alerting.models import Alert, Channel, Rule
from controlplane.problems import Conflict, Forbidden, Invalid, NotFound
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import Role, Tenant
from controlplane.tenancy.queries import SYSTEM, Asker
from tests.alerting.conftest import NOW, Calls
from tests.alerting.watching import ERRORS, look, rule

pytestmark = pytest.mark.django_db


def test_put_rule__another_condition__starts_anew(calls: Calls) -> None:
    one = rule()
    calls(NOW, calls=10, errors=9)
    look(one)
    before = Alert.objects.get().state

    rule({**ERRORS, "value": 0.5})

    assert (before, Alert.objects.get().state) == ("firing", "inactive")


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"kind": "odd"}, "kind"),
        ({"spec": {"metric": "odd", "value": 1}}, "spec.metric"),
        ({"spec": {**ERRORS, "window_s": 1}}, "spec.window_s"),
        ({"spec": {**ERRORS, "more": 1}}, "spec"),
        ({"for_s": -1}, "for_s"),
        ({"every_s": 1}, "every_s"),
        ({"severity": "odd"}, "severity"),
        ({"no_data": "odd"}, "no_data"),
        ({"slug": "No Name"}, "slug"),
    ],
)
def test_put_rule__what_makes_no_sense__is_refused_by_field(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        rule(**wrong)
    assert list(refused.value.errors) == [field]


def test_rules__viewer_outsider_and_operator__have_what_is_theirs(acme: Tenant) -> None:
    globex = Asker("g", Role.OPERATOR, create_tenant(by=SYSTEM, slug="globex", name="Globex"))
    one = rule(tenant=acme)

    with pytest.raises(Forbidden):
        configuring.archive_rule(by=Asker("v", Role.VIEWER), rule=one, now=NOW)
    with pytest.raises(Forbidden):
        configuring.put_rule(by=globex, tenant=None, slug="x", name="", kind="threshold", spec=ERRORS)
    with pytest.raises(NotFound):
        queries.rule_seen_by(globex, "acme", "errors")
    assert list(queries.rules_seen_by(globex)) == []
    assert queries.rule_seen_by(Asker("a", Role.VIEWER, acme), "acme", "errors") == one


def test_acknowledge__an_alert_that_fires__lasts_until_it_is_over(calls: Calls) -> None:
    one = rule()
    calls(NOW, calls=10, errors=9)
    calls(NOW + timedelta(minutes=2), calls=10)
    look(one)
    alert = Alert.objects.get()

    silencing.acknowledge(by=SYSTEM, alert=alert, now=NOW)
    assert queries.firing_count(SYSTEM) == 0
    look(one, 2)
    alert.refresh_from_db()

    assert (alert.state, alert.acknowledged_by) == ("resolved", "")
    with pytest.raises(Conflict):
        silencing.acknowledge(by=SYSTEM, alert=alert, now=NOW)


def test_acknowledge__for_a_time__ends_with_it_though_the_alert_goes_on(calls: Calls) -> None:
    one = rule()
    for minute in range(3):
        calls(NOW + timedelta(minutes=minute), calls=10, errors=9)
    look(one)
    with pytest.raises(Invalid):
        silencing.acknowledge(by=SYSTEM, alert=Alert.objects.get(), now=NOW, until=NOW)
    silencing.acknowledge(by=SYSTEM, alert=Alert.objects.get(), now=NOW, until=NOW + timedelta(minutes=2))

    taken = []
    for minute in (1, 2):
        look(one, minute)
        taken.append(Alert.objects.get().acknowledged_by)

    assert taken == ["system", ""]
    assert queries.firing_count(SYSTEM) == 1


def test_add_usual_rules__twice__makes_them_once_and_they_can_look(calls: Calls) -> None:
    assert configuring.add_usual_rules(by=SYSTEM, tenant=None) == len(configuring.USUAL + configuring.USUAL_OF_SERVER)
    assert configuring.add_usual_rules(by=SYSTEM, tenant=None) == 0
    for one in Rule.objects.all():
        evaluation.evaluate(one.pk, now=NOW)
    assert set(Rule.objects.values_list("fault", flat=True)) == {""}


def test_put_rule__other_groups__forget_what_was_told_to_nobody_and_leave_the_log(
    calls: Calls, channel: Channel
) -> None:
    one = rule(channels=[channel])
    calls(NOW, calls=10, errors=9)
    look(one)
    Alert.objects.update(told="resolved")

    rule({**ERRORS, "by": "route"}, channels=[channel])

    assert not Alert.objects.exists()
    assert [each.body["event"] for each in queries.deliveries_seen_by(SYSTEM)] == ["firing"]
    assert delivering.deliver(now=NOW) == 1


@pytest.mark.parametrize("more", [{"threshold": 1e308}, {"route": "r" * 65}, {"model": "m" * 121}])
def test_put_slo__what_no_query_and_no_column_can_take__is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        configuring.put_slo(
            by=SYSTEM, tenant=None, slug="s", name="", kind="latency", objective=0.9, **{"threshold": 1.0, **more}
        )

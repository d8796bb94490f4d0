"""Alerts and service levels over the management API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from controlplane.alerting.actions import evaluation
from controlplane.alerting.models import Rule
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.queries import SYSTEM
from tests.alerting.conftest import Calls, Hook, calls, hook  # noqa: F401 - fixtures
from tests.api.test_management import Program

pytestmark = pytest.mark.django_db
RULE = {
    "slug": "errors", "name": "Errors", "kind": "threshold", "severity": "page",
    "spec": {"metric": "error_rate", "op": "above", "value": 0.1, "window_s": 300},
}  # fmt: skip


def test_alerts__a_rule_with_a_channel__fires_is_told_acknowledged_and_silenced(calls: Calls, hook: Hook) -> None:  # noqa: F811
    admin = Program("admin")
    channel = admin(
        "post", "alerts/channels/", {"name": "h", "kind": "webhook", "target": hook.url, "allow_private": True}
    )
    tested = admin("post", f"alerts/channels/{channel.json()['id']}/test")
    put = admin("put", "alerts/rules/", {**RULE, "channels": [channel.json()["id"]]})
    calls(timezone.now(), calls=10, errors=9)

    evaluation.evaluate(Rule.objects.get().pk, now=timezone.now())

    (alert,) = admin("get", "alerts/").json()["items"]
    assert (channel.status_code, tested.json()["status"], put.status_code) == (201, "sent", 200)
    assert (alert["state"], alert["rule"], alert["severity"], alert["told"]) == ("firing", "/errors", "page", "firing")
    assert admin("post", f"alerts/{alert['id']}/acknowledge").json()["acknowledged_by"] == "token:admin"
    assert admin("get", "alerts/rules/").json()["items"][0]["states"] == {"": "firing"}
    assert [each["event"] for each in admin("get", "alerts/deliveries/").json()["items"]] == ["firing", "test"]
    ends = (timezone.now() + timedelta(hours=1)).isoformat()
    silence = admin("post", "alerts/silences/", {"rule": "errors", "ends_at": ends, "reason": "work"})
    assert admin("delete", f"alerts/silences/{silence.json()['id']}/").status_code == 204
    assert admin("delete", "alerts/rules/errors/").status_code == 204
    assert admin("get", "alerts/").json() == {"items": []}


def test_alerts__viewers_and_wrong_rules__are_refused() -> None:
    viewer, admin = Program("viewer"), Program("admin")

    wrong = admin("put", "alerts/rules/", {**RULE, "spec": {"metric": "odd", "value": 1}})

    assert (wrong.status_code, list(wrong.json()["errors"])) == (422, ["spec.metric"])
    assert viewer("put", "alerts/rules/", RULE).status_code == 403
    assert viewer("get", "alerts/").json() == {"items": []}
    assert viewer("get", "slos/none/").status_code == 404


def test_backtest__a_rule__tells_when_it_would_have_fired(calls: Calls) -> None:  # noqa: F811
    now = timezone.now().replace(second=0, microsecond=0)
    for minutes in range(0, 30, 5):
        calls(now - timedelta(hours=30, minutes=minutes), 0, calls=10, errors=9)
    calls(now - timedelta(hours=2), 0, calls=10)

    told = Program("viewer")("post", "alerts/rules/backtest", {"kind": RULE["kind"], "spec": RULE["spec"]}).json()

    assert len(told["episodes"]) == 1
    assert told["measured"] == 7
    refused = Program("viewer")("post", "alerts/rules/backtest", {"kind": "budget", "spec": {}})
    assert refused.status_code == 422


def test_slos__put_and_read__tell_the_budget(calls: Calls) -> None:  # noqa: F811
    create_tenant(by=SYSTEM, slug="acme", name="Acme")
    admin = Program("admin")
    calls(timezone.now(), calls=1000, errors=5)

    put = admin("put", "slos/", {"tenant": "acme", "slug": "chat", "objective": 0.99})
    told = admin("get", "slos/chat/?tenant=acme").json()

    assert put.json()["tenant"] == told["tenant"] == "acme"
    assert (told["calls"], told["bad"], told["good"]) == (1000, 5, 0.995)
    assert told["budget_left"] == pytest.approx(0.5)
    assert told["burn_rates"]["3600"] == pytest.approx(0.5)
    assert admin("put", "slos/", {"slug": "x", "objective": 2}).status_code == 422
    assert admin("delete", "slos/chat/?tenant=acme").status_code == 204


def test_rules__with_escalation_inhibition_and_maintenance__are_put_and_read_back() -> None:
    admin = Program("admin")
    create_tenant(by=SYSTEM, slug="acme", name="Acme")
    mail = admin("post", "alerts/channels/", {"name": "m", "kind": "email", "target": "a@a.example"}).json()["id"]
    admin("put", "alerts/rules/", {**RULE, "slug": "cause"})

    put = admin(
        "put",
        "alerts/rules/",
        {**RULE, "escalate_after_s": 600, "escalate_to": [mail], "inhibited_by": ["cause"]},
    ).json()
    plan = admin(
        "post",
        "alerts/silences/",
        {"tenant": "acme", "starts_at": "2031-01-01T10:00Z", "ends_at": "2031-01-01T11:00Z", "reason": "upgrade",
         "kind": "maintenance", "repeats": "week"},
    ).json()  # fmt: skip

    assert (put["escalate_after_s"], put["escalate_to"], put["inhibited_by"]) == (600, [mail], ["cause"])
    assert (plan["kind"], plan["repeats"], plan["tenant"]) == ("maintenance", "week", "acme")
    assert [each["id"] for each in admin("get", "alerts/silences/").json()["items"]] == [plan["id"]]


def test_backtest__by_route_through_the_eyes_of_a_tenant__names_what_would_have_fired(calls: Calls) -> None:  # noqa: F811
    admin = Program("admin")
    create_tenant(by=SYSTEM, slug="acme", name="Acme")
    now = timezone.now()
    for tenant, route in (("acme", "chat"), ("globex", "embed")):
        calls(now, 3600, tenant=tenant, route=route, calls=100, errors=50)

    asked = {"tenant": "acme", "kind": "threshold", "spec": {**RULE["spec"], "by": "route"}}  # type: ignore[dict-item]
    found = admin("post", "alerts/rules/backtest", asked).json()

    assert [each["label"] for each in found["episodes"]] == ["chat"]


def test_channel__grouped__says_how_and_is_refused_what_is_not_sound() -> None:
    admin = Program("admin")
    number = admin("post", "alerts/channels/", {"name": "m", "kind": "email", "target": "a@a.example"}).json()["id"]

    grouped = admin("put", f"alerts/channels/{number}/grouping", {"group_by": ["tenant", "rule"], "group_wait_s": 10})
    refused = admin("put", f"alerts/channels/{number}/grouping", {"group_interval_s": 1})
    outsider = Program("viewer")("put", f"alerts/channels/{number}/grouping", {})
    single = admin("put", f"alerts/channels/{number}/grouping", {"grouped": False})

    assert (grouped.json()["group_by"], grouped.json()["group_wait_s"]) == (["rule", "tenant"], 10)
    assert (refused.status_code, list(refused.json()["errors"])) == (422, ["group_interval_s"])
    assert outsider.status_code == 403
    assert (single.json()["grouped"], single.json()["group_by"]) == (False, ["rule", "tenant"])


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"ends_at": "2026-11-26T09:00:00"}, "ends_at"),
        ({"starts_at": "2026-11-26T09:00:00"}, "starts_at"),
        ({"starts_at": "9999-12-31T00:00:00Z", "ends_at": "9999-12-31T23:59:59Z", "label": "x" * 201}, "label"),
    ],
)
def test_silences__times_without_a_zone_and_labels_that_are_too_long__are_refused(
    said: dict[str, Any], field: str
) -> None:
    answer = Program("admin")("post", "alerts/silences/", {"ends_at": "2026-11-26T09:00:00Z", "reason": "work", **said})

    assert answer.status_code == 422
    assert field in str(answer.json()["errors"])


def test_silences__at_the_end_of_time__are_as_good_as_any() -> None:
    admin, said = (
        Program("admin"),
        {"starts_at": "9999-12-31T00:00:00Z", "ends_at": "9999-12-31T23:59:59Z", "reason": "work"},
    )

    assert admin("post", "alerts/silences/", said).status_code == 201
    assert len(admin("get", "alerts/silences/").json()["items"]) == 1

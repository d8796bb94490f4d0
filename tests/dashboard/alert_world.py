"""Alerts of the small world: rules that fire, are pending and at rest, channels, a silence, service levels."""

from __future__ import annotations

from datetime import datetime, timedelta

from controlplane.alerting.actions import configuring, evaluation, silencing
from controlplane.alerting.models import Alert, Delivery, Rule
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import SYSTEM


def make(acme: Tenant, globex: Tenant, now: datetime) -> None:
    """Every state comes from looking at the calls of the world."""
    hook = configuring.create_channel(
        by=SYSTEM, tenant=None, name="on-call", kind="webhook", target="https://hooks.example.com/tidegate"
    )
    mail = configuring.create_channel(by=SYSTEM, tenant=acme, name="acme-mail", kind="email", target="ops@acme.example")
    rules = [
        configuring.put_rule(
            by=SYSTEM, tenant=acme, slug="model-errors", name="Calls of a model fail", kind="threshold", severity="page",
            spec={"metric": "error_rate", "value": 0.05, "window_s": 120, "by": "model", "min_calls": 5},
            channels=[hook, mail], escalate_after_s=900, escalate_to=[mail],
        ),
        configuring.put_rule(
            by=SYSTEM, tenant=acme, slug="slow", name="Calls are slow", kind="threshold", for_s=3600,
            spec={"metric": "latency_p99_ms", "value": 10, "window_s": 300},
        ),
        configuring.put_rule(
            by=SYSTEM, tenant=globex, slug="trial-spent", name="Globex spends its budgets", kind="budget", spec={"used": 1.0},
            channels=[hook],
        ),
        configuring.put_rule(
            by=SYSTEM, tenant=None, slug="breakers", name="Breakers are open", kind="fleet", severity="page",
            spec={"what": "breakers_open"}, channels=[hook],
        ),
        configuring.put_rule(
            by=SYSTEM, tenant=acme, slug="chat-burns", name="The service level of chat burns", kind="burn_rate",
            spec={"slo": "chat"}, channels=[hook],
        ),
    ]  # fmt: skip
    configuring.put_slo(
        by=SYSTEM, tenant=acme, slug="chat", name="Chat answers", kind="availability", objective=0.99, route="chat"
    )
    configuring.put_slo(
        by=SYSTEM, tenant=acme, slug="quick", name="Chat is quick", kind="latency", objective=0.95, threshold=900,
        route="chat", days=7,
    )  # fmt: skip
    configuring.put_slo(
        by=SYSTEM, tenant=globex, slug="cheap", name="Globex is cheap", kind="cost", objective=0.9, threshold=0.004
    )
    silencing.create_silence(
        by=SYSTEM, tenant=globex, rule=rules[2], label="*", starts_at=now - timedelta(hours=1),
        ends_at=now + timedelta(hours=2), reason="the trial is over, sales knows",
    )  # fmt: skip
    for rule in rules:
        evaluation.evaluate(rule.pk, now=now)
    Delivery.objects.update(status="sent", attempts=1, sent_at=now, answer="200 ok")
    assert Alert.objects.filter(state="firing").count() >= 3
    assert not Rule.objects.exclude(fault="").exists()

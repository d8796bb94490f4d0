"""A rule over errors, and looking at it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from controlplane.alerting.actions import configuring, evaluation
from controlplane.alerting.models import Rule
from controlplane.tenancy.queries import SYSTEM
from tests.alerting.conftest import NOW

ERRORS = {"metric": "error_rate", "op": "above", "value": 0.1, "window_s": 60}


def rule(spec: dict[str, Any] | None = None, kind: str = "threshold", **more: Any) -> Rule:
    fields = {"tenant": None, "slug": "errors", "name": "Errors", **more}
    return configuring.put_rule(by=SYSTEM, kind=kind, spec=spec if spec is not None else ERRORS, **fields)


def look(one: Rule, minutes: float = 0) -> dict[str, str]:
    evaluation.evaluate(one.pk, now=NOW + timedelta(minutes=minutes))
    return dict(one.alerts.values_list("label", "state"))

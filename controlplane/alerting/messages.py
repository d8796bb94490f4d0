"""What receivers are told: of one change, or of all that is new in a group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from controlplane.alerting.models import Alert, Change, Rule, Severity

MOST_MEMBERS = 100  # in one message; how many more there are is said
_RANK = {Severity.PAGE.value: 2, Severity.TICKET.value: 1, Severity.INFO.value: 0}
Body = dict[str, Any]


def body_of(rule: Rule, alert: Alert, change: Change) -> Body:
    """Return what receivers are told of a change."""
    return {
        "event": change.told,
        "rule": rule.full_name,
        "name": rule.name,
        "severity": rule.severity,
        "label": alert.label,
        "state": change.state,
        "before": change.before,
        "value": change.value,
        "summary": change.summary,
        "at": change.at.isoformat(),
        "change": change.pk,
    }


def labels_of(body: Mapping[str, Any]) -> dict[str, str]:
    """Return what alerts are grouped by."""
    return {
        "rule": body["rule"],
        "severity": body["severity"],
        "tenant": body["rule"].partition("/")[0],
        "label": body["label"],
    }


def group_body(
    key: Mapping[str, str], firing: Sequence[Body], over: Sequence[Body], fresh: int, now: datetime, *, repeated: bool
) -> Body:
    """Return one message for all that fires of a group, the new ones first, and all that is over.

    It has the fields of a message of one change, so that whoever reads only those is told right; ``alerts`` are the single ones.
    """
    alerts = [*firing[:fresh], *over, *firing[fresh:]]
    head = alerts[0]
    event = "resolved" if not firing else "firing"
    if len(alerts) == 1:
        named = {**head, "event": event if repeated else head["event"]}
    else:
        names = {each["name"] for each in alerts}
        rules = {each["rule"] for each in alerts}
        counted = [f"{len(firing)} firing"] if firing else []
        counted += [f"{len(over)} resolved"] if over else []
        named = {
            "event": event,
            "rule": rules.pop() if len(rules) == 1 else "",
            "name": names.pop() if len(names) == 1 else f"{len(names)} rules",
            "severity": max((each["severity"] for each in alerts), key=lambda each: _RANK.get(each, 0)),
            "label": ", ".join(counted),
            "state": event,
            "before": "",
            "value": None,
            "summary": ", ".join(counted) + (", as before" if repeated else f", {fresh + len(over)} of it new"),
            "at": now.isoformat(),
            "change": None,
        }
    shown = alerts[:MOST_MEMBERS]
    more = {"firing": len(firing), "resolved": len(over), "repeated": repeated, "omitted": len(alerts) - len(shown)}
    return {**named, "group": dict(key), **more, "alerts": shown}

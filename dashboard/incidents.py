"""The banner of every page: what fires now, the worst first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from django.urls import reverse

from controlplane.alerting.models import Alert
from dashboard.alert_words import SEVERITIES
from dashboard.asking import Asking


@dataclass(frozen=True)
class Incident:
    """``tone`` is that of the worst alert that nobody looks after; ``mute`` when somebody looks after each."""

    count: int
    waiting: int
    title: str
    why: str
    since: datetime | None
    tone: str
    link: str


def incident_of(asking: Asking) -> Incident | None:
    """Return what fires and is not silenced; ``None`` when nothing does."""
    firing = sorted(asking.firing, key=_worst_first)
    if not firing:
        return None
    worst = firing[0]
    waiting = sum(each.acknowledged_at is None for each in firing)
    label = f" · {worst.label}" if worst.label else ""
    return Incident(
        count=len(firing),
        waiting=waiting,
        title=f"{worst.rule.name}{label}",
        why=worst.summary,
        since=worst.since,
        tone=SEVERITIES[worst.rule.severity][1] if waiting else "mute",
        link=f"{reverse('alerts')}?{urlencode({'alert': worst.pk})}",
    )


def _worst_first(alert: Alert) -> tuple[bool, int, float]:
    since = alert.since.timestamp() if alert.since else 0.0
    return alert.acknowledged_at is not None, list(SEVERITIES).index(alert.rule.severity), since

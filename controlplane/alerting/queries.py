"""Reads of rules, alerts, channels, silences and service levels, each through the eyes of the one who asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import TypeVar

from django.db.models import Model, Q, QuerySet

from controlplane.alerting.levels import burn_rates, slo_count
from controlplane.alerting.models import Alert, Channel, Delivery, Rule, Silence, Slo
from controlplane.domain.alerts import ON, State
from controlplane.domain.slo import BURNS, Burn, Count, budget_left, burn_rate, burns, exhausted_in_s
from controlplane.problems import NotFound
from controlplane.tenancy.queries import Asker

M = TypeVar("M", bound=Model)
SHOWN = (*ON, State.PENDING, State.NO_DATA, State.ERROR)
_SINCE_RESOLVED = timedelta(hours=1)


def _seen(asker: Asker, rows: QuerySet[M], path: str = "tenant") -> QuerySet[M]:
    return rows.filter(**{f"{path}__lineage__contains": [asker.tenant.pk]}) if asker.tenant else rows


def rules_seen_by(asker: Asker) -> QuerySet[Rule]:
    """Return the live rules in the asker's scope; the unrestricted also see the installation's own."""
    rules = Rule.objects.filter(archived_at=None).select_related("tenant").prefetch_related("channels", "alerts")
    return _seen(asker, rules).order_by("tenant__slug", "slug")


def rule_seen_by(asker: Asker, tenant: str | None, slug: str) -> Rule:
    """Return one rule; ``NotFound`` outside the asker's scope."""
    found = rules_seen_by(asker).filter(slug=slug, tenant__slug=tenant).first()
    if found is None:
        raise NotFound(f"There is no rule {slug!r} of {tenant or 'the installation'} that you may see.")
    return found


def alerts_seen_by(asker: Asker, *, now: datetime, every: bool = False) -> QuerySet[Alert]:
    """Return alerts that are in a state worth a look, those resolved in the last hour too; ``every`` one if asked for."""
    alerts = Alert.objects.filter(rule__archived_at=None).select_related("rule", "rule__tenant")
    alerts = _seen(asker, alerts, "rule__tenant").order_by("-since", "id")
    if every:
        return alerts
    return alerts.filter(
        Q(state__in=[each.value for each in SHOWN]) | Q(state=State.RESOLVED, since__gte=now - _SINCE_RESOLVED)
    )


def alert_seen_by(asker: Asker, pk: int) -> Alert:
    """Return one alert; ``NotFound`` outside the asker's scope."""
    alerts = Alert.objects.filter(rule__archived_at=None, pk=pk).select_related("rule", "rule__tenant")
    found = _seen(asker, alerts, "rule__tenant").first()
    if found is None:
        raise NotFound("There is no such alert that you may see.")
    return found


def firing_count(asker: Asker) -> int:
    """Return how many alerts fire and are neither silenced nor acknowledged."""
    alerts = Alert.objects.filter(rule__archived_at=None, rule__enabled=True, silenced=False, acknowledged_at=None)
    return _seen(asker, alerts.filter(state__in=[each.value for each in ON]), "rule__tenant").count()


def channels_seen_by(asker: Asker) -> QuerySet[Channel]:
    channels = Channel.objects.filter(archived_at=None).select_related("tenant")
    return _seen(asker, channels).order_by("tenant__slug", "name")


def channel_seen_by(asker: Asker, pk: int) -> Channel:
    found = channels_seen_by(asker).filter(pk=pk).first()
    if found is None:
        raise NotFound("There is no such channel that you may see.")
    return found


def silences_seen_by(asker: Asker, now: datetime) -> QuerySet[Silence]:
    """Return silences that are in force or to come, those that end first at the top."""
    silences = Silence.objects.filter(ends_at__gt=now).select_related("tenant", "rule")
    return _seen(asker, silences).order_by("ends_at")


def silence_seen_by(asker: Asker, pk: int) -> Silence:
    found = _seen(asker, Silence.objects.filter(pk=pk)).first()
    if found is None:
        raise NotFound("There is no such silence that you may see.")
    return found


def deliveries_seen_by(asker: Asker) -> QuerySet[Delivery]:
    """Return the log of what was sent, the newest first."""
    found = Delivery.objects.select_related("channel", "change", "change__alert", "change__alert__rule")
    return _seen(asker, found, "channel__tenant").order_by("-id")


def slos_seen_by(asker: Asker) -> QuerySet[Slo]:
    slos = Slo.objects.filter(archived_at=None).select_related("tenant")
    return _seen(asker, slos).order_by("tenant__slug", "slug")


def slo_seen_by(asker: Asker, tenant: str | None, slug: str) -> Slo:
    found = slos_seen_by(asker).filter(slug=slug, tenant__slug=tenant).first()
    if found is None:
        raise NotFound(f"There is no service level {slug!r} of {tenant or 'the installation'} that you may see.")
    return found


def silenced(rule: Rule, label: str, silences: Sequence[Silence], now: datetime) -> bool:
    """Return whether one of ``silences`` is in force for an alert."""
    lineage = rule.tenant.lineage if rule.tenant else []
    return any(
        each.starts_at <= now < each.ends_at
        and (each.rule_id is None or each.rule_id == rule.pk)
        and (each.tenant_id is None or each.tenant_id in lineage)
        and fnmatchcase(label, each.label or "*")
        for each in silences
    )


@dataclass(frozen=True)
class Standing:
    """Where a service level is in its window: ``left`` of 1 is all of the error budget, below 0 is overspent."""

    slo: Slo
    count: Count
    left: float | None
    rates: dict[int, float | None]
    burn: Burn | None
    gone_in_s: float | None

    @property
    def good(self) -> float | None:
        """The share of calls that were good."""
        return 1 - self.count.bad / self.count.total if self.count.total else None

    @property
    def tone(self) -> str:
        if self.left is None:
            return "mute"
        if self.left <= 0 or (self.burn is not None and self.burn.severity == "page"):
            return "trouble"
        return "watch" if self.left < 0.25 or self.burn is not None else "ok"


def standing_of(slo: Slo, now: datetime) -> Standing:
    """Return where a service level stands."""
    count = slo_count(slo, now - timedelta(days=slo.days), now)
    rates = burn_rates(slo, now)
    left = budget_left(count, slo.objective)
    pace = rates[BURNS[1].long_s]
    return Standing(slo, count, left, rates, burns(rates, slo.objective), exhausted_in_s(left, pace, slo.days * 86_400))


@dataclass(frozen=True)
class BurnPoint:
    """One step of the course of a budget: what was left of it, and how fast it burned in that step."""

    at: datetime
    left: float | None
    rate: float | None
    count: Count


def burn_course(slo: Slo, now: datetime, steps: int = 56) -> list[BurnPoint]:
    """Return how the budget of the window was spent, the oldest step first."""
    whole = timedelta(days=slo.days)
    since = now - whole
    length = whole / steps
    counts = [slo_count(slo, since + length * number, since + length * (number + 1)) for number in range(steps)]
    total = sum(count.total for count in counts)
    allowed = total * (1 - slo.objective)
    points, bad = [], 0
    for number, count in enumerate(counts, 1):
        bad += count.bad
        left = 1 - bad / allowed if allowed else None
        points.append(BurnPoint(since + length * number, left, burn_rate(count, slo.objective), count))
    return points

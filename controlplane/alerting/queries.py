"""Reads of rules, alerts, channels, silences and service levels, each through the eyes of the one who asks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import TypeVar

from django.db.models import Count as CountOf
from django.db.models import Model, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from controlplane.alerting.models import Alert, Change, Channel, Delivery, Rule, Silence, Slo
from controlplane.domain.alert_mutes import inhibitor
from controlplane.domain.alerts import ON, State
from controlplane.problems import NotFound
from controlplane.tenancy.queries import Asker

M = TypeVar("M", bound=Model)
SHOWN = (*ON, State.PENDING, State.NO_DATA, State.ERROR)
_LIVE = Q(tenant=None) | Q(tenant__archived_at=None)
_LIVE_RULE = Q(rule__tenant=None) | Q(rule__tenant__archived_at=None)
_SINCE_RESOLVED = timedelta(hours=1)


def _seen(asker: Asker, rows: QuerySet[M], path: str = "tenant") -> QuerySet[M]:
    return rows.filter(**{f"{path}__lineage__contains": [asker.tenant.pk]}) if asker.tenant else rows


def rules_seen_by(asker: Asker) -> QuerySet[Rule]:
    """Return the live rules in the asker's scope; the unrestricted also see the installation's own."""
    rules = (
        Rule.objects.filter(_LIVE, archived_at=None)
        .select_related("tenant")
        .prefetch_related("channels", "escalate_to", "inhibited_by", "alerts")
    )
    return _seen(asker, rules).order_by("tenant__slug", "slug")


def rule_seen_by(asker: Asker, tenant: str | None, slug: str) -> Rule:
    """Return one rule; ``NotFound`` outside the asker's scope."""
    found = rules_seen_by(asker).filter(slug=slug, tenant__slug=tenant).first()
    if found is None:
        raise NotFound(f"There is no rule {slug!r} of {tenant or 'the installation'} that you may see.")
    return found


def alerts_seen_by(asker: Asker, *, now: datetime, every: bool = False) -> QuerySet[Alert]:
    """Return alerts that are in a state worth a look, those resolved in the last hour too; ``every`` one if asked for."""
    alerts = Alert.objects.filter(_LIVE_RULE, rule__archived_at=None).select_related("rule", "rule__tenant")
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


def history_of(alert: Alert, most: int) -> list[Change]:
    """Return what changed in an alert, the newest first, each with what was sent because of it."""
    sent = ("deliveries__channel", "mentions__channel", "mentions__delivery")
    changes = Change.objects.filter(alert=alert).prefetch_related(*sent).order_by("-at", "-id")
    return list(changes[:most])


def firing_count(asker: Asker) -> int:
    """Return how many alerts fire and are neither silenced nor acknowledged."""
    alerts = Alert.objects.filter(
        _LIVE_RULE, rule__archived_at=None, rule__enabled=True, silenced=False, acknowledged_at=None
    )
    return _seen(asker, alerts.filter(state__in=[each.value for each in ON]), "rule__tenant").count()


def channels_seen_by(asker: Asker) -> QuerySet[Channel]:
    channels = Channel.objects.filter(_LIVE, archived_at=None).select_related("tenant")
    return _seen(asker, channels).order_by("tenant__slug", "name")


def channels_with_news(asker: Asker) -> list[Channel]:
    """Return the channels, each with what became of the last delivery: ``last_status``, ``last_at``, ``last_answer``.

    ``used`` is how many rules tell it, at once or when nobody takes what fires.
    """
    telling = Rule.objects.filter(Q(channels=OuterRef("pk")) | Q(escalate_to=OuterRef("pk")), archived_at=None)
    counted = telling.order_by().values("archived_at").annotate(count=CountOf("pk", distinct=True)).values("count")
    newest = Delivery.objects.filter(channel=OuterRef("pk")).order_by("-id")
    return list(
        channels_seen_by(asker).annotate(
            last_status=Subquery(newest.values("status")[:1]),
            last_at=Subquery(newest.values("created_at")[:1]),
            last_answer=Subquery(newest.values("answer")[:1]),
            used=Coalesce(Subquery(counted), 0),
        )[:200]
    )


def channel_seen_by(asker: Asker, pk: int) -> Channel:
    found = channels_seen_by(asker).filter(pk=pk).first()
    if found is None:
        raise NotFound("There is no such channel that you may see.")
    return found


def silences_seen_by(asker: Asker, now: datetime) -> QuerySet[Silence]:
    """Return silences that are in force or to come, those that end first at the top."""
    over = Q(repeats="", ends_at__lte=now) | Q(repeats_until__lt=now, ends_at__lte=now)
    silences = Silence.objects.exclude(over).select_related("tenant", "rule")
    return _seen(asker, silences).order_by("ends_at", "id")


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
    slos = Slo.objects.filter(_LIVE, archived_at=None).select_related("tenant")
    return _seen(asker, slos).order_by("tenant__slug", "slug")


def slo_seen_by(asker: Asker, tenant: str | None, slug: str) -> Slo:
    found = slos_seen_by(asker).filter(slug=slug, tenant__slug=tenant).first()
    if found is None:
        raise NotFound(f"There is no service level {slug!r} of {tenant or 'the installation'} that you may see.")
    return found


def silences_in_force(rule: Rule, now: datetime) -> list[Silence]:
    """Return the silences that are on and may be of alerts of a rule."""
    lineage = rule.tenant.lineage if rule.tenant else []
    owners = Q(tenant=None) | Q(tenant__in=lineage)
    begun = Silence.objects.filter(owners, Q(rule=rule) | Q(rule=None), starts_at__lte=now)
    return [each for each in begun.exclude(repeats="", ends_at__lte=now) if _is_on(each, now)]


def _is_on(silence: Silence, now: datetime) -> bool:
    span = silence.occurrence(now)
    return span is not None and span.starts_at <= now


def inhibitors_of(rule: Rule) -> list[tuple[str, str]]:
    """Return the alerts that fire of the rules that inhibit ``rule``: the rule's name and the alert's label."""
    firing = Alert.objects.filter(
        rule__inhibits=rule, rule__archived_at=None, rule__enabled=True, state__in=[each.value for each in ON]
    )
    return list(firing.order_by("rule__name", "label").values_list("rule__name", "label"))


def _pattern(label: str) -> str:
    """Return the pattern of a silence: of what shells know only ``*``, so that names with brackets are themselves."""
    return label.replace("[", "[[]").replace("?", "[?]") or "*"


def muted_by(label: str, silences: Sequence[Silence], inhibitors: Sequence[tuple[str, str]]) -> str:
    """Return why nobody is to be told of an alert, in words; empty when people are."""
    for each in silences:
        if fnmatchcase(label, _pattern(each.label)):
            return f"{each.get_kind_display().lower()}, {each.reason}"[:200]
    source = inhibitor(label, inhibitors)
    return f"{source} fires"[:200] if source is not None else ""

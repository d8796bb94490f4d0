"""Rules, the alerts that they raise, what changed in them, and who is told: an outbox that is written with the change."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from controlplane.domain.alert_groups import Grouping
from controlplane.domain.alert_mutes import Span, occurrence
from controlplane.domain.alerts import NoData, State, Told
from controlplane.tenancy.models import Tenant


class ChannelKind(models.TextChoices):
    WEBHOOK = "webhook"
    SLACK = "slack"
    EMAIL = "email"


class Channel(models.Model):
    """Where notifications go: an address that takes posts, or people's mail addresses separated by commas."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    name = models.CharField(max_length=64)
    kind = models.CharField(max_length=16, choices=ChannelKind.choices)
    target = models.CharField(max_length=500)
    secret = models.CharField(max_length=128, default="", blank=True)  # signs the bodies of webhooks
    allow_private = models.BooleanField(default=False)  # addresses inside of our own network may be called
    grouped = models.BooleanField(default=False)  # one message for many alerts; else one for each change
    group_by: ArrayField[list[str], list[str]] = ArrayField(models.CharField(max_length=16), default=list, blank=True)
    group_wait_s = models.PositiveIntegerField(default=30)
    group_interval_s = models.PositiveIntegerField(default=300)
    repeat_interval_s = models.PositiveIntegerField(default=14_400)  # 0: never
    created_by = models.CharField(max_length=150, default="")
    created_at = models.DateTimeField(db_default=Now())
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "name"], condition=Q(archived_at=None), nulls_distinct=False, name="channel_name_once"
            ),
            models.CheckConstraint(condition=Q(kind__in=ChannelKind.values), name="channel_kind_known"),
        ]

    @property
    def grouping(self) -> Grouping:
        return Grouping(tuple(self.group_by), self.group_wait_s, self.group_interval_s, self.repeat_interval_s)


class RuleKind(models.TextChoices):
    THRESHOLD = "threshold"
    RATIO = "ratio"
    ABSENCE = "absence"
    BURN_RATE = "burn_rate"
    FORECAST = "forecast"
    BUDGET = "budget"
    ANOMALY = "anomaly"
    FLEET = "fleet"
    METRIC = "metric"


class Severity(models.TextChoices):
    PAGE = "page"
    TICKET = "ticket"
    INFO = "info"


class Rule(models.Model):
    """A condition that is looked at again and again. ``spec`` depends on ``kind`` (``alerting.schemas``)."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    slug = models.SlugField(max_length=64)
    name = models.CharField(max_length=120)
    kind = models.CharField(max_length=16, choices=RuleKind.choices)
    spec = models.JSONField(default=dict)
    for_s = models.PositiveIntegerField(default=0)
    keep_firing_s = models.PositiveIntegerField(default=0)
    no_data = models.CharField(max_length=8, default=NoData.OK)
    severity = models.CharField(max_length=8, choices=Severity.choices, default=Severity.TICKET)
    every_s = models.PositiveIntegerField(default=15)
    channels: models.ManyToManyField[Channel, models.Model] = models.ManyToManyField(
        Channel, blank=True, related_name="rules"
    )
    escalate_after_s = models.PositiveIntegerField(default=0)  # 0: never
    escalate_to: models.ManyToManyField[Channel, models.Model] = models.ManyToManyField(
        Channel, blank=True, related_name="+"
    )
    inhibited_by: models.ManyToManyField[Rule, models.Model] = models.ManyToManyField(
        "self", blank=True, symmetrical=False, related_name="inhibits"
    )
    enabled = models.BooleanField(default=True)
    evaluated_at = models.DateTimeField(null=True, blank=True)
    fault = models.CharField(max_length=500, default="", blank=True)  # why it could not be evaluated
    created_by = models.CharField(max_length=150, default="")
    created_at = models.DateTimeField(db_default=Now())
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "slug"], condition=Q(archived_at=None), nulls_distinct=False, name="rule_slug_once"
            ),
            models.CheckConstraint(condition=Q(kind__in=RuleKind.values), name="rule_kind_known"),
            models.CheckConstraint(condition=Q(every_s__gte=5), name="rule_every_not_too_often"),
        ]

    @property
    def full_name(self) -> str:
        """``tenant/slug``."""
        return f"{self.tenant.slug if self.tenant else ''}/{self.slug}"


class Alert(models.Model):
    """One thing that a rule watches: the whole (``label`` empty) or one tenant, route, model, budget of it.

    ``told`` is what people were last told of it.
    """

    rule = models.ForeignKey(Rule, on_delete=models.CASCADE, related_name="alerts")
    label = models.CharField(max_length=200, default="", blank=True)
    state = models.CharField(max_length=12, default=State.INACTIVE)
    since = models.DateTimeField(null=True, blank=True)
    active_at = models.DateTimeField(null=True, blank=True)
    gone_at = models.DateTimeField(null=True, blank=True)
    value = models.FloatField(null=True, blank=True)
    summary = models.CharField(max_length=300, default="", blank=True)
    silenced = models.BooleanField(default=False)
    muted_by = models.CharField(max_length=200, default="", blank=True)  # why nobody is told, in words
    told = models.CharField(max_length=12, default=Told.NOTHING)
    told_at = models.DateTimeField(null=True, blank=True)
    escalated_at = models.DateTimeField(null=True, blank=True)  # since it fires
    acknowledged_by = models.CharField(max_length=150, default="", blank=True)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_until = models.DateTimeField(null=True, blank=True)  # without one, until it is over

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["rule", "label"], name="alert_once"),
            models.CheckConstraint(condition=Q(state__in=[each.value for each in State]), name="alert_state_known"),
        ]
        indexes: ClassVar = [models.Index(fields=["state", "-since"], name="alert_state_since")]


class Change(models.Model):
    """One change of an alert, never changed itself. ``told`` is what people were told because of it, empty for nothing."""

    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="changes")
    at = models.DateTimeField()
    before = models.CharField(max_length=12)
    state = models.CharField(max_length=12)
    told = models.CharField(max_length=12, default="", blank=True)
    value = models.FloatField(null=True)
    summary = models.CharField(max_length=300, default="", blank=True)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["-at"], name="alert_change_newest")]


class DeliveryStatus(models.TextChoices):
    WAITING = "waiting"
    SENT = "sent"
    FAILED = "failed"


class Delivery(models.Model):
    """One notification to one channel: written in the transaction of the change, sent after it, once.

    Without a change it is of a group (then it has mentions), of a rollout, somebody's test of the channel, or of an alert that is
    forgotten: the log outlives what it tells of.
    """

    change = models.ForeignKey(Change, on_delete=models.SET_NULL, null=True, blank=True, related_name="deliveries")
    channel = models.ForeignKey(Channel, on_delete=models.PROTECT, related_name="deliveries")
    body = models.JSONField()
    status = models.CharField(max_length=8, choices=DeliveryStatus.choices, default=DeliveryStatus.WAITING)
    attempts = models.PositiveIntegerField(default=0)
    next_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)
    answer = models.CharField(max_length=300, default="", blank=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["change", "channel"], name="delivery_once"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["next_at"], condition=Q(status="waiting"), name="delivery_waiting"),
        ]


class Group(models.Model):
    """Alerts that a channel was told of together. ``members`` are those that it believes to fire: what it was told, by alert."""

    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="groups")
    key = models.CharField(max_length=1500)  # JSON of what its alerts have in common, in order
    members = models.JSONField(default=dict)
    told_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["channel", "key"], name="group_once")]


class Mention(models.Model):
    """One change that a group of a channel has to tell of: written in the transaction of the change.

    ``settled_at``: when the group took it. Without a delivery it was not worth telling then: it was over before it was told.
    """

    change = models.ForeignKey(Change, on_delete=models.CASCADE, related_name="mentions")
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="mentions")
    delivery = models.ForeignKey(Delivery, on_delete=models.SET_NULL, null=True, blank=True, related_name="mentions")
    body = models.JSONField()
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["change", "channel"], name="mention_once")]
        indexes: ClassVar = [
            models.Index(fields=["channel"], condition=Q(settled_at=None), name="mention_waiting"),
        ]


class SilenceKind(models.TextChoices):
    SILENCE = "silence"
    MAINTENANCE = "maintenance"  # planned; may repeat


class Repeats(models.TextChoices):
    NEVER = ""
    DAY = "day"
    WEEK = "week"


class Silence(models.Model):
    """A time in which nobody is told of some alerts. Without a rule it is for all of the scope; ``label`` is a pattern with ``*``.

    One that repeats is over after ``repeats_until``.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    rule = models.ForeignKey(Rule, on_delete=models.CASCADE, null=True, blank=True, related_name="silences")
    label = models.CharField(max_length=200, default="*")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    kind = models.CharField(max_length=12, choices=SilenceKind.choices, default=SilenceKind.SILENCE)
    repeats = models.CharField(max_length=4, choices=Repeats.choices, default=Repeats.NEVER, blank=True)
    repeats_until = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=300)
    created_by = models.CharField(max_length=150, default="")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(ends_at__gt=models.F("starts_at")), name="silence_ends_after_it_starts"),
            models.CheckConstraint(condition=Q(kind__in=SilenceKind.values), name="silence_kind_known"),
            models.CheckConstraint(condition=Q(repeats__in=Repeats.values), name="silence_repeats_known"),
        ]

    def occurrence(self, now: datetime) -> Span | None:
        """Return the span that is on, else the next one; ``None`` when it is over."""
        return occurrence(Span(self.starts_at, self.ends_at), self.repeats, self.repeats_until, now)


class SloKind(models.TextChoices):
    AVAILABILITY = "availability"  # calls that did not fail
    LATENCY = "latency"  # calls within ``threshold`` milliseconds
    COST = "cost"  # calls that cost at most ``threshold`` dollars


class Slo(models.Model):
    """A service level: the share of calls that shall be good over a rolling window of days."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    slug = models.SlugField(max_length=64)
    name = models.CharField(max_length=120)
    kind = models.CharField(max_length=16, choices=SloKind.choices)
    objective = models.FloatField()  # 0.99
    threshold = models.FloatField(null=True, blank=True)
    route = models.CharField(max_length=64, default="", blank=True)
    model = models.CharField(max_length=120, default="", blank=True)
    days = models.PositiveSmallIntegerField(default=28)
    created_by = models.CharField(max_length=150, default="")
    created_at = models.DateTimeField(db_default=Now())
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "slug"], condition=Q(archived_at=None), nulls_distinct=False, name="slo_slug_once"
            ),
            models.CheckConstraint(condition=Q(objective__gt=0, objective__lt=1), name="slo_objective_between"),
            models.CheckConstraint(condition=Q(kind__in=SloKind.values), name="slo_kind_known"),
            models.CheckConstraint(condition=Q(days__gte=1, days__lte=90), name="slo_days_between"),
        ]

    @property
    def full_name(self) -> str:
        """``tenant/slug``."""
        return f"{self.tenant.slug if self.tenant else ''}/{self.slug}"

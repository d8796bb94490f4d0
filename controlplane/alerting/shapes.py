"""What the management API takes and gives: alerts, rules, channels, silences, deliveries, service levels."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from ninja import Field, Schema
from pydantic import AwareDatetime

from controlplane.alerting import past
from controlplane.alerting.models import Alert, Delivery, Rule, Silence
from controlplane.tenancy.models import Tenant

Mode = Literal["ok", "alert", "keep"]
GroupBy = Literal["rule", "severity", "tenant", "label"]


def _by_rule() -> list[GroupBy]:
    return ["rule"]


class _Owned(Schema):
    tenant: str | None

    @staticmethod
    def resolve_tenant(row: Any) -> str | None:
        owner = row["tenant"] if isinstance(row, dict) else row.tenant
        return owner.slug if isinstance(owner, Tenant) else owner


class AlertOut(Schema):
    id: int
    rule: str
    name: str
    severity: str
    label: str
    state: str
    since: datetime | None
    value: float | None
    summary: str
    silenced: bool
    muted_by: str
    told: str
    acknowledged_by: str
    acknowledged_until: datetime | None

    @staticmethod
    def resolve_rule(row: Alert) -> str:
        return row.rule.full_name

    @staticmethod
    def resolve_name(row: Alert) -> str:
        return row.rule.name

    @staticmethod
    def resolve_severity(row: Alert) -> str:
        return row.rule.severity


class AlertList(Schema):
    items: list[AlertOut]


class RuleIn(Schema):
    """``spec`` by kind: docs/alerting.md, "Rules"."""

    tenant: str | None = None
    slug: str
    name: str = ""
    kind: str
    spec: dict[str, Any] = Field(default_factory=dict)
    for_s: int = 0
    keep_firing_s: int = 0
    no_data: Mode = "ok"
    severity: Literal["page", "ticket", "info"] = "ticket"
    every_s: int = 15
    channels: list[int] = Field(default_factory=list)
    escalate_after_s: int = 0
    escalate_to: list[int] = Field(default_factory=list)
    inhibited_by: list[str] = Field(default_factory=list)
    enabled: bool = True


class RuleOut(_Owned):
    slug: str
    name: str
    kind: str
    spec: dict[str, Any]
    for_s: int
    keep_firing_s: int
    no_data: str
    severity: str
    every_s: int
    channels: list[int]
    escalate_after_s: int
    escalate_to: list[int]
    inhibited_by: list[str]
    enabled: bool
    evaluated_at: datetime | None
    fault: str
    states: dict[str, str]

    @staticmethod
    def resolve_channels(row: Rule) -> list[int]:
        return [channel.pk for channel in row.channels.all()]

    @staticmethod
    def resolve_escalate_to(row: Rule) -> list[int]:
        return [channel.pk for channel in row.escalate_to.all()]

    @staticmethod
    def resolve_inhibited_by(row: Rule) -> list[str]:
        return [other.slug for other in row.inhibited_by.all()]

    @staticmethod
    def resolve_states(row: Rule) -> dict[str, str]:
        return {alert.label: alert.state for alert in row.alerts.all()}


class RuleList(Schema):
    items: list[RuleOut]


class BacktestIn(Schema):
    tenant: str | None = None
    kind: str
    spec: dict[str, Any]
    for_s: int = 0
    keep_firing_s: int = 0
    days: int = Field(past.DAYS, ge=1, le=14)


class EpisodeOut(Schema):
    label: str
    begins: datetime
    ends: datetime | None


class BacktestOut(Schema):
    episodes: list[EpisodeOut]
    steps: int
    measured: int
    note: str


class GroupingIn(Schema):
    """As in Alertmanager: alerts that have all of ``group_by`` in common are told of in one message."""

    grouped: bool = True
    group_by: list[GroupBy] = Field(default_factory=_by_rule)
    group_wait_s: int = 30
    group_interval_s: int = 300
    repeat_interval_s: int = 14_400


class ChannelIn(Schema):
    tenant: str | None = None
    name: str
    kind: Literal["webhook", "slack", "email"]
    target: str
    allow_private: bool = False


class ChannelOut(_Owned):
    id: int
    name: str
    kind: str
    target: str
    allow_private: bool
    grouped: bool
    group_by: list[str]
    group_wait_s: int
    group_interval_s: int
    repeat_interval_s: int


class ChannelMade(ChannelOut):
    """``secret`` signs what a webhook is sent: ``Tidegate-Signature: t=…,v1=HMAC-SHA-256(secret, t + "." + body)``."""

    secret: str


class ChannelList(Schema):
    items: list[ChannelOut]


class DeliveryOut(Schema):
    id: int
    channel: str
    event: str
    name: str
    label: str
    status: str
    attempts: int
    answer: str
    created_at: datetime
    sent_at: datetime | None

    @staticmethod
    def resolve_channel(row: Delivery) -> str:
        return row.channel.name

    @staticmethod
    def resolve_event(row: Delivery) -> str:
        return str(row.body.get("event", ""))

    @staticmethod
    def resolve_name(row: Delivery) -> str:
        return str(row.body.get("name", ""))

    @staticmethod
    def resolve_label(row: Delivery) -> str:
        return str(row.body.get("label", ""))


class DeliveryPage(Schema):
    items: list[DeliveryOut]
    next: str | None


class SilenceIn(Schema):
    """Without ``rule`` (its slug) all rules of the tenant are silenced; without a tenant, those of the installation too."""

    tenant: str | None = None
    rule: str | None = None
    label: str = "*"
    starts_at: AwareDatetime | None = None
    ends_at: AwareDatetime
    reason: str
    kind: Literal["silence", "maintenance"] = "silence"
    repeats: Literal["", "day", "week"] = ""
    repeats_until: AwareDatetime | None = None


class SilenceOut(_Owned):
    id: int
    rule: str | None
    label: str
    starts_at: datetime
    ends_at: datetime
    reason: str
    kind: str
    repeats: str
    repeats_until: datetime | None
    created_by: str

    @staticmethod
    def resolve_rule(row: Silence) -> str | None:
        return row.rule.slug if isinstance(row.rule, Rule) else None


class SilenceList(Schema):
    items: list[SilenceOut]


class SloIn(Schema):
    """``threshold``: milliseconds for ``latency``, dollars for ``cost``."""

    tenant: str | None = None
    slug: str
    name: str = ""
    kind: Literal["availability", "latency", "cost"] = "availability"
    objective: float
    threshold: float | None = None
    route: str = ""
    model: str = ""
    days: int = 28


class SloOut(_Owned):
    slug: str
    name: str
    kind: str
    objective: float
    threshold: float | None
    route: str
    model: str
    days: int


class SloStanding(SloOut):
    """``budget_left`` of 1 is all of the error budget; ``burn_rates`` by window in seconds; ``gone_in_s`` at the pace of 6 h."""

    calls: int
    bad: int
    good: float | None
    budget_left: float | None
    burn_rates: dict[str, float | None]
    burning: str | None
    gone_in_s: float | None


class SloList(Schema):
    items: list[SloOut]

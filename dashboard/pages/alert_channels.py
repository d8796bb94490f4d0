"""Channels: who is told of alerts, whether it arrives, and what was sent."""

from __future__ import annotations

from django.conf import settings

from controlplane.alerting import queries
from controlplane.alerting.models import Channel, ChannelKind
from controlplane.paging import newest_first
from dashboard.asking import Asking
from dashboard.page import Context, Page, Params
from dashboard.rule_forms import times

SIZE = 50
KINDS = (
    (ChannelKind.WEBHOOK.value, "Webhook, signed"),
    (ChannelKind.SLACK.value, "Slack, or what takes its messages"),
    (ChannelKind.EMAIL.value, "E-mail"),
)


GROUP_BY = (
    ("rule", "Rule"),
    ("severity", "Severity"),
    ("tenant", "Tenant"),
    ("label", "Thing (route, model, budget…)"),
)


def _chosen(asking: Asking, params: Params) -> Channel | None:
    """Return the channel whose grouping is being changed."""
    number = params.value("channel")
    return queries.channel_seen_by(asking.asker, int(number)) if number.isdecimal() and len(number) < 19 else None


def _spans(chosen: Channel | None) -> Context:
    """Return the spans of time to choose from, with those of the channel."""
    wait, interval, repeat = (
        (chosen.group_wait_s, chosen.group_interval_s, chosen.repeat_interval_s) if chosen else (30, 300, 14_400)
    )
    return {
        "waits": times(0, 10, 30, 60, 300, 900, 3600, more=wait),
        "intervals": times(60, 300, 900, 3600, 21600, 86400, more=interval),
        "repeats": (("0", "Never"), *times(3600, 14400, 43200, 86400, 604800, more=repeat or 14_400)),
    }


def build(asking: Asking, params: Params) -> Context:
    chosen = _chosen(asking, params)
    deliveries = queries.deliveries_seen_by(asking.asker)
    if params.value("status"):
        deliveries = deliveries.filter(status=params.value("status"))
    cursor = params.value("cursor")
    found = newest_first(deliveries, cursor=cursor if cursor.isdecimal() and len(cursor) < 19 else "", limit=SIZE)
    return {
        "title": "Channels",
        "channels": queries.channels_with_news(asking.asker),
        "deliveries": found.items,
        "older": found.next,
        "kinds": KINDS,
        "mails": bool(settings.EMAIL_HOST) or "smtp" not in settings.EMAIL_BACKEND,
        "may_all": asking.asker.tenant is None,
        "statuses": ("", "sent", "waiting", "failed"),
        "status": params.value("status"),
        "chosen": chosen,
        "group_by": GROUP_BY,
        **_spans(chosen),
    }


PAGE = Page(
    name="alert-channels",
    section="alerts",
    template="pages/alert_channels.html",
    parts={"channel_list": "alerts/channels.html", "delivery_list": "alerts/deliveries.html"},
    build=build,
    params=frozenset({"status", "cursor", "channel"}),
)

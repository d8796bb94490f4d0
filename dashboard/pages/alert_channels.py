"""Channels: who is told of alerts, whether it arrives, and what was sent."""

from __future__ import annotations

from django.conf import settings

from controlplane.alerting import queries
from controlplane.alerting.models import ChannelKind
from controlplane.paging import newest_first
from dashboard.asking import Asking
from dashboard.page import Context, Page, Params

SIZE = 50
KINDS = (
    (ChannelKind.WEBHOOK.value, "Webhook, signed"),
    (ChannelKind.SLACK.value, "Slack, or what takes its messages"),
    (ChannelKind.EMAIL.value, "E-mail"),
)


def build(asking: Asking, params: Params) -> Context:
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
    }


PAGE = Page(
    name="alert-channels",
    section="alerts",
    template="pages/alert_channels.html",
    parts={"channel_list": "alerts/channels.html", "delivery_list": "alerts/deliveries.html"},
    build=build,
    params=frozenset({"status", "cursor"}),
)

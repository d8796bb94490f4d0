"""One message for many alerts: what changed waits as mentions, and a channel's groups make deliveries of them.

A mention is written in the transaction of its change, and becomes part of exactly one delivery in the transaction that makes that.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

from django.db import transaction
from django.db.models import Q

from controlplane.alerting.actions.delivering import CLOCK_SLACK
from controlplane.alerting.messages import Body, group_body, labels_of
from controlplane.alerting.models import Alert, Change, Channel, Delivery, Group, Mention
from controlplane.domain.alert_groups import KEYS, Grouping, Said, due_at, key_of, told_of
from controlplane.domain.alerts import ON, State, Told
from controlplane.problems import Forbidden, Invalid
from controlplane.tenancy.actions.audit import record
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import Asker

_WORTH_A_LOOK = (*ON, State.NO_DATA, State.ERROR)
_AT_ONCE = Grouping((), 0, 0, 0)
_DAY_S, _WEEK_S = 86_400, 7 * 86_400


def post(change: Change, body: Body, channels: Iterable[Channel], now: datetime) -> None:
    """Put a change into the outbox for every channel: as a delivery of its own, or as a mention for the channel's groups."""
    grouped, single = list[Channel](), list[Channel]()
    for channel in sorted(set(channels), key=lambda each: each.pk):
        (grouped if channel.grouped else single).append(channel)
    Delivery.objects.bulk_create(Delivery(change=change, channel=each, body=body, next_at=now) for each in single)
    Mention.objects.bulk_create(Mention(change=change, channel=each, body=body) for each in grouped)


def flush(*, now: datetime) -> int:
    """Let all groups that are due speak; return how many messages that makes. Several processes may do so at one time."""
    waiting = Q(pk__in=Mention.objects.filter(settled_at=None).values("channel")) | Q(
        pk__in=Group.objects.values("channel")
    )
    return sum(
        _flush(pk, now)
        for pk in Channel.objects.filter(waiting, archived_at=None).order_by("pk").values_list("pk", flat=True)
    )


@transaction.atomic
def _flush(channel_pk: int, now: datetime) -> int:
    channel = (
        Channel.objects.select_for_update(skip_locked=True, no_key=True, of=("self",)).filter(pk=channel_pk).first()
    )
    if channel is None:
        return 0
    groups = {group.key: group for group in channel.groups.all()}
    news: defaultdict[str, list[Mention]] = defaultdict(list)
    for mention in channel.mentions.filter(settled_at=None).select_related("change__alert").order_by("pk"):
        news[_key(channel, mention.body)].append(mention)
    return sum(_speak(channel, key, groups.get(key), news[key], now) for key in sorted({*groups, *news}))


def _key(channel: Channel, body: Body) -> str:
    return json.dumps(key_of(channel.group_by, labels_of(body)), ensure_ascii=False)


def _speak(channel: Channel, key: str, group: Group | None, mentions: Sequence[Mention], now: datetime) -> int:
    if group is not None and not mentions and not channel.grouped:
        group.delete()
        return 0
    grouping = channel.grouping if channel.grouped else _AT_ONCE
    first_at = mentions[0].change.at if mentions else None
    due = due_at(grouping, first_at=first_at, told_at=group.told_at if group else None)
    ahead = [at for at in (first_at, group.told_at if group else None) if at is not None and at > now + CLOCK_SLACK]
    if due is None or (now < due and not ahead):  # with a clock that was ahead nobody knows how long it waited
        return 0
    known = _known(group)
    known |= _told_otherwise(channel, [each for each in mentions if each.change.alert_id not in known])
    told = told_of({*known}, [(each.change.alert_id, each.body["event"] != Told.RESOLVED) for each in mentions])
    bodies = known | {each.change.alert_id: each.body for each in mentions}
    delivery = None
    if told.worth_it:
        delivery = _message(channel, key, told, bodies, now)
    elif not mentions and (loud := _loud(told.firing)):
        delivery = _message(channel, key, told._replace(firing=loud), bodies, now)
    Mention.objects.filter(pk__in=[each.pk for each in mentions]).update(settled_at=now, delivery=delivery)
    _remember(channel, key, group, {alert: bodies[alert] for alert in told.firing}, now if delivery else None)
    return int(delivery is not None)


def _told_otherwise(channel: Channel, mentions: Sequence[Mention]) -> dict[int, Body]:
    """Return what the channel was told of alerts that are over now when they were not, or not yet, in this group."""
    over = [each.change.alert for each in mentions if each.body["event"] == Told.RESOLVED]
    found = {alert.pk: _last_body(alert, channel) for alert in over}
    return {alert: body for alert, body in found.items() if body is not None and body["event"] != Told.RESOLVED}


def _message(channel: Channel, key: str, told: Said, bodies: dict[int, Body], now: datetime) -> Delivery:
    firing = [bodies[alert] for alert in (*sorted(told.fresh), *sorted(told.firing - told.fresh))]
    over = [bodies[alert] for alert in sorted(told.over)]
    body = group_body(json.loads(key), firing, over, len(told.fresh), now, repeated=not told.worth_it)
    return Delivery.objects.create(channel=channel, body=body, next_at=now)


def _remember(
    channel: Channel, key: str, group: Group | None, members: dict[int, Body], spoke_at: datetime | None
) -> None:
    """Keep what the channel was told; a group of which nothing fires any more is forgotten, and the next one waits anew."""
    if not members:
        if group is not None:
            group.delete()
        return
    group = group or Group(channel=channel, key=key)
    group.members = {str(alert): body for alert, body in members.items()}
    if spoke_at is not None:
        group.told_at = spoke_at
    if group.told_at is not None:
        group.save()


def _known(group: Group | None) -> dict[int, Body]:
    """Return the members of a group as they are now: not those of rules that were taken away."""
    if group is None:
        return {}
    told = {int(alert): body for alert, body in group.members.items()}
    kept = Alert.objects.filter(pk__in=told, rule__archived_at=None, rule__enabled=True)
    return {each.pk: {**told[each.pk], "value": each.value, "summary": each.summary} for each in kept}


def _loud(alerts: Iterable[int]) -> frozenset[int]:
    """Return those of which people are to be told again: nobody looks after them, and nothing silences them."""
    states = [each.value for each in _WORTH_A_LOOK]
    found = Alert.objects.filter(pk__in=alerts, state__in=states, silenced=False, acknowledged_at=None)
    return frozenset(found.values_list("pk", flat=True))


@transaction.atomic
def set_grouping(*, by: Asker, channel: Channel, grouping: Grouping | None, now: datetime) -> None:
    """Tell a channel of many alerts in one message, or (``None``) of every change in one of its own.

    What waits is told the new way; what the channel was told of stays known.
    """
    by.must(Role.OPERATOR)
    if channel.tenant is None and by.tenant is not None:
        raise Forbidden("The installation's own are not yours to change.")
    channel = Channel.objects.select_for_update(no_key=True, of=("self",)).get(pk=channel.pk)
    before = _plain(channel)
    channel.grouped = grouping is not None
    if grouping is not None:
        _check(grouping)
        channel.group_by = [name for name in KEYS if name in grouping.by]
        channel.group_wait_s, channel.group_interval_s = grouping.wait_s, grouping.interval_s
        channel.repeat_interval_s = grouping.repeat_s
    channel.save()
    if channel.grouped:  # else the groups tell the rest of what waited
        channel.groups.all().delete()
        _regroup(channel, now)
    record(
        by=by,
        action="channel.changed",
        target_kind="channel",
        target=channel.name,
        tenant=channel.tenant,
        summary=f"Changed how channel {channel.name} is told"[:300],
        before=before,
        after=_plain(channel),
    )


def _plain(channel: Channel) -> dict[str, object]:
    names = ("grouped", "group_by", "group_wait_s", "group_interval_s", "repeat_interval_s")
    return {name: getattr(channel, name) for name in names}


def _check(grouping: Grouping) -> None:
    errors = {}
    if set(grouping.by) - set(KEYS):
        errors["group_by"] = f"must be of {', '.join(KEYS)}"
    if not 0 <= grouping.wait_s <= _DAY_S:
        errors["group_wait_s"] = "must be from 0 seconds to a day"
    if not 10 <= grouping.interval_s <= _DAY_S:
        errors["group_interval_s"] = "must be from 10 seconds to a day"
    if grouping.repeat_s and not grouping.interval_s <= grouping.repeat_s <= _WEEK_S:
        errors["repeat_interval_s"] = "must be 0 (never), or from the interval to a week"
    if errors:
        raise Invalid("Alerts can't be grouped like that.", errors=errors)


def _regroup(channel: Channel, now: datetime) -> None:
    """Make the groups of what the channel was told and is not over, as they are cut now."""
    told = [each.value for each in (Told.FIRING, Told.NO_DATA, Told.ERROR)]
    reached = Q(changes__deliveries__channel=channel) | Q(
        changes__mentions__channel=channel, changes__mentions__delivery__isnull=False
    )
    members: defaultdict[str, dict[str, Body]] = defaultdict(dict)
    for alert in Alert.objects.filter(reached, told__in=told, rule__archived_at=None).distinct():
        newest = _last_body(alert, channel)
        if newest is not None and newest["event"] != Told.RESOLVED:
            members[_key(channel, newest)][str(alert.pk)] = newest
    Group.objects.bulk_create(
        Group(channel=channel, key=key, members=each, told_at=now) for key, each in members.items()
    )


def _last_body(alert: Alert, channel: Channel) -> Body | None:
    """Return what a channel was last told of an alert, by itself or in a group."""
    single = (
        Delivery.objects.filter(channel=channel, change__alert=alert)
        .order_by("-change")
        .values_list("change", "body")
        .first()
    )
    mentions = Mention.objects.filter(channel=channel, change__alert=alert, delivery__isnull=False)
    together = mentions.order_by("-change").values_list("change", "body").first()
    found = [each for each in (single, together) if each is not None]
    return max(found, key=lambda each: each[0])[1] if found else None

"""Management API: alerts, their rules, channels, silences and deliveries; service levels."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from ninja import Router, Status
from pydantic import AwareDatetime

from controlplane.alerting import past, queries, standings
from controlplane.alerting.actions import configuring, delivering, grouping, silencing
from controlplane.alerting.shapes import (
    AlertList,
    AlertOut,
    BacktestIn,
    BacktestOut,
    ChannelIn,
    ChannelList,
    ChannelMade,
    ChannelOut,
    DeliveryOut,
    DeliveryPage,
    GroupingIn,
    RuleIn,
    RuleList,
    RuleOut,
    SilenceIn,
    SilenceList,
    SilenceOut,
    SloIn,
    SloList,
    SloOut,
    SloStanding,
)
from controlplane.domain.alert_groups import Grouping
from controlplane.domain.alerts import NoData, Timing
from controlplane.paging import newest_first
from controlplane.tenancy.bearer import asker
from controlplane.tenancy.queries import tenant_if_named

router = Router(tags=["alerts"])


@router.get("/alerts/", response=AlertList)
def list_alerts(request: HttpRequest, every: bool = False) -> Any:
    """Alerts that are in a state worth a look, and those resolved in the last hour; with ``every``, also those at rest."""
    return {"items": queries.alerts_seen_by(asker(request), now=timezone.now(), every=every)[:500]}


@router.post("/alerts/{int:number}/acknowledge", response=AlertOut)
def acknowledge(request: HttpRequest, number: int, until: AwareDatetime | None = None) -> Any:
    """Say that somebody looks after an alert, until it is over or until that time."""
    who = asker(request)
    alert = queries.alert_seen_by(who, number)
    silencing.acknowledge(by=who, alert=alert, now=timezone.now(), until=until)
    return alert


@router.get("/alerts/rules/", response=RuleList)
def list_rules(request: HttpRequest) -> Any:
    """All rules with the states of what they watch."""
    return {"items": queries.rules_seen_by(asker(request))}


@router.put("/alerts/rules/", response=RuleOut)
def put_rule(request: HttpRequest, body: RuleIn) -> Any:
    """Make a rule, or change the one of that tenant and slug."""
    who = asker(request)
    fields = body.model_dump(exclude={"tenant"})
    for name in ("channels", "escalate_to"):
        fields[name] = [queries.channel_seen_by(who, number) for number in fields[name]]
    fields["inhibited_by"] = [queries.rule_seen_by(who, body.tenant, slug) for slug in body.inhibited_by]
    rule = configuring.put_rule(by=who, tenant=tenant_if_named(who, body.tenant), **fields)
    return queries.rule_seen_by(who, body.tenant, rule.slug)


@router.delete("/alerts/rules/{slug}/", response={204: None})
def archive_rule(request: HttpRequest, slug: str, tenant: str | None = None) -> Any:
    """Take a rule away."""
    who = asker(request)
    configuring.archive_rule(by=who, rule=queries.rule_seen_by(who, tenant, slug), now=timezone.now())
    return Status(204, None)


@router.post("/alerts/rules/backtest", response=BacktestOut)
def backtest(request: HttpRequest, body: BacktestIn) -> Any:
    """Tell when such a rule would have fired in the last days."""
    timing = Timing(body.for_s, body.keep_firing_s, NoData.OK)
    who = asker(request)
    eyes = past.eyes_of(who, tenant_if_named(who, body.tenant))
    tried = past.try_on_past(eyes, body.kind, body.spec, timing, timezone.now(), body.days)
    episodes = [
        {"label": track.label, "begins": begins, "ends": ends}
        for track in tried.tracks
        for begins, ends in track.episodes
    ]
    return {"episodes": episodes, "steps": tried.steps, "measured": tried.measured, "note": tried.note}


@router.get("/alerts/channels/", response=ChannelList)
def list_channels(request: HttpRequest) -> Any:
    """All channels."""
    return {"items": queries.channels_seen_by(asker(request))}


@router.post("/alerts/channels/", response={201: ChannelMade})
def create_channel(request: HttpRequest, body: ChannelIn) -> Any:
    """Make a channel; the secret of a webhook is shown once."""
    who = asker(request)
    fields = body.model_dump(exclude={"tenant"})
    return Status(201, configuring.create_channel(by=who, tenant=tenant_if_named(who, body.tenant), **fields))


@router.put("/alerts/channels/{int:number}/grouping", response=ChannelOut)
def set_grouping(request: HttpRequest, number: int, body: GroupingIn) -> Any:
    """Tell a channel of many alerts in one message, or of every change in one of its own."""
    who = asker(request)
    wanted = Grouping(tuple(body.group_by), body.group_wait_s, body.group_interval_s, body.repeat_interval_s)
    channel = queries.channel_seen_by(who, number)
    grouping.set_grouping(by=who, channel=channel, grouping=wanted if body.grouped else None, now=timezone.now())
    return queries.channel_seen_by(who, number)


@router.delete("/alerts/channels/{int:number}/", response={204: None})
def archive_channel(request: HttpRequest, number: int) -> Any:
    """Take a channel away."""
    who = asker(request)
    configuring.archive_channel(by=who, channel=queries.channel_seen_by(who, number), now=timezone.now())
    return Status(204, None)


@router.post("/alerts/channels/{int:number}/test", response=DeliveryOut)
def test_channel(request: HttpRequest, number: int) -> Any:
    """Send a test to a channel; the answer says what became of it."""
    who = asker(request)
    return delivering.test_channel(by=who, channel=queries.channel_seen_by(who, number), now=timezone.now())


@router.get("/alerts/deliveries/", response=DeliveryPage)
def list_deliveries(request: HttpRequest, cursor: str = "", limit: int = 50) -> Any:
    """What was sent, or could not be, the newest first."""
    return newest_first(queries.deliveries_seen_by(asker(request)), cursor=cursor, limit=limit)


@router.get("/alerts/silences/", response=SilenceList)
def list_silences(request: HttpRequest) -> Any:
    """Silences in force and to come."""
    return {"items": queries.silences_seen_by(asker(request), timezone.now())}


@router.post("/alerts/silences/", response={201: SilenceOut})
def create_silence(request: HttpRequest, body: SilenceIn) -> Any:
    """Tell nobody of some alerts for a time."""
    who, now = asker(request), timezone.now()
    silence = silencing.create_silence(
        by=who,
        tenant=tenant_if_named(who, body.tenant),
        rule=queries.rule_seen_by(who, body.tenant, body.rule) if body.rule else None,
        label=body.label,
        starts_at=body.starts_at or now,
        ends_at=body.ends_at,
        reason=body.reason,
        kind=body.kind,
        repeats=body.repeats,
        repeats_until=body.repeats_until,
    )
    return Status(201, silence)


@router.delete("/alerts/silences/{int:number}/", response={204: None})
def end_silence(request: HttpRequest, number: int) -> Any:
    """End a silence now."""
    who = asker(request)
    silencing.end_silence(by=who, silence=queries.silence_seen_by(who, number), now=timezone.now())
    return Status(204, None)


@router.get("/slos/", response=SloList)
def list_slos(request: HttpRequest) -> Any:
    """All service levels."""
    return {"items": queries.slos_seen_by(asker(request))}


@router.put("/slos/", response=SloOut)
def put_slo(request: HttpRequest, body: SloIn) -> Any:
    """Make a service level, or change the one of that tenant and slug."""
    who = asker(request)
    return configuring.put_slo(by=who, tenant=tenant_if_named(who, body.tenant), **body.model_dump(exclude={"tenant"}))


@router.get("/slos/{slug}/", response=SloStanding)
def get_slo(request: HttpRequest, slug: str, tenant: str | None = None) -> Any:
    """One service level with its error budget and how fast it burns."""
    slo = queries.slo_seen_by(asker(request), tenant, slug)
    found = standings.standing_of(slo, timezone.now())
    plain = {
        name: getattr(slo, name)
        for name in ("slug", "name", "kind", "objective", "threshold", "route", "model", "days")
    }
    return {
        **plain,
        "tenant": tenant,
        "calls": found.count.total,
        "bad": found.count.bad,
        "good": found.good,
        "budget_left": found.left,
        "burn_rates": {str(length): rate for length, rate in found.rates.items()},
        "burning": found.burn.severity if found.burn else None,
        "gone_in_s": found.gone_in_s,
    }


@router.delete("/slos/{slug}/", response={204: None})
def archive_slo(request: HttpRequest, slug: str, tenant: str | None = None) -> Any:
    """Take a service level away, and the rules that watch nothing but it."""
    who = asker(request)
    configuring.archive_slo(by=who, slo=queries.slo_seen_by(who, tenant, slug), now=timezone.now())
    return Status(204, None)

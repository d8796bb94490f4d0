"""Rules, channels and service levels: made, changed, taken away."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from django.db import IntegrityError, transaction

from controlplane.alerting.actions.owning import must_own, noted, one_of
from controlplane.alerting.models import (
    Channel,
    ChannelKind,
    Rule,
    RuleKind,
    Severity,
    Slo,
    SloKind,
)
from controlplane.alerting.schemas import MetricSpec, spec_of
from controlplane.alerting.sent import metric_of
from controlplane.domain.alerts import NoData, State, Told
from controlplane.problems import Conflict, Forbidden, Invalid
from controlplane.tenancy.models import Role, Tenant
from controlplane.tenancy.queries import Asker

_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_BLANK = re.compile(r"[\s\x00-\x1f\x7f]")
_MAIL = re.compile(r"[^@\s,]+@[^@\s,]+\.[^@\s,]+")
MAX_THRESHOLD = 10**9  # milliseconds, or dollars
MAX_ROUTE, MAX_MODEL = 64, 120


def _slug(slug: str) -> str:
    if not _SLUG.fullmatch(slug):
        raise Invalid("The name is not usable.", errors={"slug": "must be lower-case letters, digits, - and _"})
    return slug


def _checked_timing(for_s: int, keep_firing_s: int, every_s: int, escalate_after_s: int) -> None:
    errors = {
        name: f"must be from {least} to {most} seconds"
        for name, value, least, most in (
            ("for_s", for_s, 0, 86_400),
            ("keep_firing_s", keep_firing_s, 0, 86_400),
            ("every_s", every_s, 5, 3_600),
            ("escalate_after_s", escalate_after_s, 0, 7 * 86_400),
        )
        if not least <= value <= most
    }
    if errors:
        raise Invalid("A time is out of bounds.", errors=errors)


@transaction.atomic
def put_rule(
    *,
    by: Asker,
    tenant: Tenant | None,
    slug: str,
    name: str,
    kind: str,
    spec: dict[str, Any],
    for_s: int = 0,
    keep_firing_s: int = 0,
    no_data: str = NoData.OK,
    severity: str = Severity.TICKET,
    every_s: int = 15,
    channels: Sequence[Channel] = (),
    escalate_after_s: int = 0,
    escalate_to: Sequence[Channel] = (),
    inhibited_by: Sequence[Rule] = (),
    enabled: bool = True,
) -> Rule:
    """Make a rule, or change the one of that name. A rule whose condition changed starts anew, with alerts at rest.

    Who was told that one of them fires is told again only when it is over.
    What fires and is taken by nobody for ``escalate_after_s`` is told to ``escalate_to``. While a rule of ``inhibited_by``
    fires for the same thing, nobody is told of this one.
    """
    must_own(by, tenant)
    checked = spec_of(one_of(kind, RuleKind.values, "kind"), spec)
    if isinstance(checked, MetricSpec):
        metric_of(Asker(name=by.name, role=by.role, tenant=tenant or by.tenant), checked)
    _checked_timing(for_s, keep_firing_s, every_s, escalate_after_s)
    fields = {
        "name": name.strip()[:120] or slug,
        "kind": kind,
        "spec": spec,
        "for_s": for_s,
        "keep_firing_s": keep_firing_s,
        "no_data": one_of(no_data, [each.value for each in NoData], "no_data"),
        "severity": one_of(severity, Severity.values, "severity"),
        "every_s": every_s,
        "escalate_after_s": escalate_after_s,
        "enabled": enabled,
    }
    rule = Rule.objects.select_for_update().filter(tenant=tenant, slug=_slug(slug), archived_at=None).first()
    before = None if rule is None else {field: getattr(rule, field) for field in fields}
    if rule is None:
        rule = Rule.objects.create(tenant=tenant, slug=slug, created_by=by.name, **fields)
    else:
        for field, value in fields.items():
            setattr(rule, field, value)
        rule.evaluated_at = None
        rule.save()
        if before is not None and (before["kind"], before["spec"]) != (kind, spec):
            _start_anew(rule, groups=(before["kind"], before["spec"].get("by")) != (kind, spec.get("by")))
    rule.channels.set([channel for channel in channels if _fits(channel, rule)])
    rule.escalate_to.set([channel for channel in escalate_to if _fits(channel, rule)])
    rule.inhibited_by.set([other for other in inhibited_by if other.tenant_id == rule.tenant_id and other != rule])
    noted(by, "changed" if before else "created", "rule", rule, rule.full_name, before=before, after=fields)
    return rule


def _start_anew(rule: Rule, *, groups: bool) -> None:
    """Put the alerts of a rule at rest. With other ``groups`` only those stay that people believe to go on: they are told of the end."""
    if groups:
        rule.alerts.filter(told__in=[Told.NOTHING, Told.RESOLVED]).delete()
    rule.alerts.update(state=State.INACTIVE, active_at=None, gone_at=None)


def _fits(channel: Channel, rule: Rule) -> bool:
    """Return whether a rule may use a channel: its own tenant's, an ancestor's, or the installation's."""
    if channel.tenant_id is None:
        return True
    return rule.tenant is not None and channel.tenant_id in rule.tenant.lineage


@transaction.atomic
def archive_rule(*, by: Asker, rule: Rule, now: datetime) -> None:
    """Take a rule away. Who was told that it fires is told that this is over, by the worker (``evaluation.end_unwatched``)."""
    must_own(by, rule.tenant)
    rule.archived_at = now
    rule.save(update_fields=["archived_at"])
    noted(by, "archived", "rule", rule, rule.full_name)


@transaction.atomic
def set_rule_enabled(*, by: Asker, rule: Rule, enabled: bool) -> None:
    """Switch a rule on, or off: then its alerts are over, which the worker tells (``evaluation.end_unwatched``)."""
    must_own(by, rule.tenant)
    rule.enabled = enabled
    rule.save(update_fields=["enabled"])
    noted(by, "enabled" if enabled else "disabled", "rule", rule, rule.full_name)


@transaction.atomic
def create_channel(
    *, by: Asker, tenant: Tenant | None, name: str, kind: str, target: str, allow_private: bool = False
) -> Channel:
    """Make a channel; a webhook gets a secret that signs what it is sent."""
    must_own(by, tenant)
    if allow_private and (by.tenant is not None or not by.may(Role.ADMIN)):
        raise Forbidden("Only an admin of the installation may let a channel call private addresses.")
    name = name.strip()
    if not 1 <= len(name) <= 64:
        raise Invalid("The channel needs a name.", errors={"name": "must have 1 to 64 characters"})
    if len(target) > 500:
        raise Invalid("The address is too long.", errors={"target": "must have at most 500 characters"})
    _checked_target(one_of(kind, ChannelKind.values, "kind"), target.strip())
    try:
        with transaction.atomic():
            channel = Channel.objects.create(
                tenant=tenant,
                name=name,
                kind=kind,
                target=target.strip(),
                secret=secrets.token_urlsafe(32) if kind == ChannelKind.WEBHOOK else "",
                allow_private=allow_private,
                created_by=by.name,
            )
    except IntegrityError:
        raise Conflict("There is a channel of that name already.", errors={"name": "is taken"}) from None
    noted(by, "created", "channel", channel, name)
    return channel


def _checked_target(kind: str, target: str) -> None:
    if kind == ChannelKind.EMAIL:
        addresses = [address.strip() for address in target.split(",") if address.strip()]
        if not addresses or not all(_MAIL.fullmatch(address) for address in addresses):
            raise Invalid(
                "The channel needs mail addresses.", errors={"target": "must be addresses separated by commas"}
            )
        return
    if not _callable(target):
        raise Invalid("The channel needs an address.", errors={"target": "must be an http or https address"})


def _callable(target: str) -> bool:
    """Return whether an address is one that a request can be sent to."""
    try:
        parts = urlsplit(target)
        host = (parts.hostname or "").encode("idna")
        return bool(host) and parts.scheme in ("http", "https") and parts.port != 0 and not _BLANK.search(target)
    except ValueError:  # of a port or a name
        return False


@transaction.atomic
def archive_channel(*, by: Asker, channel: Channel, now: datetime) -> None:
    must_own(by, channel.tenant)
    channel.archived_at = now
    channel.save(update_fields=["archived_at"])
    noted(by, "archived", "channel", channel, channel.name)


@transaction.atomic
def put_slo(
    *,
    by: Asker,
    tenant: Tenant | None,
    slug: str,
    name: str,
    kind: str,
    objective: float,
    threshold: float | None = None,
    route: str = "",
    model: str = "",
    days: int = 28,
) -> Slo:
    """Make a service level, or change the one of that name."""
    must_own(by, tenant)
    errors = {}
    if not 0.5 <= objective <= 0.99999:
        errors["objective"] = "must be from 0.5 to 0.99999"
    if not 1 <= days <= 90:
        errors["days"] = "must be from 1 to 90"
    if threshold is not None and not threshold <= MAX_THRESHOLD:
        errors["threshold"] = f"must be at most {MAX_THRESHOLD:,}"
    for field, value, most in (("route", route, MAX_ROUTE), ("model", model, MAX_MODEL)):
        if len(value) > most:
            errors[field] = f"must have at most {most} characters"
    if one_of(kind, SloKind.values, "kind") != SloKind.AVAILABILITY and not (threshold and threshold > 0):
        errors["threshold"] = "must be above 0: milliseconds of a call, or dollars of one"
    if errors:
        raise Invalid("The service level is not sound.", errors=errors)
    fields = {
        "name": name.strip()[:120] or slug,
        "kind": kind,
        "objective": objective,
        "threshold": threshold if kind != SloKind.AVAILABILITY else None,
        "route": route,
        "model": model,
        "days": days,
    }
    slo, made = Slo.objects.update_or_create(
        tenant=tenant,
        slug=_slug(slug),
        archived_at=None,
        defaults=fields,
        create_defaults={**fields, "created_by": by.name},
    )
    noted(by, "created" if made else "changed", "slo", slo, slo.full_name, after=fields)
    return slo


@transaction.atomic
def archive_slo(*, by: Asker, slo: Slo, now: datetime) -> None:
    """Take a service level away, and the rules that watch nothing but it."""
    must_own(by, slo.tenant)
    slo.archived_at = now
    slo.save(update_fields=["archived_at"])
    for rule in Rule.objects.filter(tenant=slo.tenant, kind=RuleKind.BURN_RATE, archived_at=None, spec__slo=slo.slug):
        archive_rule(by=by, rule=rule, now=now)
    noted(by, "archived", "slo", slo, slo.full_name)


USUAL: tuple[dict[str, Any], ...] = (
    {"slug": "errors-by-route", "name": "Calls of a route fail", "kind": "threshold", "for_s": 120, "keep_firing_s": 120, "severity": "page",
     "spec": {"metric": "error_rate", "op": "above", "value": 0.1, "window_s": 300, "by": "route", "min_calls": 20}},
    {"slug": "slow-by-route", "name": "Calls of a route are slow", "kind": "threshold", "for_s": 300, "keep_firing_s": 120,
     "spec": {"metric": "latency_p99_ms", "op": "above", "value": 30000, "window_s": 300, "by": "route", "min_calls": 20}},
    {"slug": "budget-spent", "name": "A budget passes its thresholds", "kind": "budget", "every_s": 30, "spec": {}},
    {"slug": "budget-forecast", "name": "A budget will not last", "kind": "forecast", "for_s": 300, "keep_firing_s": 300, "every_s": 30,
     "spec": {}},
    {"slug": "breakers-open", "name": "Breakers are open", "kind": "fleet", "keep_firing_s": 60, "severity": "page",
     "spec": {"what": "breakers_open"}},
    {"slug": "clients-lost", "name": "Clients fell silent", "kind": "fleet", "for_s": 60, "spec": {"what": "clients_lost"}},
)  # fmt: skip


# Of the installation alone: what the server measures of itself.
USUAL_OF_SERVER: tuple[dict[str, Any], ...] = (
    {"slug": "ingest-refused", "name": "Telemetry is refused for lack of room", "kind": "metric", "every_s": 30, "keep_firing_s": 300,
     "spec": {"metric": "tidegate.ingest.refused", "stat": "sum", "op": "above", "value": 0, "window_s": 300, "by": "instance"}},
    {"slug": "ingest-lag", "name": "Telemetry waits to be written", "kind": "metric", "every_s": 30, "for_s": 60,
     "spec": {"metric": "tidegate.ingest.lag", "stat": "max", "op": "above", "value": 3, "window_s": 120, "by": "instance"}},
)  # fmt: skip


def add_usual_rules(*, by: Asker, tenant: Tenant | None, channels: Sequence[Channel] = ()) -> int:
    """Make the rules that nearly everybody wants and that are not there; return how many."""
    taken = set(Rule.objects.filter(tenant=tenant, archived_at=None).values_list("slug", flat=True))
    usual = (*USUAL, *USUAL_OF_SERVER) if tenant is None else USUAL
    missing = [rule for rule in usual if rule["slug"] not in taken]
    for rule in missing:
        put_rule(by=by, tenant=tenant, channels=channels, **rule)
    return len(missing)

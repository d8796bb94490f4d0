"""Alerts of which nobody is told for a time, and those that somebody looks after."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction

from controlplane.alerting.actions.owning import must_own, noted, one_of
from controlplane.alerting.models import Alert, Repeats, Rule, Silence, SilenceKind
from controlplane.domain.alert_mutes import REPEATS
from controlplane.domain.alerts import ON, State
from controlplane.problems import Conflict, Invalid
from controlplane.tenancy.models import Role, Tenant
from controlplane.tenancy.queries import Asker

MAX_SILENCE = timedelta(days=90)
MAX_LABEL = 200


@transaction.atomic
def create_silence(
    *,
    by: Asker,
    tenant: Tenant | None,
    rule: Rule | None,
    label: str,
    starts_at: datetime,
    ends_at: datetime,
    reason: str,
    kind: str = SilenceKind.SILENCE,
    repeats: str = "",
    repeats_until: datetime | None = None,
) -> Silence:
    """Tell nobody of some alerts for a time. ``label`` is a pattern: ``*`` stands for anything.

    With ``repeats`` ("day" or "week") that time comes again, the last time not after ``repeats_until``.
    """
    must_own(by, rule.tenant if rule is not None else tenant)
    one_of(kind, SilenceKind.values, "kind")
    length = REPEATS[one_of(repeats, Repeats.values, "repeats")]
    if length is not None and ends_at - starts_at >= length:
        raise Invalid("It would never end.", errors={"repeats": "must be longer than what repeats"})
    if not starts_at < ends_at or ends_at - starts_at > MAX_SILENCE:
        raise Invalid("The silence has no sound end.", errors={"ends_at": "must be after its start, within 90 days"})
    if not reason.strip():
        raise Invalid("A silence says why.", errors={"reason": "must not be empty"})
    if len(label) > MAX_LABEL:
        raise Invalid("The label is too long.", errors={"label": f"must have at most {MAX_LABEL} characters"})
    silence = Silence.objects.create(
        tenant=rule.tenant if rule is not None else tenant,
        rule=rule,
        label=label.strip() or "*",
        starts_at=starts_at,
        ends_at=ends_at,
        kind=kind,
        repeats=repeats,
        repeats_until=repeats_until if repeats else None,
        reason=reason.strip()[:300],
        created_by=by.name,
    )
    noted(by, "created", "silence", silence, rule.full_name if rule else "all rules", reason=reason[:500])
    return silence


@transaction.atomic
def end_silence(*, by: Asker, silence: Silence, now: datetime) -> None:
    """End a silence now, with all that it would repeat; one that has not begun is taken away."""
    must_own(by, silence.tenant)
    if silence.starts_at >= now:
        silence.delete()
    else:
        silence.ends_at, silence.repeats, silence.repeats_until = now, "", None
        silence.save(update_fields=["ends_at", "repeats", "repeats_until"])
    noted(by, "ended", "silence", silence, silence.rule.full_name if silence.rule else "all rules")


@transaction.atomic
def acknowledge(*, by: Asker, alert: Alert, now: datetime, until: datetime | None = None) -> None:
    """Say that somebody looks after an alert. That ends when it does, or at ``until``."""
    by.must(Role.OPERATOR)
    if State(alert.state) not in ON:
        raise Conflict("Only an alert that fires can be acknowledged.")
    if until is not None and (until <= now or until - now > MAX_SILENCE):
        raise Invalid("That has no sound end.", errors={"until": "must be in the future, within 90 days"})
    alert.acknowledged_by, alert.acknowledged_at, alert.acknowledged_until = by.name, now, until
    alert.save(update_fields=["acknowledged_by", "acknowledged_at", "acknowledged_until"])
    noted(by, "acknowledged", "rule", alert.rule, f"{alert.rule.full_name} {alert.label}".strip())

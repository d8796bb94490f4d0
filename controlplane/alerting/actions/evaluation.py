"""Looking at rules: states, changes, and the outbox, all in one transaction per rule."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog
from django.db import DatabaseError, transaction
from django.db.models import Exists, F, OuterRef, Q

from controlplane import live
from controlplane.alerting import conditions
from controlplane.alerting.actions import grouping
from controlplane.alerting.actions.delivering import CLOCK_SLACK
from controlplane.alerting.findings import Finding
from controlplane.alerting.messages import body_of
from controlplane.alerting.models import Alert, Change, Channel, Delivery, DeliveryStatus, Rule
from controlplane.alerting.queries import inhibitors_of, muted_by, silences_in_force
from controlplane.domain.alert_mutes import escalates
from controlplane.domain.alerts import (
    ON,
    NoData,
    Standing,
    State,
    Timing,
    Told,
    failed,
    resumed,
    rewound,
    step,
    to_tell,
)
from controlplane.problems import Problem

log = structlog.get_logger(__name__)

MOST_LABELS = 500
_AT_REST = [State.INACTIVE.value, State.RESOLVED.value]
_NOT_TOLD = [Told.NOTHING.value, Told.RESOLVED.value]
ESCALATED = "escalated"
_AWAY_S = 300
_FORGOTTEN_AFTER = timedelta(days=7)
_LOG_KEPT = timedelta(days=90)  # of what nothing is known of any more but that it was sent


def due_rules(now: datetime) -> list[int]:
    """Return the rules whose time has come; those that inhibit others come before them."""
    rules = Rule.objects.filter(Q(tenant=None) | Q(tenant__archived_at=None), archived_at=None, enabled=True)
    waited = Q(evaluated_at=None) | Q(
        evaluated_at__lte=now - F("every_s") * timedelta(seconds=1) + timedelta(seconds=1)
    )
    waited |= Q(evaluated_at__gt=now + CLOCK_SLACK)  # our clock was ahead then
    inhibits = Exists(Rule.objects.filter(inhibited_by=OuterRef("pk")))
    return list(rules.filter(waited).order_by(inhibits.desc(), "evaluated_at", "id").values_list("id", flat=True))


@transaction.atomic
def evaluate(rule_id: int, *, now: datetime) -> int:
    """Look at one rule; return how many of its alerts changed. Another process that looks at it already is left alone."""
    rule = (
        Rule.objects.select_for_update(skip_locked=True, of=("self",))
        .select_related("tenant")
        .filter(pk=rule_id, archived_at=None, enabled=True)
        .first()
    )
    if rule is None or (rule.evaluated_at is not None and now <= rule.evaluated_at <= now + CLOCK_SLACK):
        return 0
    missed_s = _missed_s(rule, now)
    findings, fault = _look(rule, now)
    if fault != rule.fault:
        log.info("alerting.rule_fault", rule=rule.full_name, fault=fault)
    rule.fault, rule.evaluated_at = fault, now
    rule.save(update_fields=["fault", "evaluated_at"])
    alerts = {alert.label: alert for alert in rule.alerts.all()}
    found = {finding.label: finding for finding in findings}
    if fault and not alerts:
        alerts[""] = Alert(rule=rule)
    silences, inhibitors = silences_in_force(rule, now), inhibitors_of(rule)
    changed = 0
    for label in _worth_a_look(alerts, found):
        alert = alerts.get(label) or Alert(rule=rule, label=label)
        _resume(alert, missed_s, now)
        changed += _move(rule, alert, found.get(label), fault, muted_by(label, silences, inhibitors), now)
    if changed:
        live.changed("audit")
    return changed


def _missed_s(rule: Rule, now: datetime) -> float:
    """Return for how long nobody looked though it was due: the worker was away. Being a little late is not that."""
    if rule.evaluated_at is None:
        return 0.0
    late_s = (now - rule.evaluated_at).total_seconds() - rule.every_s
    return late_s if late_s > max(_AWAY_S, 4 * rule.every_s) else 0.0


def _worth_a_look(alerts: Mapping[str, Alert], found: Mapping[str, Finding]) -> list[str]:
    """Return the labels to look at, those first that are not at rest: with too many, none of these is forgotten."""

    def at_rest(label: str) -> bool:
        alert = alerts.get(label)
        return alert is None or alert.state in _AT_REST

    return sorted({*alerts, *found}, key=lambda label: (at_rest(label), label))[:MOST_LABELS]


def _resume(alert: Alert, missed_s: float, now: datetime) -> None:
    before = rewound(Standing(State(alert.state), alert.since, alert.active_at, alert.gone_at), now)
    after = resumed(before, missed_s)
    alert.since, alert.active_at, alert.gone_at = after.since, after.active_at, after.gone_at
    if alert.told_at is not None:
        alert.told_at = min(alert.told_at, now)


def _look(rule: Rule, now: datetime) -> tuple[list[Finding], str]:
    """Return what the rule finds, or why it can't look."""
    try:
        with transaction.atomic():
            return conditions.findings_of(rule, now), ""
    except Problem as problem:
        return [], problem.detail[:500]
    except DatabaseError as error:
        return [], f"The database refused: {str(error).splitlines()[0]}"[:500]
    except Exception as error:
        log.exception("alerting.not_looked", rule=rule.full_name)
        return [], f"Something went wrong here: {type(error).__name__}."


def _move(rule: Rule, alert: Alert, finding: Finding | None, fault: str, muted: str, now: datetime) -> int:
    """Take one alert from its state to the next; return 1 when that is another one, or more people were told."""
    before = Standing(State(alert.state), alert.since, alert.active_at, alert.gone_at)
    gone = finding is None and before.state is State.INACTIVE and alert.told not in _NOT_TOLD  # the rule was changed
    after = _stepped(rule, before, False if gone else finding.holds if finding else None, fault, now)
    if alert.pk is None and after.state is State.INACTIVE:
        return 0  # nothing ever happened to it
    news = to_tell(after.state, Told(alert.told), silenced=bool(muted))
    moved = after.state is not before.state
    alert.state, alert.since, alert.active_at, alert.gone_at = after
    alert.silenced, alert.muted_by = bool(muted), muted
    _say(alert, finding, fault, before.state)
    over = after.state not in (*ON, State.PENDING) and (moved or after.state is State.INACTIVE)
    if over or (alert.acknowledged_until is not None and alert.acknowledged_until <= now):
        _leave(alert)
    louder = news is None and not muted and _escalates(rule, alert, now)
    wider = alert.escalated_at is not None
    if news is not None:
        alert.told, alert.told_at = news, now
    if louder:
        alert.escalated_at = now
    elif after.state not in ON and alert.told in _NOT_TOLD:
        alert.escalated_at = None  # not before those of the escalation heard of the end
    alert.save()
    if moved or news is not None:
        _post(rule, alert, _changed(alert, before.state, news or "", now), wider=wider, now=now)
    if louder:
        _post(rule, alert, _changed(alert, after.state, ESCALATED, now), wider=True, now=now)
    return int(moved or louder or news is not None)


def _say(alert: Alert, finding: Finding | None, fault: str, was: State) -> None:
    """Note what was found, in words; of what is not measured any more, that it is not. Its state is the new one, and ``was`` another."""
    if finding is not None:
        alert.value, alert.summary = finding.value, finding.summary[:300]
    elif fault:
        alert.summary = fault[:300]
    elif was is State.ERROR:
        alert.value, alert.summary = None, "the rule can look again"
    elif State(alert.state) is not was:
        alert.value, alert.summary = None, f"nothing of it is left to measure, before: {alert.summary}"[:300]


def _leave(alert: Alert) -> None:
    """Note that nobody looks after an alert any more."""
    alert.acknowledged_by, alert.acknowledged_at, alert.acknowledged_until = "", None, None


def _stepped(rule: Rule, before: Standing, holds: bool | None, fault: str, now: datetime) -> Standing:
    if fault:
        return failed(before, now)
    timing = Timing(rule.for_s, rule.keep_firing_s, NoData(rule.no_data))
    return step(before, holds, timing, now)


def _escalates(rule: Rule, alert: Alert, now: datetime) -> bool:
    return escalates(
        State(alert.state), Told(alert.told), alert.told_at, rule.escalate_after_s,
        taken=alert.acknowledged_at is not None, done=alert.escalated_at is not None, now=now,
    )  # fmt: skip


def _changed(alert: Alert, before: str, told: str, now: datetime) -> Change:
    return Change.objects.create(
        alert=alert,
        at=now,
        before=before,
        state=alert.state,
        told=told,
        value=alert.value,
        summary=alert.summary,
    )


def _post(rule: Rule, alert: Alert, change: Change, *, wider: bool, now: datetime) -> None:
    """Put a notification into the outbox, if there is one: to every channel of the rule, once to each.

    An escalation goes to those of the escalation; with ``wider``, what comes after it goes to them too.
    """
    if not change.told:
        return
    found = set[Channel]()
    if change.told != ESCALATED:
        found |= set(rule.channels.filter(archived_at=None))
    if wider:
        found |= set(rule.escalate_to.filter(archived_at=None))
    grouping.post(change, body_of(rule, alert, change), found, now)


@transaction.atomic
def end_unwatched(*, now: datetime) -> int:
    """End the alerts of rules that are looked at no more, and tell those who believe that they go on; return how many."""
    unwatched = Rule.objects.filter(
        Q(enabled=False) | Q(archived_at__isnull=False) | Q(tenant__archived_at__isnull=False)
    )
    going_on = ~Q(state__in=_AT_REST) | ~Q(told__in=_NOT_TOLD)
    alerts = Alert.objects.select_for_update(skip_locked=True, of=("self",)).filter(going_on, rule__in=unwatched)
    ended = list(alerts.select_related("rule__tenant").order_by("pk")[:MOST_LABELS])
    for alert in ended:
        before, told = alert.state, alert.told not in _NOT_TOLD
        wider = alert.escalated_at is not None
        alert.state, alert.since = State.RESOLVED if told else State.INACTIVE, now
        alert.active_at = alert.gone_at = alert.escalated_at = None
        alert.told, alert.told_at = (Told.RESOLVED, now) if told else (alert.told, alert.told_at)
        alert.summary = _why_unwatched(alert.rule)
        alert.silenced, alert.muted_by = False, ""
        _leave(alert)
        alert.save()
        _post(alert.rule, alert, _changed(alert, before, Told.RESOLVED if told else "", now), wider=wider, now=now)
    return len(ended)


def _why_unwatched(rule: Rule) -> str:
    if rule.archived_at is not None:
        return "The rule was taken away."
    return "The rule was switched off." if not rule.enabled else "The tenant was archived."


def forget_quiet(*, now: datetime) -> int:
    """Delete alerts of things that have not been heard of for long and are at rest; return how many rows that were.

    What was sent because of them stays in the log for longer.
    """
    old = Delivery.objects.filter(change=None, created_at__lt=now - _LOG_KEPT, mentions=None)
    old.exclude(status=DeliveryStatus.WAITING).delete()
    quiet = Alert.objects.filter(state__in=_AT_REST, since__lt=now - _FORGOTTEN_AFTER)
    deleted, _ = quiet.exclude(label="").delete()
    return deleted

"""Rules of alerts: all of them with what they watch now; the editor, which tries a rule on the last seven days."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.alerting import queries
from controlplane.alerting.models import Rule
from controlplane.domain.alerts import ON, State
from controlplane.telemetry import queries as telemetry
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import Asker
from dashboard.alert_words import KINDS, SEVERITIES
from dashboard.asking import Asking
from dashboard.page import Context, Page, Params
from dashboard.rule_forms import BYS, FIELDS, NO_DATA, TIMING, Choices, Field, initial_of, times
from dashboard.rule_forms import SEVERITIES as SEVERITY_CHOICES

MOST = 300
ABOUT = {
    "threshold": "A figure of calls against a limit.",
    "ratio": "One count over another: refused per call, dollars per answer.",
    "absence": "Nothing calls any more.",
    "burn_rate": "A service level whose error budget burns too fast, seen in a long and a short window.",
    "forecast": "A budget that will be used up before its period ends, at the pace of the last hour.",
    "budget": "A budget of which a share is spent.",
    "anomaly": "The last hour is unlike the same hour of the weeks before.",
    "fleet": "Breakers, clients, rollouts and the intake of telemetry.",
    "metric": "Any metric of the page Metrics: against a limit or another metric, missing, or unlike the same hour of the weeks before.",
}


@dataclass(frozen=True)
class Row:
    """A rule as listed."""

    rule: Rule
    severity: str
    severity_tone: str
    firing: int
    pending: int
    watched: int


def build(asking: Asking, params: Params) -> Context:
    tenant = params.value("tenant")
    rules = queries.rules_seen_by(asking.asker)
    if tenant:
        rules = rules.filter(tenant__slug=tenant)
    return {"title": "Rules", "rows": [_row(rule) for rule in rules[:MOST]], "kinds": KINDS, "abouts": ABOUT}


def _row(rule: Rule) -> Row:
    states = [State(alert.state) for alert in rule.alerts.all()]
    severity, tone = SEVERITIES[rule.severity]
    return Row(
        rule, severity, tone, sum(each in ON for each in states), states.count(State.PENDING), len(states)
    )  # fmt: skip


PAGE = Page(
    name="alert-rules",
    section="alerts",
    template="pages/alert_rules.html",
    parts={"rule_list": "alerts/rules.html"},
    build=build,
    params=frozenset({"tenant"}),
)


@dataclass(frozen=True)
class Drawn:
    """A field as drawn: its present value among its choices."""

    name: str
    label: str
    initial: str
    choices: Choices
    hint: str
    placeholder: str
    required: bool


def build_edit(asking: Asking, params: Params) -> Context:
    asking.asker.must(Role.OPERATOR)
    rule = named(asking.asker, params.value("rule")) if params.value("rule") else None
    kind = params.value("kind") if params.value("kind") in FIELDS else rule.kind if rule else "threshold"
    same = rule if rule is not None and rule.kind == kind else None
    owner = rule.tenant.slug if rule and rule.tenant else params.value("tenant")
    others = queries.rules_seen_by(asking.asker).prefetch_related(None)
    return {
        "title": rule.name if rule else "New rule",
        "rule": rule,
        "kind": kind,
        "kinds": KINDS,
        "about": ABOUT[kind],
        "owner": owner,
        "fields": [_drawn(same, field, asking) for field in FIELDS[kind]],
        "timing": [(name, label, *_time(rule, name, usual)) for name, label, usual in TIMING],
        "bys": BYS,
        "no_data_choices": NO_DATA,
        "severity_choices": SEVERITY_CHOICES,
        "escalations": (
            ("0", "Never"),
            *times(300, 900, 1800, 3600, more=rule.escalate_after_s or None if rule else None),
        ),
        "channels": list(queries.channels_seen_by(asking.asker)[:100]),
        "told": {channel.pk for channel in rule.channels.all()} if rule else set(),
        "escalated": {channel.pk for channel in rule.escalate_to.all()} if rule else set(),
        "others": [each for each in others[:100] if rule is None or each.pk != rule.pk],
        "inhibitors": {each.pk for each in rule.inhibited_by.all()} if rule else set(),
        "may_all": asking.asker.tenant is None,
    }


def named(asker: Asker, name: str) -> Rule:
    """Return the rule of a full name: ``tenant/slug``, the installation's without a tenant."""
    owner, _, slug = name.partition("/")
    return queries.rule_seen_by(asker, owner or None, slug)


def _drawn(rule: Rule | None, field: Field, asking: Asking) -> Drawn:
    initial, choices = initial_of(rule, field), field.choices
    if field.name == "spec.slo":
        found = [(slo.slug, slo.full_name) for slo in queries.slos_seen_by(asking.asker)[:100]]
        choices = found or [("", "There is none yet: make one first")]
    elif field.name == "spec.metric" and not choices:
        sent = telemetry.metrics_seen_by(asking.asker)
        named = {each.name: each.name for each in sent} | {name: each.title for name, each in telemetry.SEVEN.items()}
        choices = tuple((named | ({initial: initial} if initial else {})).items())
    elif field.form == "whole" and choices and initial:
        choices = times(*(int(value) for value, _ in choices), more=int(initial))
    return Drawn(field.name, field.label, initial, choices, field.hint, field.placeholder, field.required)


def _time(rule: Rule | None, name: str, usual: str) -> tuple[str, Choices]:
    value = str(getattr(rule, name)) if rule else usual
    least = (5, 15, 30, 60, 300) if name == "every_s" else (0, 60, 120, 300, 600, 1800, 3600)
    return value, times(*least, more=int(value))


EDIT = Page(
    name="alert-rule-edit",
    section="alerts",
    template="pages/alert_rule_edit.html",
    parts={},
    build=build_edit,
    params=frozenset({"rule", "kind", "tenant"}),
)

"""What rules and alerts say, as people read it: a condition, a value against its limit, a state with its colour and shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse

from controlplane.alerting.conditions import figure_text
from controlplane.alerting.findings import SIGNS, hours_text, number_text
from controlplane.alerting.models import Alert, Rule
from controlplane.alerting.sent import DEVIATIONS
from controlplane.domain.alerts import ON, State
from controlplane.domain.slo import BURNS
from dashboard import figures

KINDS = {
    "threshold": "Threshold",
    "ratio": "Ratio",
    "absence": "Absence",
    "burn_rate": "Burn rate",
    "forecast": "Forecast",
    "budget": "Budget",
    "anomaly": "Anomaly",
    "fleet": "Fleet",
    "metric": "Any metric",
}
METRICS = {
    "calls": "Calls",
    "calls_per_s": "Calls per second",
    "errors": "Failed calls",
    "error_rate": "Share of calls that fail",
    "refused": "Refused calls",
    "refused_rate": "Share of calls that are refused",
    "fallback_rate": "Share of calls that a fallback answers",
    "tokens": "Tokens",
    "tokens_per_s": "Tokens per second",
    "cost_usd": "Cost, dollars",
    "cost_usd_per_h": "Cost, dollars per hour",
    "latency_p50_ms": "Latency p50, ms",
    "latency_p95_ms": "Latency p95, ms",
    "latency_p99_ms": "Latency p99, ms",
    "queue_depth": "Calls that wait",
    "cache_hit_rate": "Share of input that is cached",
    "active_sessions": "Sessions in use",
}
COUNTED = {
    "calls": "Calls",
    "errors": "Failed calls",
    "refused": "Refused calls",
    "fallbacks": "Answers by a fallback",
    "retries": "Retries",
    "input_tokens": "Input tokens",
    "cached_input_tokens": "Cached input tokens",
    "output_tokens": "Output tokens",
    "cost_usd": "Dollars",
}
WHATS = {
    "breakers_open": "Open breakers",
    "clients_lost": "Clients that fell silent",
    "clients_refusing": "Clients that refuse their config",
    "clients_dropping": "Clients that drop telemetry",
    "rollouts_waiting": "Rollouts that wait for a person",
    "rollouts_undone": "Rollouts taken back or aborted in the last hour",
    "ingest_lag_s": "Seconds since telemetry last arrived",
}
STATES = {
    State.FIRING: ("Firing", "sq trouble"),
    State.KEEP_FIRING: ("Firing, calming down", "half trouble"),
    State.PENDING: ("Pending", "half watch"),
    State.ERROR: ("Can’t look", "sq watch"),
    State.NO_DATA: ("No data", "mute"),
    State.RESOLVED: ("Resolved", "ok"),
    State.INACTIVE: ("At rest", "mute"),
}
SEVERITIES = {"page": ("Page", "trouble"), "ticket": ("Ticket", "watch"), "info": ("Info", "info")}
TOLD = {"firing": "told that it fires", "resolved": "told that it is over", "no-data": "told that data is missing",
        "error": "told that the rule can’t look", "escalated": "escalated"}  # fmt: skip


def _window(seconds: int) -> str:
    return figures.span(seconds)


def _against(spec: dict[str, Any], text: str) -> str:
    return f"{SIGNS[spec.get('op', 'above')]} {text}"


def limit_text(kind: str, spec: dict[str, Any]) -> str:
    """Return what a value is held against: ``> 10.0 %``."""
    match kind:
        case "threshold":
            return _against(spec, figure_text(spec["metric"], spec["value"]))
        case "ratio":
            return _against(spec, f"{spec['value']:.4g}")
        case "absence":
            return f"none in {_window(spec.get('window_s', 600))}"
        case "burn_rate":
            return f"> {' / '.join(f'{burn.factor:g}' for burn in BURNS)} ×"
        case "forecast":
            return f"within {spec['within_h']:g} h" if spec.get("within_h") else "before its period ends"
        case "budget":
            return f"≥ {spec['used'] * 100:g} %" if spec.get("used") else "its thresholds"
        case "anomaly":
            return f"score ≥ {spec.get('score', 4.0):g}"
        case "metric":
            return _metric_limit(spec)
        case _:
            return f"{SIGNS[spec.get('op', 'at_least')]} {spec.get('value', 1):g}"


def _metric_limit(spec: dict[str, Any]) -> str:
    op = spec.get("op", "above")
    if op == "absent":
        return f"none in {_window(spec.get('window_s', 300))}"
    value = spec.get("value", 0.0)
    return f"score ≥ {value or DEVIATIONS:g}" if op == "unusual" else f"{SIGNS[op]} {number_text(value)}"


def value_text(kind: str, spec: dict[str, Any], value: float | None) -> str:
    """Return what was measured, with its unit; a dash for nothing."""
    if value is None:
        return "–"
    match kind:
        case "threshold" | "anomaly":
            return figure_text(spec["metric"], value)
        case "ratio":
            return f"{value:.4g}"
        case "absence":
            return f"{value:.0f} calls"
        case "burn_rate":
            return f"{value:.1f} ×"
        case "forecast":
            return f"in {hours_text(value)}"
        case "budget":
            return f"{value * 100:.0f} %"
        case "metric":
            return number_text(value)
        case _:
            return f"{value:,.0f}"


def _subject(kind: str, spec: dict[str, Any]) -> str:
    match kind:
        case "threshold" | "anomaly":
            return METRICS[spec["metric"]]
        case "ratio":
            return f"{COUNTED[spec['numerator']]} per {COUNTED[spec['denominator']].lower()}"
        case "absence":
            return "Calls"
        case "metric":
            return (
                f"{spec['metric']} per {spec['per']}"
                if spec.get("per")
                else f"{spec['metric']} {spec.get('stat', '')}".strip()
            )
        case "burn_rate":
            return f"Error budget of {spec['slo']} burns"
        case "forecast":
            return f"Budget {spec.get('budget') or 'of any name'} is used up"
        case "budget":
            return f"Budget {spec.get('budget') or 'of any name'} passes"
        case _:
            return WHATS[spec["what"]]


def condition_text(rule: Rule) -> str:
    """Return a rule in one line: ``Share of calls that fail > 10.0 % over 5 min, per route, for 2 min``."""
    spec = rule.spec
    words = [f"{_subject(rule.kind, spec)} {limit_text(rule.kind, spec)}"]
    if rule.kind in ("threshold", "ratio") or (rule.kind == "metric" and spec.get("op", "above") in SIGNS):
        words[0] += f" over {_window(spec.get('window_s', 300))}"
    if rule.kind == "anomaly":
        words[0] += f" ({spec.get('direction', 'up')}) against the same hour of the weeks before"
    if spec.get("by"):
        words.append(f"per {spec['by']}")
    words += [f"{name} {spec[name]}" for name in ("tenant", "route", "model", "release") if spec.get(name)]
    if rule.for_s:
        words.append(f"for {_window(rule.for_s)}")
    return ", ".join(words)


@dataclass(frozen=True)
class Line:
    """One alert as drawn."""

    alert: Alert
    word: str
    tone: str
    value: str
    limit: str
    severity: str
    severity_tone: str
    link: str
    link_says: str

    @property
    def on(self) -> bool:
        return State(self.alert.state) in ON


def line_of(alert: Alert) -> Line:
    """Return an alert in the words and tones of the list, with where one sees why."""
    rule = alert.rule
    word, tone = STATES[State(alert.state)]
    severity, severity_tone = SEVERITIES[rule.severity]
    link, says = evidence_of(alert)
    return Line(
        alert, word, tone, value_text(rule.kind, rule.spec, alert.value), limit_text(rule.kind, rule.spec),
        severity, severity_tone, link, says,
    )  # fmt: skip


def evidence_of(alert: Alert) -> tuple[str, str]:
    """Return the page where one sees why, and what it is called."""
    rule = alert.rule
    spec = rule.spec
    if rule.kind in ("forecast", "budget"):
        return reverse("budgets"), "See budgets"
    if rule.kind == "burn_rate":
        owner = rule.tenant.slug if rule.tenant else ""
        return f"{reverse('slos')}?{urlencode({'slo': f'{owner}/' + spec['slo']})}", "See service level"
    if rule.kind == "fleet":
        name = {"breakers": "breakers", "rollouts": "rollouts"}.get(spec["what"].partition("_")[0], "clients")
        return reverse(name), f"See {name}"
    narrowed = {name: str(spec[name]) for name in ("tenant", "route", "model", "release") if spec.get(name)}
    if rule.kind == "metric":
        asked = {name: str(spec[name]) for name in ("metric", "stat", "by") if spec.get(name)}
        return f"{reverse('metrics')}?{urlencode({**asked, **narrowed, 'since': '6h'})}", "See metric"
    if spec.get("by") and alert.label:
        narrowed[spec["by"]] = alert.label
    if rule.tenant and "tenant" not in narrowed:
        narrowed["tenant"] = rule.tenant.slug
    if str(spec.get("metric", spec.get("numerator", ""))).startswith("error"):
        narrowed["status"] = "error"
    return f"{reverse('traces')}?{urlencode({**narrowed, 'since': '1h'})}", "See traces"

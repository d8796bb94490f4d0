"""What a rule finds when it looks: one finding per thing that it watches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q

from controlplane.alerting.findings import HOURS_BEFORE, Finding, hours_text, leans, said, usual_of
from controlplane.alerting.levels import asker_for, burn_rates, slo_named
from controlplane.alerting.models import Rule
from controlplane.alerting.schemas import (
    AbsenceSpec,
    AnomalySpec,
    BudgetSpec,
    BurnRateSpec,
    FleetSpec,
    ForecastSpec,
    MetricSpec,
    RatioSpec,
    ThresholdSpec,
    spec_of,
)
from controlplane.alerting.sent import look_at_metric
from controlplane.budgets import queries as budgets
from controlplane.domain.alerts import Comparison, compares
from controlplane.domain.presence import presence_of
from controlplane.domain.rollout import OPEN
from controlplane.domain.slo import BURNS, burns
from controlplane.fleet import queries as fleet
from controlplane.problems import NotFound
from controlplane.rollouts import queries as rollouts
from controlplane.telemetry import queries as telemetry
from controlplane.telemetry.queries import Measured
from controlplane.tenancy.queries import Asker

NANO = 1e9


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


FIGURES: dict[str, Callable[[Measured], float | None]] = {
    "calls": lambda m: m["calls"],
    "calls_per_s": lambda m: m["calls"] / m.seconds,
    "errors": lambda m: m["errors"],
    "error_rate": lambda m: _share(m["errors"], m["calls"]),
    "refused": lambda m: m["refused"],
    "refused_rate": lambda m: _share(m["refused"], m["calls"] + m["refused"]),
    "fallback_rate": lambda m: _share(m["fallbacks"], m["calls"]),
    "tokens": lambda m: m["input_tokens"] + m["output_tokens"],
    "tokens_per_s": lambda m: (m["input_tokens"] + m["output_tokens"]) / m.seconds,
    "cost_usd": lambda m: m["cost_nusd"] / NANO,
    "cost_usd_per_h": lambda m: m["cost_nusd"] / NANO / m.seconds * 3600,
    "latency_p50_ms": lambda m: m.latency_ms[0],
    "latency_p95_ms": lambda m: m.latency_ms[1],
    "latency_p99_ms": lambda m: m.latency_ms[2],
    "queue_depth": lambda m: m.queue_depth,
    "cache_hit_rate": lambda m: _share(m["cached_input_tokens"], m["input_tokens"]),
    "active_sessions": lambda m: m.sessions,
}


def findings_of(rule: Rule, now: datetime) -> list[Finding]:
    """Return what a rule finds at ``now``; ``Problem`` when it can't look."""
    spec = spec_of(rule.kind, rule.spec)
    return _LOOKS[type(spec)](asker_for(rule), spec, now)


def figure_name(metric: str) -> str:
    """Return a figure's name as people say it: its unit stands with its value (``error rate``, ``latency p95``, ``cost``)."""
    return "cost" if metric.startswith("cost_usd") else metric.removesuffix("_ms").replace("_", " ")


def figure_text(metric: str, value: float | None) -> str:
    """Return a figure with its unit: ``12.3 %``, ``820 ms``, ``$4.20``."""
    if value is None:
        return "nothing"
    if metric.endswith("rate"):
        return f"{value * 100:.1f} %"
    if metric.endswith("_ms"):
        return f"{value:,.0f} ms"
    if metric.startswith("cost_usd"):
        return f"${value:,.2f}" + ("/h" if metric.endswith("_per_h") else "")
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2f}"


def holds_threshold(spec: ThresholdSpec, measured: Measured) -> tuple[float | None, bool | None]:
    """Return the figure, and whether it is beyond; ``None`` with too few calls to say."""
    value = FIGURES[spec.metric](measured) if measured["calls"] + measured["refused"] >= spec.min_calls else None
    return value, None if value is None else compares(value, Comparison(spec.op), spec.value)


def holds_ratio(spec: RatioSpec, measured: Measured) -> tuple[float | None, bool | None]:
    """Return one count over another, and whether it is beyond; ``None`` with too little to divide by."""
    whole = _counted(measured, spec.denominator)
    value = _share(_counted(measured, spec.numerator), whole) if whole >= max(spec.min_denominator, 1e-12) else None
    return value, None if value is None else compares(value, Comparison(spec.op), spec.value)


def needs_latency(spec: ThresholdSpec | RatioSpec | AbsenceSpec | AnomalySpec) -> bool:
    """Return whether a rule looks at latencies: those cost most to read."""
    return isinstance(spec, ThresholdSpec | AnomalySpec) and spec.metric.startswith("latency")


def needs_samples(spec: ThresholdSpec | RatioSpec | AbsenceSpec) -> bool:
    """Return whether a rule looks at what is sampled: queue depth or sessions."""
    return isinstance(spec, ThresholdSpec) and spec.metric in ("queue_depth", "active_sessions")


class _Noting(dict[str, int]):
    """Counts that note which of them are looked at."""

    def __init__(self) -> None:
        self.names = {"calls", "refused"}

    def get(self, name: str, _default: object = None) -> int:
        self.names.add(name)
        return 1


def needed_counts(spec: ThresholdSpec | RatioSpec | AbsenceSpec) -> list[str]:
    """Return the counts that a rule looks at."""
    noting = _Noting()
    measured = Measured(1.0, noting)
    if isinstance(spec, ThresholdSpec):
        FIGURES[spec.metric](measured)
    elif isinstance(spec, RatioSpec):
        _counted(measured, spec.numerator)
        _counted(measured, spec.denominator)
    return sorted(noting.names)


def _groups(asker: Asker, spec: ThresholdSpec | RatioSpec, now: datetime) -> dict[str, Measured]:
    since = now - timedelta(seconds=spec.window_s)
    found = telemetry.measured(
        asker, since, now, spec.by, spec.tenant or None, spec.route, spec.model,
        latency=needs_latency(spec), sampled=needs_samples(spec), counts=needed_counts(spec),
    )  # fmt: skip
    return found if spec.by or found else {"": Measured(spec.window_s)}


def _threshold(asker: Asker, spec: ThresholdSpec, now: datetime) -> list[Finding]:
    findings = []
    for label, measured in _groups(asker, spec, now).items():
        value, holds = holds_threshold(spec, measured)
        found, limit = figure_text(spec.metric, value), figure_text(spec.metric, spec.value)
        words = said(figure_name(spec.metric), found, spec.op, limit, holds)
        findings.append(Finding(label, value, holds, words))
    return findings


def _counted(measured: Measured, name: str) -> float:
    return measured["cost_nusd"] / NANO if name == "cost_usd" else float(measured[name])


def _ratio(asker: Asker, spec: RatioSpec, now: datetime) -> list[Finding]:
    findings = []
    for label, measured in _groups(asker, spec, now).items():
        value, holds = holds_ratio(spec, measured)
        text = "" if value is None else f"{value:.4g}"
        what = f"{figure_name(spec.numerator)} ÷ {figure_name(spec.denominator)}"
        words = said(what, text, spec.op, f"{spec.value:.4g}", holds)
        findings.append(Finding(label, value, holds, words))
    return findings


def _calls(asker: Asker, spec: AbsenceSpec, since: datetime, until: datetime) -> dict[str, Measured]:
    return telemetry.measured(
        asker, since, until, spec.by, spec.tenant or None, spec.route, spec.model, latency=False, sampled=False, counts=("calls",)
    )  # fmt: skip


def _absence(asker: Asker, spec: AbsenceSpec, now: datetime) -> list[Finding]:
    since = now - timedelta(seconds=spec.window_s)
    found = _calls(asker, spec, since, now)
    expected = {""}
    if spec.by:
        day = _calls(asker, spec, now - timedelta(hours=24), now)
        expected = {label for label, each in day.items() if each["calls"]}
    findings = []
    for label in sorted(expected):
        calls = found[label]["calls"] if label in found else 0
        findings.append(Finding(label, float(calls), calls == 0, f"{calls} calls in {spec.window_s // 60} min"))
    return findings


def _burning(asker: Asker, spec: BurnRateSpec, now: datetime) -> list[Finding]:
    slo = slo_named(asker, spec.slo)
    rates = burn_rates(slo, now)
    if all(rate is None for rate in rates.values()):
        return [Finding("", None, None, f"no calls for {slo.name}")]
    burn = burns(rates, slo.objective)
    if burn is None:
        newest = rates[BURNS[0].long_s]
        return [
            Finding("", newest, False, f"{slo.name} burns {0 if newest is None else newest:.1f} × in the last hour")
        ]
    rate = rates[burn.long_s]
    words = f"{slo.name} burns {rate:.1f} × over {burn.long_s // 3600} h, more than {burn.factor:g} × ({burn.severity})"
    return [Finding("", rate, True, words)]


def _standings(asker: Asker, budget: str, now: datetime) -> list[budgets.Standing]:
    found = [each for each in budgets.standings(asker, now) if not budget or each.budget.slug == budget]
    if budget and not found:
        raise NotFound(f"There is no budget {budget!r} that the rule may see.")
    return found


def _forecast(asker: Asker, spec: ForecastSpec, now: datetime) -> list[Finding]:
    findings = []
    for standing in _standings(asker, spec.budget, now):
        left_h = None if standing.exhausted_at is None else (standing.exhausted_at - now).total_seconds() / 3600
        holds = left_h is not None and not standing.exhausted and (spec.within_h is None or left_h <= spec.within_h)
        said = "lasts" if left_h is None else f"is used up in {hours_text(left_h)}, before its period ends"
        findings.append(Finding(standing.budget.name, left_h, holds, f"the budget {standing.budget.name} {said}"))
    return findings


def _budget(asker: Asker, spec: BudgetSpec, now: datetime) -> list[Finding]:
    findings = []
    for standing in _standings(asker, spec.budget, now):
        limits = [spec.used] if spec.used is not None else [each / 100 for each in standing.budget.thresholds]
        for limit in limits:
            name = standing.budget.name if spec.used is not None else f"{standing.budget.name} {limit:.0%}"
            words = f"{standing.used:.0%} of the budget {standing.budget.name} is spent, threshold {limit:.0%}"
            findings.append(Finding(name, standing.used, standing.used >= limit, words))
    return findings


def _anomaly(asker: Asker, spec: AnomalySpec, now: datetime) -> list[Finding]:
    """Look at the last whole hour, and at the same hour of the weeks before and the hours beside it."""
    hour = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)

    def at(hours_before: int) -> dict[str, Measured]:
        starts = hour - timedelta(hours=hours_before)
        return telemetry.measured(
            asker, starts, starts + timedelta(hours=1), spec.by, spec.tenant or None, spec.route, spec.model,
            latency=needs_latency(spec),
        )  # fmt: skip

    current, before = at(0), {hours: at(hours) for hours in HOURS_BEFORE}
    names = {"", *current} if not spec.by else {*current, *(name for found in before.values() for name in found)}
    return [found for name in sorted(names) if (found := _unlike(spec, name, current.get(name), before)) is not None]


def _unlike(
    spec: AnomalySpec, name: str, current: Measured | None, before: Mapping[int, Mapping[str, Measured]]
) -> Finding | None:
    """Return what is found of one group: what called before and no longer does had no calls; who hardly ever called is left out."""
    figure = FIGURES[spec.metric]
    known = usual_of(lambda hours: figure(before[hours][name]) if name in before[hours] else None)
    if known is None and current is None and spec.by:
        return None
    value = figure(current or Measured(3600.0))
    if value is None or known is None:
        words = f"not enough is known of {figure_name(spec.metric)} at this hour of the week"
        return Finding(name, value if current else None, None, words)
    score = known.score(value)
    words = (
        f"{figure_name(spec.metric)} was {figure_text(spec.metric, value)}, usual at this hour of the week is "
        f"{figure_text(spec.metric, known.median)} (score {score:+.1f})"
    )
    return Finding(name, value, leans(score, spec.direction) >= spec.score, words)


def _fleet(asker: Asker, spec: FleetSpec, now: datetime) -> list[Finding]:
    value, words = _FLEET[spec.what](asker, spec, now)
    holds = None if value is None else compares(value, Comparison(spec.op), spec.value)
    return [Finding("", value, holds, words)]


Seen = tuple[float | None, str]
_HOUR = timedelta(hours=1)


def _named(what: str, names: list[str]) -> Seen:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return float(len(names)), f"{what}: {', '.join(names[:5]) or 'none'}{more}"


def _breakers_open(asker: Asker, spec: FleetSpec, now: datetime) -> Seen:
    found = [
        each
        for each in fleet.breakers_seen_by(asker, now)
        if each.open and spec.route in ("", each.route) and spec.model in ("", each.model)
    ]
    return _named("open breakers", [f"{each.route}/{each.model}" for each in found])


def _clients(count: int) -> str:
    return "1 client" if count == 1 else f"{count} clients"


def _clients_lost(asker: Asker, _spec: FleetSpec, now: datetime) -> Seen:
    recent = fleet.instances_seen_by(asker).filter(seen_at__gte=now - _HOUR)[:2000]
    lost = sum(presence_of(seen_at=each.seen_at, closed_at=each.closed_at, now=now) == "lost" for each in recent)
    return float(lost), f"{_clients(lost)} fell silent without a goodbye"


def _clients_refusing(asker: Asker, _spec: FleetSpec, now: datetime) -> Seen:
    refusing = fleet.live_instances_seen_by(asker, now).exclude(refused_etag="").count()
    return float(refusing), f"{_clients(refusing)} with a config refused"


def _clients_dropping(asker: Asker, _spec: FleetSpec, now: datetime) -> Seen:
    dropping = fleet.live_instances_seen_by(asker, now).filter(Q(dropped_windows__gt=0) | Q(dropped_spans__gt=0))
    count = dropping.count()
    return float(count), f"{_clients(count)} with telemetry dropped"


def _rollouts_waiting(asker: Asker, _spec: FleetSpec, _now: datetime) -> Seen:
    waiting = rollouts.rollouts_seen_by(asker).filter(Q(phase__in=["held", "approval"]) | Q(phase__in=OPEN, asks=True))
    return _named("wait for a person", [f"{each.deployment.slug} {each.release.version}" for each in waiting[:100]])


def _rollouts_undone(asker: Asker, _spec: FleetSpec, now: datetime) -> Seen:
    undone = rollouts.rollouts_seen_by(asker).filter(phase__in=["rolled_back", "aborted"], ended_at__gte=now - _HOUR)
    return _named("taken back", [f"{each.deployment.slug} {each.release.version}" for each in undone[:100]])


def _ingest_lag(asker: Asker, _spec: FleetSpec, now: datetime) -> Seen:
    newest = telemetry.newest_window(asker, now - _HOUR, now)
    if newest is None:
        return None, "no telemetry arrived in the last hour"
    lag = max(0.0, (now - newest).total_seconds() - 10)  # a window is of ten seconds
    return lag, f"telemetry last arrived {lag:.0f} s ago"


_FLEET: dict[str, Callable[[Asker, FleetSpec, datetime], Seen]] = {
    "breakers_open": _breakers_open,
    "clients_lost": _clients_lost,
    "clients_refusing": _clients_refusing,
    "clients_dropping": _clients_dropping,
    "rollouts_waiting": _rollouts_waiting,
    "rollouts_undone": _rollouts_undone,
    "ingest_lag_s": _ingest_lag,
}
_LOOKS: dict[type[Any], Callable[[Asker, Any, datetime], list[Finding]]] = {
    ThresholdSpec: _threshold,
    RatioSpec: _ratio,
    AbsenceSpec: _absence,
    BurnRateSpec: _burning,
    ForecastSpec: _forecast,
    BudgetSpec: _budget,
    AnomalySpec: _anomaly,
    FleetSpec: _fleet,
    MetricSpec: look_at_metric,
}

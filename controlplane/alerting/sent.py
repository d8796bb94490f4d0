"""Rules over any metric of the page Metrics: what applications send by OTLP, what the server measures of itself, the seven."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from controlplane.alerting.findings import WEEKS, Finding, number_text, said
from controlplane.alerting.schemas import MetricSpec
from controlplane.domain.alerts import Comparison, compares, usual
from controlplane.problems import Invalid, NotFound
from controlplane.telemetry import queries as telemetry
from controlplane.telemetry.queries import Metric, Question, Step, value_of
from controlplane.telemetry.resolutions import floor
from controlplane.tenancy.queries import Asker

MOST_GROUPS = 500
_HOUR_S = 3600
_HOUR = timedelta(hours=1)
_WINDOW_S = 10  # of calls


def metric_of(asker: Asker, spec: MetricSpec) -> Metric | None:
    """Return the metric that a rule looks at, ``None`` when nobody sent it yet; ``Invalid`` where it can't be asked for that."""
    try:
        metric = telemetry.metric_seen_by(asker, spec.metric)
    except NotFound:
        return None
    if spec.stat and spec.stat not in metric.stats:
        raise Invalid(
            f"{spec.stat} is not told of {metric.name}.",
            errors={"spec.stat": f"must be one of {', '.join(metric.stats)}, or empty"},
        )
    if spec.by and spec.by not in metric.dimensions:
        raise Invalid(
            f"{metric.name} has no {spec.by}.", errors={"spec.by": f"must be one of {', '.join(metric.dimensions)}"}
        )
    return metric


def question_of(spec: MetricSpec, since: datetime, until: datetime, step_s: int, grain: str = "") -> Question:
    return Question(
        since, until, step_s, spec.by, spec.tenant, spec.route, spec.model, spec.release, most=MOST_GROUPS, grain=grain
    )


def told(metric: Metric, spec: MetricSpec, step: Step | None, per: Step | None, seconds: float) -> float | None:
    """Return what a rule measures in a step: what is told of the metric, or what it comes to over what another one does."""
    if step is None:
        return None
    if spec.per:
        return step.amount / per.amount if per is not None and per.amount else None
    return value_of(metric, spec.stat or metric.stats[0], step, seconds)


def figure_of(metric: Metric | None, spec: MetricSpec, value: float | None) -> str:
    """Return a figure with its unit, as it was sent: ``0.82 s``."""
    if value is None:
        return "nothing"
    unit = "" if metric is None or spec.per or metric.unit in ("", "1") else f" {metric.unit.strip('{}')}"
    pace = {"rate": "/s", "per_hour": "/h"}.get(spec.stat or (metric.stats[0] if metric else ""), "")
    return f"{number_text(value)}{unit}{'' if spec.per else pace}"


def subject_of(spec: MetricSpec) -> str:
    return f"{spec.metric} ÷ {spec.per}" if spec.per else f"{spec.metric} {spec.stat}".strip()


def look_at_metric(asker: Asker, spec: MetricSpec, now: datetime) -> list[Finding]:
    """Return a finding for each group, or for all together."""
    metric = metric_of(asker, spec)
    if spec.op == "absent":
        return _absent(asker, metric, spec, now)
    if metric is None:
        return [Finding("", None, None, f"nobody has sent {spec.metric} yet")]
    return _unusual(asker, metric, spec, now) if spec.op == "unusual" else _held(asker, metric, spec, now)


def _steps(asker: Asker, metric: Metric, asked: Question) -> dict[str, Step]:
    """Return what each group came to in the only step of a question."""
    lines = telemetry.course_seen_by(asker, metric, asked).lines
    return {line.name: line.steps[0] for line in lines if line.steps and line.steps[0] is not None}


def _last(metric: Metric, now: datetime) -> datetime:
    """Return until when a metric is read: call windows as a whole, points to the last one."""
    return now if metric.kind else floor(now, _WINDOW_S)


def _pers(asker: Asker, spec: MetricSpec, asked: Question) -> Mapping[str, Step]:
    if not spec.per:
        return {}
    try:
        return _steps(asker, telemetry.metric_seen_by(asker, spec.per), asked)
    except NotFound:
        return {}


def _held(asker: Asker, metric: Metric, spec: MetricSpec, now: datetime) -> list[Finding]:
    until = _last(metric, now)
    asked = question_of(spec, until - timedelta(seconds=spec.window_s), until, spec.window_s)
    found, pers = _steps(asker, metric, asked), _pers(asker, spec, asked)
    findings = []
    for label in found if spec.by else [""]:
        value = told(metric, spec, found.get(label), pers.get(label), spec.window_s)
        holds = None if value is None else compares(value, Comparison(spec.op), spec.value)
        words = said(
            subject_of(spec), figure_of(metric, spec, value), spec.op, figure_of(metric, spec, spec.value), holds
        )
        findings.append(Finding(label, value, holds, words))
    return findings


def _absent(asker: Asker, metric: Metric | None, spec: MetricSpec, now: datetime) -> list[Finding]:
    """By group: of those that sent in the day before."""
    found: Mapping[str, Step] = {}
    expected = {""}
    if metric is not None:
        until = _last(metric, now)
        found = _steps(asker, metric, question_of(spec, until - timedelta(seconds=spec.window_s), until, spec.window_s))
        if spec.by:
            day = question_of(spec, until - timedelta(days=1), until, 86_400)
            expected = set(_steps(asker, metric, day))
    elif spec.by:
        return []
    findings = []
    for label in sorted(expected):
        samples = found[label].samples if label in found else 0
        words = f"{samples} values of {spec.metric} in {spec.window_s // 60} min"
        findings.append(Finding(label, float(samples), label not in found, words))
    return findings


def _unusual(asker: Asker, metric: Metric, spec: MetricSpec, now: datetime) -> list[Finding]:
    """Look at the last whole hour, and at the same hour of the weeks before and the hours beside it."""
    hour = floor(now, _HOUR_S) - _HOUR
    current = _hours(asker, metric, spec, hour, hour + _HOUR)
    before: dict[str, list[float]] = {}
    for week in range(1, WEEKS + 1):
        same = hour - timedelta(weeks=week)
        for label, values in _hours(asker, metric, spec, same - _HOUR, same + 2 * _HOUR).items():
            before.setdefault(label, []).extend(values)
    findings = []
    for label, values in current.items():
        known = usual(before.get(label, []))
        if known is None:
            words = f"not enough is known of {subject_of(spec)} at this hour of the week"
            findings.append(Finding(label, values[0], None, words))
            continue
        score = known.score(values[0])
        words = (
            f"{subject_of(spec)} was {figure_of(metric, spec, values[0])}, usual at this hour of the week is "
            f"{figure_of(metric, spec, known.median)} (score {score:+.1f})"
        )
        findings.append(Finding(label, values[0], abs(score) >= (spec.value or DEVIATIONS), words))
    return findings


DEVIATIONS = 4.0  # where a rule names none


def _hours(asker: Asker, metric: Metric, spec: MetricSpec, since: datetime, until: datetime) -> dict[str, list[float]]:
    """Return what was measured in whole hours, by group, where there was something to measure."""
    asked = question_of(spec, since, until, _HOUR_S, "hours")
    lines = telemetry.course_seen_by(asker, metric, asked).lines
    pers: dict[str, list[Step | None]] = {}
    if spec.per:
        other = telemetry.metric_seen_by(asker, spec.per)
        pers = {line.name: line.steps for line in telemetry.course_seen_by(asker, other, asked).lines}
    found: dict[str, list[float]] = {}
    for line in lines:
        per = pers.get(line.name) or [None] * len(line.steps)
        values = [told(metric, spec, step, other_, _HOUR_S) for step, other_ in zip(line.steps, per, strict=True)]
        known = [value for value in values if value is not None]
        if known:
            found[line.name] = known
    return found

"""Rules over any metric of the page Metrics: what applications send by OTLP, what the server measures of itself, the seven."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from controlplane.alerting.findings import WEEKS, Finding, number_text, said, usual_of
from controlplane.alerting.schemas import MetricSpec
from controlplane.domain.alerts import Comparison, compares
from controlplane.problems import Invalid, NotFound
from controlplane.telemetry import queries as telemetry
from controlplane.telemetry.queries import Metric, Question, Step, value_of
from controlplane.telemetry.resolutions import floor
from controlplane.tenancy.queries import Asker

MOST_GROUPS = 500
_HOUR_S = 3600
_WEEK_H = 7 * 24
_HOUR = timedelta(hours=1)
_WINDOW_S = 10  # of calls


def metric_of(asker: Asker, spec: MetricSpec) -> Metric | None:
    """Return the metric that a rule looks at, ``None`` when nobody sent it yet; ``Invalid`` where it can't be asked for that."""
    metric = _known(asker, spec.metric)
    per = per_of(asker, spec)
    if metric is not None and spec.stat and spec.stat not in metric.stats:
        raise Invalid(
            f"{spec.stat} is not told of {metric.name}.",
            errors={"spec.stat": f"must be one of {', '.join(metric.stats)}, or empty"},
        )
    for each in (metric, per):
        if each is not None:
            _check_dimensions(each, spec)
    return metric


def per_of(asker: Asker, spec: MetricSpec) -> Metric | None:
    """Return the metric that a rule divides by, ``None`` when it divides by none or nobody sent it yet."""
    return _known(asker, spec.per) if spec.per else None


def _known(asker: Asker, name: str) -> Metric | None:
    try:
        return telemetry.metric_seen_by(asker, name)
    except NotFound:
        return None


def _check_dimensions(metric: Metric, spec: MetricSpec) -> None:
    known = f"{metric.name} has {', '.join(metric.dimensions)}"
    if spec.by and spec.by not in metric.dimensions:
        raise Invalid(f"{metric.name} has no {spec.by}.", errors={"spec.by": known})
    for name in ("tenant", "route", "model", "release"):
        if getattr(spec, name) and name not in metric.dimensions:
            raise Invalid(f"{metric.name} has no {name}.", errors={f"spec.{name}": known})


def question_of(spec: MetricSpec, since: datetime, until: datetime, step_s: int, grain: str = "") -> Question:
    return Question(
        since, until, step_s, spec.by, spec.tenant, spec.route, spec.model, spec.release, most=MOST_GROUPS, grain=grain
    )


def told(metric: Metric, spec: MetricSpec, step: Step | None, divisor: float | None, seconds: float) -> float | None:
    """Return what a rule measures in a step of ``seconds``: what is told of the metric, or with ``per`` what it comes to over ``divisor``."""
    if step is None:
        return None
    if spec.per:
        return comes_to(metric, step, seconds) / divisor if divisor else None
    return value_of(metric, spec.stat or metric.stats[0], step, seconds)


def comes_to(metric: Metric, step: Step, seconds: float) -> float:
    """Return what a metric comes to in a step: the sum of a counter, the number of values of a distribution, the level of a gauge.

    Of the seven: dollars, tokens, failed calls, cached tokens, sessions; of those that are distributions alone, how many values.
    """
    if metric.kind:
        return step.amount
    if "sum" in metric.stats:
        return step.amount * metric.factor
    if "share" in metric.stats:
        return step.part
    return step.total / seconds if "active" in metric.stats else float(step.samples)


def divisor_of(per: Metric | None, step: Step | None, seconds: float) -> float | None:
    return None if per is None or step is None else comes_to(per, step, seconds)


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


def _divisors(asker: Asker, spec: MetricSpec, asked: Question) -> Mapping[str, float]:
    per = per_of(asker, spec)
    found = {} if per is None else _steps(asker, per, asked)
    return {} if per is None else {label: comes_to(per, step, asked.step_s) for label, step in found.items()}


def _held(asker: Asker, metric: Metric, spec: MetricSpec, now: datetime) -> list[Finding]:
    until = _last(metric, now)
    asked = question_of(spec, until - timedelta(seconds=spec.window_s), until, spec.window_s)
    found, divisors = _steps(asker, metric, asked), _divisors(asker, spec, asked)
    findings = []
    for label in found if spec.by else [""]:
        value = told(metric, spec, found.get(label), divisors.get(label), spec.window_s)
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
    before: dict[int, Mapping[str, Sequence[float | None]]] = {}  # by weeks
    for week in range(1, WEEKS + 1):
        same = hour - timedelta(weeks=week)
        before[week] = _hours(asker, metric, spec, same - _HOUR, same + 2 * _HOUR)
    findings = []
    for label, (value,) in current.items():
        if value is None:
            continue

        def at(hours_before: int, label: str = label) -> float | None:
            week = round(hours_before / _WEEK_H)
            return before[week][label][1 + week * _WEEK_H - hours_before] if label in before[week] else None

        known = usual_of(at)
        if known is None:
            words = f"not enough is known of {subject_of(spec)} at this hour of the week"
            findings.append(Finding(label, value, None, words))
            continue
        score = known.score(value)
        words = (
            f"{subject_of(spec)} was {figure_of(metric, spec, value)}, usual at this hour of the week is "
            f"{figure_of(metric, spec, known.median)} (score {score:+.1f})"
        )
        findings.append(Finding(label, value, abs(score) >= (spec.value or DEVIATIONS), words))
    return findings


DEVIATIONS = 4.0  # where a rule names none


def _hours(
    asker: Asker, metric: Metric, spec: MetricSpec, since: datetime, until: datetime
) -> dict[str, list[float | None]]:
    """Return what was measured in each whole hour, by group; ``None`` where there was nothing to measure."""
    asked = question_of(spec, since, until, _HOUR_S, "hours")
    lines = telemetry.course_seen_by(asker, metric, asked).lines
    per = per_of(asker, spec)
    others = (
        {} if per is None else {line.name: line.steps for line in telemetry.course_seen_by(asker, per, asked).lines}
    )
    found: dict[str, list[float | None]] = {}
    for line in lines:
        steps = others.get(line.name) or [None] * len(line.steps)
        divisors = [divisor_of(per, step, _HOUR_S) for step in steps]
        found[line.name] = [told(metric, spec, *each, _HOUR_S) for each in zip(line.steps, divisors, strict=True)]
    return found

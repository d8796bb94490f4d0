"""What rules over any metric would have measured, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from controlplane.alerting.courses import STEP_S, Held, Sample
from controlplane.alerting.findings import WEEKS, usual_before
from controlplane.alerting.schemas import MetricSpec
from controlplane.alerting.sent import DEVIATIONS, divisor_of, metric_of, per_of, question_of, told
from controlplane.domain.alerts import Comparison, compares
from controlplane.telemetry import queries as telemetry
from controlplane.telemetry.queries import Metric, Question, Step
from controlplane.tenancy.queries import Asker

_QUARTER_S, _HOUR_S, _DAY_S = 900, 3600, 86_400
_WEEK_H = 7 * 24
Steps = Sequence[Step | None]
Look = Callable[[Steps, Steps, int, int], tuple[float | None, bool | None]]  # steps, steps of ``per``, end, width


def coarse(metric: Metric, spec: MetricSpec) -> bool:
    """Return whether a rule is tried by quarters of an hour: percentiles are kept by those."""
    if spec.per or spec.op == "absent":
        return False
    return metric.spread and bool(metric.kind) and (spec.stat or metric.stats[0]).startswith("p")


def metric_tracks(asker: Asker, spec: MetricSpec, since: datetime, until: datetime) -> Held:
    """Return what a rule would have measured at the end of each step, for the heaviest groups."""
    metric = metric_of(asker, spec)
    if metric is None:
        return {}
    if spec.op == "unusual":
        return _unusual(asker, metric, spec, since, until)
    width = max(1, -(-spec.window_s // STEP_S))
    lead = _DAY_S // STEP_S if spec.op == "absent" and spec.by else width
    start = since - timedelta(seconds=lead * STEP_S)
    start = start.replace(minute=start.minute - start.minute % 15)
    per = per_of(asker, spec)

    def look(steps: Steps, pers: Steps, end: int, width: int) -> tuple[float | None, bool | None]:
        if spec.op == "absent":
            return _absence(steps, end, width, lead if spec.by else 0)
        begin = max(0, end - width)
        divisor = divisor_of(per, _joined(per, pers[begin:end]), width * STEP_S)
        value = told(metric, spec, _joined(metric, steps[begin:end]), divisor, width * STEP_S)
        return value, None if value is None else compares(value, Comparison(spec.op), spec.value)

    step_s = _QUARTER_S if coarse(metric, spec) else STEP_S
    end = until + timedelta(seconds=-int((until - start).total_seconds()) % step_s)
    return _over(asker, metric, spec, _question(spec, start, end, step_s, "fine"), since, until, look, width)


def _question(spec: MetricSpec, since: datetime, until: datetime, step_s: int, grain: str) -> Question:
    return replace(question_of(spec, since, until, step_s, grain), most=telemetry.MOST_LINES)


def _over(
    asker: Asker,
    metric: Metric,
    spec: MetricSpec,
    asked: Question,
    since: datetime,
    until: datetime,
    look: Look,
    width: int,
) -> Held:
    """Return what ``look`` sees at the end of each five minutes, whatever steps were asked for."""
    lines = _lines(asker, metric, asked)
    if not spec.by:
        lines = {"": lines.get("", [None] * len(telemetry.slots_of(asked.since, asked.until, asked.step_s)))}
    pers = _pers(asker, spec, asked)
    times = asked.step_s // STEP_S
    held: Held = {}
    for label, told_steps in lines.items():
        steps, per = _spread(told_steps, times), _spread(pers.get(label, [None] * len(told_steps)), times)
        first = int((since - asked.since).total_seconds()) // STEP_S + 1
        last = int((until - asked.since).total_seconds()) // STEP_S
        held[label] = [
            Sample(asked.since + timedelta(seconds=STEP_S * end), *look(steps, per, end, width))
            for end in range(first, last + 1)
        ]
    return held


def _lines(asker: Asker, metric: Metric, asked: Question) -> dict[str, Steps]:
    return {line.name: line.steps for line in telemetry.course_seen_by(asker, metric, asked).lines}


def _pers(asker: Asker, spec: MetricSpec, asked: Question) -> dict[str, Steps]:
    per = per_of(asker, spec)
    return {} if per is None else _lines(asker, per, asked)


def _spread(steps: Steps, times: int) -> Steps:
    return [step for step in steps for _ in range(times)]


def _absence(steps: Steps, end: int, width: int, lead: int) -> tuple[float | None, bool | None]:
    if lead and not any(steps[max(0, end - lead) : end]):
        return None, None  # nobody waits for it
    samples = sum(step.samples for step in steps[max(0, end - width) : end] if step is not None)
    return float(samples), samples == 0


def _joined(metric: Metric | None, steps: Steps) -> Step | None:
    """Return what several steps come to together. Percentiles are those of the slowest one, a level is the mean of levels."""
    known = [step for step in steps if step is not None]
    if len(known) < 2:
        return known[0] if known else None
    leasts = [step.least for step in known if step.least is not None]
    mosts = [step.most for step in known if step.most is not None]
    quantiles = tuple(
        max((each for each in column if each is not None), default=None)
        for column in zip(*(step.quantiles for step in known), strict=True)
    )
    amount = sum(step.amount for step in known)
    if metric is not None and "level" in metric.stats:
        amount /= len(known)
    return Step(
        amount, sum(step.part for step in known), sum(step.whole for step in known),
        sum(step.samples for step in known), sum(step.total for step in known), min(leasts, default=None), max(mosts, default=None), quantiles,
    )  # fmt: skip


def _unusual(asker: Asker, metric: Metric, spec: MetricSpec, since: datetime, until: datetime) -> Held:
    """How unusual the last whole hour was at each step, in robust deviations either way."""
    last = until.replace(minute=0)
    days = -(-int((until - since).total_seconds()) // _DAY_S)
    first = last - timedelta(days=days, weeks=WEEKS, hours=1)
    asked = _question(spec, first, last, _HOUR_S, "hours")
    per, pers = per_of(asker, spec), _pers(asker, spec, asked)
    held: Held = {}
    for label, steps in _lines(asker, metric, asked).items():
        divisors = [divisor_of(per, step, _HOUR_S) for step in pers.get(label, [None] * len(steps))]
        values = [told(metric, spec, *each, _HOUR_S) for each in zip(steps, divisors, strict=True)]
        samples = []
        for number in range(WEEKS * _WEEK_H + 1, len(values)):
            score = _score(values, number)
            begins = first + timedelta(hours=number + 1)
            samples += [
                Sample(at, score, None if score is None else score >= (spec.value or DEVIATIONS))
                for step in range(_HOUR_S // STEP_S)
                if (at := begins + timedelta(seconds=step * STEP_S)) <= until
            ]
        held[label] = samples
    return held


def _score(values: Sequence[float | None], number: int) -> float | None:
    known, value = usual_before(values, number), values[number]
    return None if known is None or value is None else abs(known.score(value))

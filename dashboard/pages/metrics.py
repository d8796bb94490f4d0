"""Metrics: any of them over time, by tenant, route, model or release, beside the time before, with the changes that were made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controlplane.policy import queries as policy
from controlplane.policy.models import Revision
from controlplane.rollouts import courses as by_release
from controlplane.telemetry import queries as telemetry
from controlplane.telemetry.patience import TooDear
from controlplane.telemetry.queries import SEVEN, Course, Exemplar, Metric, Question, value_of
from controlplane.telemetry.resolutions import ceiling, floor
from dashboard.asking import Asking
from dashboard.page import Context, Page, Params
from dashboard.pages.traces import moment

SINCE = {
    "15m": ("last 15 min", 900),
    "1h": ("last hour", 3600),
    "6h": ("last 6 h", 6 * 3600),
    "24h": ("last 24 h", 86400),
    "7d": ("last 7 days", 7 * 86400),
    "30d": ("last 30 days", 30 * 86400),
}
STEPS_S = (10, 30, 60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 86400)
MOST_STEPS = 120
MOST_CHANGES = 40
LATE_S = 2  # what happened is told by then
TOLD_S = 1  # and so long ago is it, as a rule, when it is told
_MINUTE_S = 60
YOUNG_S = 5  # a step that began less than that ago has no rate yet: reports come by the second
RATES = ("rate", "per_hour", "active")
NAMES = ("tenant", "route", "model", "release")
STAT_WORDS = {
    "p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99", "mean": "mean", "max": "greatest", "sum": "total",
    "rate": "per second", "per_hour": "per hour", "share": "share", "active": "active", "level": "level",
}  # fmt: skip


@dataclass(frozen=True)
class View:
    """What an address asks for. ``known``: until when it has been told what happened; steps after that are not over."""

    metric: Metric
    stat: str
    asked: Question
    known: datetime
    words: str
    since: str
    compared: bool
    brushed: bool

    @property
    def before(self) -> Question:
        """The same of the range before, up to where this one is known."""
        length = self.asked.until - self.asked.since
        rest = max(timedelta(), self.asked.until - self.known) if self.asked.step_s > _MINUTE_S else timedelta()
        until = floor(self.asked.since - rest, _MINUTE_S) if rest else self.asked.since
        return replace(self.asked, since=self.asked.since - length, until=until)

    @property
    def seconds(self) -> float:
        """How long of the range is known."""
        return max(1.0, (min(self.asked.until, self.known) - self.asked.since).total_seconds())

    def value(self, step: telemetry.Step | None, seconds: float) -> float | None:
        return value_of(self.metric, self.stat, step, seconds)

    def course(self, course: Course, line: telemetry.Line) -> list[float | None]:
        """Return what a line comes to in each step. A rate in the last one is per second of it that is known."""
        values = [self.value(step, course.step_s) for step in line.steps]
        if not values:
            return values
        seconds = (min(course.until, self.known) - course.times[-1]).total_seconds()
        if seconds < course.step_s and self.stat in RATES:
            values[-1] = self.value(line.steps[-1], seconds) if seconds >= YOUNG_S - TOLD_S else None
        return values


@dataclass(frozen=True)
class Row:
    """One line in figures: the chosen one, those of its distribution, and the chosen one before."""

    name: str
    number: int
    value: float | None
    before: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    samples: int
    course: Sequence[float | None]

    @property
    def change(self) -> float | None:
        return (self.value - self.before) / self.before if self.value is not None and self.before else None


def view_of(asking: Asking, params: Params) -> View:
    """Return what is asked for; ``NotFound`` for a metric that there is not."""
    metric = telemetry.metric_seen_by(asking.asker, params.value("metric") or "request_latency_ms")
    stat = params.value("stat") if params.value("stat") in metric.stats else metric.stats[0]
    by = params.value("by") if params.value("by") in metric.dimensions else ""
    since, until = moment(params.value("from")), moment(params.value("to"))
    name = params.value("since") if params.value("since") in SINCE else "1h"
    brushed = since is not None and until is not None and since < until
    if not brushed or since is None or until is None:
        until = asking.now - timedelta(seconds=LATE_S)
        since = until - timedelta(seconds=SINCE[name][1])
    step_s = step_of(since, until, asking.now)
    until = ceiling(until, step_s)  # the step that goes on is part of it
    since = floor(since, step_s) if brushed else until - timedelta(seconds=SINCE[name][1])
    until = max(until, since + timedelta(seconds=step_s))
    words = f"{since:%d %b %H:%M} to {until:%d %b %H:%M} UTC" if brushed else SINCE[name][0]
    tenant, route, model, release = (params.value(each) for each in NAMES)
    asked = Question(since, until, step_s, by, tenant, route, model, release)
    known = asking.now.replace(microsecond=0) - timedelta(seconds=TOLD_S)
    return View(metric, stat, asked, known, words, name, params.value("compare") == "1", brushed)


def step_of(since: datetime, until: datetime, now: datetime) -> int:
    """Return the least step that draws no more than ``MOST_STEPS``, and is no finer than what is still kept of that time."""
    length, age = (until - since).total_seconds(), (now - since).total_seconds()
    finest = 10 if length <= 900 and age <= 86400 else 60 if length <= 26 * 3600 and age <= 30 * 86400 else 3600
    return next((step for step in STEPS_S if step >= finest and length / step <= MOST_STEPS), STEPS_S[-1])


def courses_of(asking: Asking, view: View) -> tuple[Course, Course | None]:
    """Return the lines, and when they are to be compared those of the same names in the range before."""
    counted = by_release.counts(view.metric, view.asked, asking.now)
    read = by_release.course_by_release if counted else telemetry.course_seen_by
    course = read(asking.asker, view.metric, view.asked)
    if not view.compared or not course.lines:
        return course, None
    return course, read(asking.asker, view.metric, view.before, [line.name for line in course.lines])


def changes_of(asking: Asking, view: View) -> list[Revision]:
    """Return what people changed in the range, the newest first."""
    found = policy.revisions_seen_by(asking.asker).filter(at__gte=view.asked.since, at__lt=view.asked.until)
    return list(found[:MOST_CHANGES])


def exemplars_of(asking: Asking, view: View) -> list[Exemplar]:
    """Return traces to look into; none when finding them takes too long."""
    try:
        return telemetry.exemplars_seen_by(asking.asker, view.metric, view.asked)
    except TooDear:
        return []


def rows_of(view: View, course: Course, before: Course | None) -> list[Row]:
    """Return the figures of all lines."""
    earlier = {line.name: line.all for line in before.lines} if before else {}
    earlier_s = (before.until - before.since).total_seconds() if before else 1.0
    found = []
    for number, line in enumerate(course.lines, 1):
        p50, _, p95, p99 = (each * view.metric.factor if each is not None else None for each in line.all.quantiles)
        found.append(
            Row(
                line.name, number, view.value(line.all, view.seconds), view.value(earlier.get(line.name), earlier_s), p50, p95, p99,
                line.all.samples, view.course(course, line),
            )
        )  # fmt: skip
    return found


def build(asking: Asking, params: Params) -> Context:
    view = view_of(asking, params)
    dear, course, before = "", Course(view.asked.since, view.asked.until, view.asked.step_s), None
    try:
        course, before = courses_of(asking, view)
    except TooDear as problem:
        dear = problem.detail
    return {
        "title": "Metrics",
        "view": view,
        "metric": view.metric,
        "unit": view.metric.unit,
        "stat_words": STAT_WORDS[view.stat],
        "stats": [(name, STAT_WORDS[name]) for name in view.metric.stats],
        "seven": list(SEVEN.values()),
        "others": telemetry.metrics_seen_by(asking.asker),
        "rows": rows_of(view, course, before),
        "more": max(0, course.names - len(course.lines)),
        "dear": dear,
        "traced": not view.metric.kind
        and view.asked.of_release
        and not by_release.counts(view.metric, view.asked, asking.now),
        "changes": changes_of(asking, view),
        "since_choices": [(name, words) for name, (words, _) in SINCE.items()],
        "filters": [(name, name.capitalize(), params.value(name)) for name in NAMES if params.value(name)],
        "params_query": params.query,
    }


PAGE = Page(
    name="metrics",
    section="metrics",
    template="pages/metrics.html",
    parts={"metric_lines": "metrics/lines.html", "metric_changes": "metrics/changes.html"},
    build=build,
    params=frozenset({"metric", "stat", "by", "since", "from", "to", "compare", *NAMES}),
)

"""Alerts: what fires and why, in groups; the chosen one with its history and what can be done about it; silences."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from controlplane.alerting import past, queries
from controlplane.alerting.levels import asker_for
from controlplane.alerting.models import Alert
from controlplane.domain.alerts import ON, NoData, State, Timing
from controlplane.problems import Problem
from dashboard.alert_words import SEVERITIES, STATES, Line, condition_text, line_of
from dashboard.asking import Asking
from dashboard.kept import kept
from dashboard.page import Context, Page, Params
from dashboard.past_course import PastCourse, course_of

MOST = 300
MOST_CHANGES = 40
BY = {"state": "State", "rule": "Rule", "tenant": "Tenant", "severity": "Severity"}
SHOWN = {"active": "Active", "all": "All"}
DURATIONS = (("1", "1 hour"), ("4", "4 hours"), ("24", "1 day"), ("168", "1 week"))
REPEATS = (("", "Not at all"), ("day", "Every day"), ("week", "Every week"))
_RANKS = {state: rank for rank, state in enumerate(STATES)}


@dataclass(frozen=True)
class Group:
    """Alerts that are listed together."""

    title: str
    lines: list[Line]


def build(asking: Asking, params: Params) -> Context:
    by = params.value("by") if params.value("by") in BY else "state"
    shown = params.value("show") if params.value("show") in SHOWN else "active"
    tenant = params.value("tenant")
    found = asking.alerts if shown == "active" else _all(asking)
    kept = [each for each in found if not tenant or (each.rule.tenant is not None and each.rule.tenant.slug == tenant)]
    lines = [line_of(each) for each in sorted(kept, key=_worst_first)]
    chosen = _chosen(asking, kept, params.value("alert"))
    silences = queries.silences_seen_by(asking.asker, asking.now)[:50]
    return {
        "title": "Alerts",
        "groups": _groups(lines, by),
        "by": by,
        "bys": BY,
        "shown": shown,
        "shown_label": SHOWN[shown],
        "showns": SHOWN,
        "count": len(lines),
        "firing": sum(line.on for line in lines),
        "quiet": sum(line.on and (line.alert.silenced or line.alert.acknowledged_at is not None) for line in lines),
        "pending": sum(line.alert.state == State.PENDING for line in lines),
        "rules": list(queries.rules_seen_by(asking.asker).prefetch_related(None)[:MOST]),
        "silences": [(each, span) for each in silences if (span := each.occurrence(asking.now)) is not None],
        "durations": DURATIONS,
        "takings": (("", "Until it is over"), *DURATIONS),
        "repeat_choices": REPEATS,
        "may_all": asking.asker.tenant is None,
        "chosen": chosen,
        **(_detail(chosen, asking.now) if chosen else {}),
    }


def _all(asking: Asking) -> list[Alert]:
    return list(queries.alerts_seen_by(asking.asker, now=asking.now, every=True)[:MOST])


def _worst_first(alert: Alert) -> tuple[int, bool, int, float]:
    severity = list(SEVERITIES).index(alert.rule.severity)
    newest = -alert.since.timestamp() if alert.since else 0.0
    return _RANKS[State(alert.state)], alert.silenced or alert.acknowledged_at is not None, severity, newest


def _groups(lines: Iterable[Line], by: str) -> list[Group]:
    name: dict[str, Callable[[Line], str]] = {
        "state": lambda line: "Silenced" if line.on and line.alert.silenced else line.word,
        "rule": lambda line: line.alert.rule.name,
        "tenant": lambda line: line.alert.rule.tenant.name if line.alert.rule.tenant else "Installation",
        "severity": lambda line: line.severity,
    }
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault(name[by](line), []).append(line)
    return [Group(title, members) for title, members in found.items()]


def _chosen(asking: Asking, kept: list[Alert], number: str) -> Alert | None:
    if not number:
        return min(kept, key=_worst_first) if kept else None
    known = next((each for each in kept if str(each.pk) == number), None)
    if known is not None or not number.isdecimal() or len(number) > 18:
        return known
    return queries.alerts_seen_by(asking.asker, now=asking.now, every=True).filter(pk=int(number)).first()


def _detail(chosen: Alert, now: datetime) -> Context:
    return {
        "line": line_of(chosen),
        "condition": condition_text(chosen.rule),
        "changes": queries.history_of(chosen, MOST_CHANGES),
        "fires": State(chosen.state) in ON,
        "course": _course(chosen, now),
    }


def _course(chosen: Alert, now: datetime) -> PastCourse | None:
    """Return what was measured of an alert in the last day; ``None`` when that is not kept."""
    rule = chosen.rule
    timing = Timing(rule.for_s, rule.keep_firing_s, NoData.OK)

    def look() -> PastCourse | None:
        try:
            tried = past.try_on_past(asker_for(rule), rule.kind, rule.spec, timing, now, days=1)
        except Problem:
            return None
        own = [track for track in tried.tracks if track.label == chosen.label]
        return course_of(replace(tried, tracks=own), rule.spec.get("op") in ("below", "at_most"))

    return kept(("alert", chosen.pk, str(rule.spec), rule.kind, timing), now, look, 60)


PAGE = Page(
    name="alerts",
    section="alerts",
    template="pages/alerts.html",
    parts={
        "alert_summary": "alerts/summary.html",
        "alert_list": "alerts/list.html",
        "alert_detail": "alerts/detail.html",
        "alert_course": "alerts/course.html",
        "alert_history": "alerts/history.html",
        "silence_list": "alerts/silences.html",
    },
    build=build,
    params=frozenset({"tenant", "by", "show", "alert"}),
)

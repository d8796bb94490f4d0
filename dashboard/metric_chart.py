"""The chart of a metric: its lines, those of the time before dashed, traces as dots, changes as vertical lines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.urls import reverse

from controlplane.policy.models import Revision
from controlplane.telemetry.queries import Course, Exemplar, Line
from controlplane.telemetry.queries.metrics import SPREAD
from dashboard.charts import TONES
from dashboard.pages.metrics import STAT_WORDS, View

HOVER = {"usd": "%{y:$,.4~f}", "share": "%{y:.2%}", "ms": "%{y:,.4~r} ms", "s": "%{y:,.4~r} s"}
NONE = "(none)"


def chart_of(
    view: View, course: Course, before: Course | None, exemplars: Sequence[Exemplar], changes: Sequence[Revision]
) -> dict[str, Any]:
    """Return a figure for plotly; tones and dashes are told in ``meta`` and ``line``."""
    hover = HOVER.get(view.metric.unit, "%{y:,.4~r} " + view.metric.unit)
    data = []
    for number, line in enumerate(course.lines):
        data.append(_trace(view, course, line, TONES[number % len(TONES)], hover))
    for number, line in enumerate(before.lines if before else ()):
        tone = next(
            (TONES[n % len(TONES)] for n, each in enumerate(course.lines) if each.name == line.name), TONES[number]
        )
        data.append(_trace(view, course, line, tone, hover, before))
    dots = _dots(view, course, exemplars)
    if dots["x"]:
        data.append(dots)
    return {"data": data, "layout": _layout(view, len(data), changes)}


def _trace(
    view: View, course: Course, line: Line, tone: str, hover: str, earlier: Course | None = None
) -> dict[str, Any]:
    """Return one line; one of an ``earlier`` course stands at the times of this one. A value without neighbours is a dot."""
    values = view.course(earlier or course, line)
    lone = _lone(values)
    made: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines+markers" if any(lone) else "lines",
        "marker": {"size": [7 if each else 0 for each in lone], "opacity": 1, "line": {"width": 0}}
        if any(lone)
        else {},
        "name": (line.name or (STAT_WORDS[view.stat] if not view.asked.by else NONE)) + (" before" if earlier else ""),
        "x": [at.isoformat() for at in course.times],
        "y": values,
        "connectgaps": False,
        "hovertemplate": hover,
        "meta": {"tone": tone},
        "line": {"width": 1.25 if earlier else 1.75, **({"dash": "dot"} if earlier else {})},
        "opacity": 0.6 if earlier else 1,
    }
    return made


def _lone(values: Sequence[float | None]) -> list[bool]:
    around = [None, *values, None]
    return [
        value is not None and before is None and after is None
        for before, value, after in zip(around, values, around[2:], strict=False)
    ]


def _heights(view: View, course: Course) -> list[float | None]:
    """Return the height of the tallest line in each step."""
    lines = [view.course(course, line) for line in course.lines]
    return [max((value for value in values if value is not None), default=None) for values in zip(*lines, strict=True)]


def _dots(view: View, course: Course, exemplars: Sequence[Exemplar]) -> dict[str, Any]:
    """Return the traces: at their own values where lines tell of values of calls, else upon the lines."""
    shown = [(each, each.value * view.metric.factor) for each in exemplars if each.trace_id]
    if view.stat not in (*SPREAD, "level"):
        heights = _heights(view, course) or [None] * len(course.times)
        placed = [(each, int((each.at - course.since).total_seconds() // course.step_s)) for each, _ in shown]
        shown = [
            (each, height)
            for each, place in placed
            if 0 <= place < len(heights) and (height := heights[place]) is not None
        ]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "Traces",
        "x": [each.at.isoformat() for each, _ in shown],
        "y": [height for _, height in shown],
        "customdata": [
            f"{reverse('trace', kwargs={'trace_id': each.trace_id})}?span={each.span_id}" for each, _ in shown
        ],
        "hovertemplate": "Open the trace<extra></extra>",
        "marker": {"size": 7, "symbol": "diamond-open", "line": {"width": 1.5}},
        "meta": {"tone": "ink-2", "opens": True},
    }


def _layout(view: View, traces: int, changes: Sequence[Revision]) -> dict[str, Any]:
    groups = _grouped(changes, (view.asked.until - view.asked.since) / 40)
    axis: dict[str, Any] = {"rangemode": "tozero", "fixedrange": True, "nticks": 6}
    if view.metric.unit == "usd":
        axis["tickprefix"] = "$"
    elif view.metric.unit == "share":
        axis["tickformat"] = ".1~%"
    else:
        axis["ticksuffix"] = f" {view.metric.unit}"[:12]
    return {
        "hovermode": "x unified",
        "showlegend": traces > 1,
        "legend": {"orientation": "h", "y": -0.14, "x": 0},
        "margin": {"l": 64, "r": 12, "t": 22, "b": 32},
        "dragmode": "zoom",
        "xaxis": {
            "type": "date", "range": [view.asked.since.isoformat(), view.asked.until.isoformat()],
            "tickformat": _ticks(view.asked.until - view.asked.since),
            "hoverformat": "%-d %b %H:%M:%S",
        },
        "yaxis": axis,
        "shapes": [
            {"type": "line", "xref": "x", "yref": "paper", "x0": at.isoformat(), "x1": at.isoformat(), "y0": 0, "y1": 1,
             "line": {"width": 1, "dash": "dash"}}
            for at, _ in groups
        ],
        "annotations": [
            {"xref": "x", "yref": "paper", "x": at.isoformat(), "y": 1.0, "text": text if has_room else "", "showarrow": False, "yanchor": "bottom",
             "xanchor": "center", "hovertext": text}
            for (at, text), has_room in zip(groups, labelled([at for at, _ in groups], (view.asked.until - view.asked.since) / 14), strict=True)
        ],
    }  # fmt: skip


def labelled(times: Sequence[datetime], apart: timedelta) -> list[bool]:
    """Return which of ``times``, the earliest first, have room for a label; the page lists the others too."""
    found: list[bool] = []
    last: datetime | None = None
    for at in times:
        found.append(last is None or at - last >= apart)
        last = at if found[-1] else last
    return found


def _ticks(length: timedelta) -> str:
    if length <= timedelta(minutes=8):
        return "%H:%M:%S"
    return "%H:%M" if length <= timedelta(hours=26) else "%-d %b"


def _grouped(changes: Sequence[Revision], near: timedelta) -> list[tuple[datetime, str]]:
    """Return when something was changed and its numbers; what was changed at nearly the same time stands together."""
    groups: list[list[Revision]] = []
    for change in sorted(changes, key=lambda each: each.pk):
        if groups and change.at - groups[-1][0].at < near:
            groups[-1].append(change)
        else:
            groups.append([change])
    return [(group[0].at, f"r{group[0].pk}" + (f"–r{group[-1].pk}" if len(group) > 1 else "")) for group in groups]

"""Reads of what happened, scoped by an asker and bounded in rows. A tenant stands for its subtree."""

from controlplane.telemetry.queries.calls import Cost, Figures, Point, Spread, breakdown, costs, figures, series
from controlplane.telemetry.queries.captures import Captured, capture_of
from controlplane.telemetry.queries.daily import DayCost, Dimension, Usage, daily_costs, usage
from controlplane.telemetry.queries.explore import Exemplar, Question, course_seen_by, exemplars_seen_by
from controlplane.telemetry.queries.kinds import kinds
from controlplane.telemetry.queries.lines import MOST_LINES, Course, Line, Step
from controlplane.telemetry.queries.measures import Measured, beyond, measured
from controlplane.telemetry.queries.metrics import SEVEN, Metric, metric_seen_by, metrics_seen_by, value_of
from controlplane.telemetry.queries.own import own_figures
from controlplane.telemetry.queries.shadow import Watched, watched
from controlplane.telemetry.queries.signs import breakers_refusing, minutes_with_windows
from controlplane.telemetry.queries.stepped import Steps
from controlplane.telemetry.queries.steps import (
    beyond_by,
    beyond_steps,
    counts_over,
    measured_steps,
    newest_window,
    slots_of,
)
from controlplane.telemetry.queries.traces import (
    MOST_SPANS,
    logs_of,
    mesh,
    messages_of,
    sessions_seen_by,
    span_seen_by,
    trace_mark,
    trace_seen_by,
    trace_slots,
    traces_seen_by,
)  # fmt: skip
from controlplane.telemetry.store import Edge, Session, Slot, Slots, Trace, TraceFilter

__all__ = [
    "MOST_LINES",
    "MOST_SPANS",
    "SEVEN",
    "Captured",
    "Cost",
    "Course",
    "DayCost",
    "Dimension",
    "Edge",
    "Exemplar",
    "Figures",
    "Line",
    "Measured",
    "Metric",
    "Point",
    "Question",
    "Session",
    "Slot",
    "Slots",
    "Spread",
    "Step",
    "Steps",
    "Trace",
    "TraceFilter",
    "Usage",
    "Watched",
    "beyond",
    "beyond_by",
    "beyond_steps",
    "breakdown",
    "breakers_refusing",
    "capture_of",
    "costs",
    "counts_over",
    "course_seen_by",
    "daily_costs",
    "exemplars_seen_by",
    "figures",
    "kinds",
    "logs_of",
    "measured",
    "measured_steps",
    "mesh",
    "messages_of",
    "metric_seen_by",
    "metrics_seen_by",
    "minutes_with_windows",
    "newest_window",
    "own_figures",
    "series",
    "sessions_seen_by",
    "slots_of",
    "span_seen_by",
    "trace_mark",
    "trace_seen_by",
    "trace_slots",
    "traces_seen_by",
    "usage",
    "value_of",
    "watched",
]  # fmt: skip

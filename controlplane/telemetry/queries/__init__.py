"""Reads of what happened, scoped by an asker and bounded in rows. A tenant stands for its subtree."""

from controlplane.telemetry.queries.calls import Cost, Figures, Point, Spread, breakdown, costs, figures, series
from controlplane.telemetry.queries.daily import DayCost, Dimension, Usage, daily_costs, usage
from controlplane.telemetry.queries.measures import Measured, beyond, measured
from controlplane.telemetry.queries.shadow import Watched, watched
from controlplane.telemetry.queries.traces import (
    MOST_SPANS,
    logs_of,
    mesh,
    messages_of,
    sessions_seen_by,
    span_count,
    span_seen_by,
    trace_seen_by,
    trace_slots,
    traces_seen_by,
)  # fmt: skip
from controlplane.telemetry.store import Edge, Session, Slot, Trace, TraceFilter

__all__ = [
    "MOST_SPANS",
    "Cost",
    "DayCost",
    "Dimension",
    "Edge",
    "Figures",
    "Measured",
    "Point",
    "Session",
    "Slot",
    "Spread",
    "Trace",
    "TraceFilter",
    "Usage",
    "Watched",
    "beyond",
    "breakdown",
    "costs",
    "daily_costs",
    "figures",
    "logs_of",
    "measured",
    "mesh",
    "messages_of",
    "series",
    "sessions_seen_by",
    "span_count",
    "span_seen_by",
    "trace_seen_by",
    "trace_slots",
    "traces_seen_by",
    "usage",
    "watched",
]  # fmt: skip

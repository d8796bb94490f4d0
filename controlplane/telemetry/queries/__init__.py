"""Reads of what happened, scoped by an asker and bounded in rows. A tenant stands for its subtree."""

from controlplane.telemetry.queries.calls import Cost, Figures, Point, Spread, breakdown, costs, figures, series
from controlplane.telemetry.queries.daily import DayCost, Dimension, Usage, daily_costs, usage
from controlplane.telemetry.queries.shadow import Watched, watched
from controlplane.telemetry.queries.traces import Trace, TraceFilter, trace_seen_by, traces_seen_by

__all__ = [
    "Cost", "DayCost", "Dimension", "Figures", "Point", "Spread", "Trace", "TraceFilter", "Usage", "Watched", "breakdown", "costs",
    "daily_costs", "figures", "series", "trace_seen_by", "traces_seen_by", "usage", "watched",
]  # fmt: skip

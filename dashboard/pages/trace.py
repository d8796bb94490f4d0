"""One trace as a waterfall with a span in detail, and two traces beside each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from controlplane.problems import NotFound
from controlplane.telemetry import queries as telemetry
from controlplane.telemetry.models import Span
from dashboard.asking import Asking
from dashboard.beside import beside
from dashboard.happened import Happened, happened
from dashboard.page import Context, Page, Params
from dashboard.said import turns_of
from dashboard.trace_kept import waterfall_seen_by
from dashboard.waterfall import Line, Waterfall, waterfall_of

MOST_ROWS = 200  # in the page itself; the script draws the others when they come into sight
MOST_COMPARED = 5000
OURS = "tidegate."


@dataclass(frozen=True)
class Detail:
    """One span with all that is known of it. ``decisions`` are what the control plane decided, ``plain`` other attributes."""

    span: Span
    decisions: list[tuple[str, Any]]
    plain: list[tuple[str, Any]]
    events: list[Happened]
    told: list[Happened]
    messages: list[Any]
    logs: list[Any]


def detail_of(asking: Asking, trace_id: str, span_id: str) -> Detail:
    """Return what a drawer shows of a span; ``NotFound`` without one."""
    span = telemetry.span_seen_by(asking.asker, trace_id, span_id)
    said = {"route", "tenant", *(("release",) if span.release else ())}  # they have lines of their own, which lead on
    ours = [
        (name[len(OURS) :], value)
        for name, value in span.attributes.items()
        if name.startswith(OURS) and name[len(OURS) :] not in said
    ]
    events = happened(span.events, span.starts_at)
    return Detail(
        span=span,
        decisions=ours,
        plain=[(name, value) for name, value in sorted(span.attributes.items()) if not name.startswith(OURS)],
        events=[event for event in events if not event.name.startswith(OURS)],
        told=[event for event in events if event.name.startswith(OURS)],
        messages=[(each, turns_of(each.content)) for each in telemetry.messages_of(asking.asker, trace_id, span_id)],
        logs=telemetry.logs_of(asking.asker, trace_id, span_id),
    )


def build(asking: Asking, params: Params) -> Context:
    trace_id = params.value("trace_id").strip().lower()
    found, all_count = waterfall_seen_by(asking.asker, trace_id)
    chosen = _chosen(found, params.value("span"))
    root = found.lines[0]
    return {
        "title": root.span.name,
        "path_params": ("trace_id",),
        "trace_id": trace_id,
        "lines": found.lines[:MOST_ROWS],
        "more": max(0, len(found.lines) - MOST_ROWS),
        "count": len(found.lines),
        "all_count": all_count,
        "chosen": chosen,
        "detail": detail_of(asking, trace_id, chosen.span.span_id),
        "root": root.span,
        "starts_at": found.begins,
        "whole_us": found.whole_us,
        "services": found.services,
        "missing": found.missing,
        "rootless": all(line.orphan for line in found.lines if line.parent < 0),
        **_sums(found),
    }


def _chosen(found: Waterfall, span_id: str) -> Line:
    return next((line for line in found.lines if line.span.span_id == span_id), found.lines[0])


def _sums(found: Waterfall) -> Context:
    tops = [line for line in found.lines if line.parent < 0]
    return {
        "errors": sum(line.errors for line in tops),
        "tokens": sum(line.tokens for line in tops),
        "cost_nusd": sum(line.cost_nusd for line in tops),
    }


ONE = Page(
    name="trace",
    section="traces",
    template="pages/trace.html",
    parts={"trace_summary": "traces/summary.html", "waterfall": "traces/waterfall.html", "span": "traces/span.html"},
    build=build,
    params=frozenset({"trace_id", "span"}),
)


def build_compare(asking: Asking, params: Params) -> Context:
    first, fault_a = _compared(asking, params.value("a"))
    second, fault_b = _compared(asking, params.value("b"))
    return {
        "title": "Compare traces",
        "a": first,
        "b": second,
        "a_sums": _sums(first) if first else {},
        "b_sums": _sums(second) if second else {},
        "rows": beside(first, second) if first and second else [],
        "faults": [each for each in (fault_a, fault_b) if each],
    }


def _compared(asking: Asking, trace_id: str) -> tuple[Waterfall | None, str]:
    """Return a trace to compare, or why there is none."""
    trace_id = trace_id.strip().lower()
    if not trace_id:
        return None, ""
    try:
        return waterfall_of(telemetry.trace_seen_by(asking.asker, trace_id, MOST_COMPARED, light=True)), ""
    except NotFound as problem:
        return None, problem.detail


COMPARE = Page(
    name="trace-compare",
    section="traces",
    template="pages/trace_compare.html",
    parts={"trace_diff": "traces/diff.html"},
    build=build_compare,
    params=frozenset({"a", "b"}),
)

"""Traces: a filtered list, and one trace as a waterfall."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from controlplane.problems import Invalid
from controlplane.telemetry import queries as telemetry
from controlplane.telemetry.models import Span
from controlplane.telemetry.queries import TraceFilter
from dashboard.asking import Asking
from dashboard.page import Context, Page, Params

SIZE = 50
SINCE = {"1h": ("last hour", 3600), "24h": ("last 24 h", 86400), "7d": ("last 7 days", 7 * 86400)}
FILTERS = ("tenant", "route", "model", "status", "text", "trace_id")


def build(asking: Asking, params: Params) -> Context:
    words, seconds = SINCE.get(params.value("since"), SINCE["24h"])
    wanted = TraceFilter(**{name: params.value(name) for name in FILTERS})
    try:
        found = telemetry.traces_seen_by(
            asking.asker, wanted, asking.now - timedelta(seconds=seconds), params.value("cursor"), SIZE + 1
        )
    except ValueError:
        raise Invalid("That place in the list does not exist.", errors={"cursor": "is not one"}) from None
    shown = found[:SIZE]
    return {
        "title": "Traces",
        "traces": shown,
        "longest_us": max((each.duration_us for each in shown), default=1),
        "next": shown[-1].cursor if len(found) > SIZE else "",
        "words": words,
        "since_choices": [(name, label) for name, (label, _) in SINCE.items()],
        "filtered": any(params.value(name) for name in FILTERS),
        "query_without_cursor": params.query,
    }


PAGE = Page(
    name="traces",
    section="traces",
    template="pages/traces.html",
    parts={"trace_list": "traces/list.html"},
    build=build,
    params=frozenset({*FILTERS, "since", "cursor"}),
)


@dataclass(frozen=True)
class Line:
    """One span in the waterfall: where it is in the tree, and in the time of the trace (percent)."""

    span: Span
    depth: int
    start: float
    length: float
    offset_us: int
    tone: str
    self_us: int


def lines_of(spans: list[Span]) -> list[Line]:
    """Return the spans in the order of the tree, siblings by start. A span whose parent is missing stands at the top."""
    known = {span.span_id for span in spans}
    below: dict[str, list[Span]] = {}
    for span in spans:
        parent = span.parent_span_id if span.parent_span_id in known and span.parent_span_id != span.span_id else ""
        below.setdefault(parent, []).append(span)
    begins = min(span.starts_at for span in spans)
    ends = max(_end(span) for span in spans)
    whole_us = max(1, (ends - begins) // timedelta(microseconds=1))
    services = sorted({span.service for span in spans})
    made: list[Line] = []
    seen: set[str] = set()
    stack = [(span, 0) for span in reversed(below.get("", []))]
    while stack:
        span, depth = stack.pop()
        if span.span_id in seen:
            continue
        seen.add(span.span_id)
        children = below.get(span.span_id, [])
        offset_us = (span.starts_at - begins) // timedelta(microseconds=1)
        tone = "trouble" if span.status == 2 else f"s{services.index(span.service) % 5 + 1}"
        made.append(
            Line(
                span,
                min(depth, 12),
                100 * offset_us / whole_us,
                100 * span.duration_us / whole_us,
                offset_us,
                tone,
                max(0, span.duration_us - _covered_us(children)),
            )
        )
        stack += [(child, depth + 1) for child in reversed(children)]
    return made


def _end(span: Span) -> Any:
    return span.starts_at + timedelta(microseconds=span.duration_us)


def _covered_us(children: list[Span]) -> int:
    """Return for how long at least one of ``children`` ran."""
    total = timedelta()
    until = None
    for child in sorted(children, key=lambda each: each.starts_at):
        starts = child.starts_at if until is None else max(child.starts_at, until)
        total += max(timedelta(), _end(child) - starts)
        until = _end(child) if until is None else max(until, _end(child))
    return total // timedelta(microseconds=1)


def build_one(asking: Asking, params: Params) -> Context:
    spans = telemetry.trace_seen_by(asking.asker, params.value("trace_id"))
    lines = lines_of(spans)
    chosen = next((each for each in lines if each.span.span_id == params.value("span")), lines[0])
    begins = min(span.starts_at for span in spans)
    return {
        "title": lines[0].span.name,
        "path_params": ("trace_id",),
        "trace_id": params.value("trace_id"),
        "lines": lines,
        "chosen": chosen,
        "root": lines[0].span,
        "starts_at": begins,
        "whole_us": (max(_end(span) for span in spans) - begins) // timedelta(microseconds=1),
        "errors": sum(span.status == 2 for span in spans),
        "tokens": sum((span.input_tokens or 0) + (span.output_tokens or 0) for span in spans),
        "cost_nusd": sum(span.cost_nusd or 0 for span in spans),
        "services": sorted({span.service for span in spans}),
        "missing": sum(bool(each.span.parent_span_id) and each.depth == 0 for each in lines),
    }


ONE = Page(
    name="trace",
    section="traces",
    template="pages/trace.html",
    parts={"trace_summary": "traces/summary.html", "waterfall": "traces/waterfall.html", "span": "traces/span.html"},
    build=build_one,
    params=frozenset({"trace_id", "span"}),
)

"""One trace as a tree in time: where every span stands, what it and all below it took and cost, and what the whole waited for.

Pure: spans in, lines out. Nothing recurses, so that a chain of fifty thousand spans is no deeper than any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from controlplane.telemetry.models import Span

_US = timedelta(microseconds=1)
BY_SDK = 2


@dataclass(slots=True)
class Line:
    """One span. ``parent`` is the place of its parent among the lines, -1 at the top; ``size`` counts it and all below it.

    ``self_us`` is for how long nothing below it ran, ``critical_us`` for how long the whole trace waited for it alone.
    ``tokens`` and ``cost_nusd`` are of all below it and its own. Start and length are percent of the whole trace.
    """

    span: Span
    parent: int
    depth: int
    offset_us: int
    start: float
    length: float
    tone: str
    self_us: int = 0
    critical_us: int = 0
    size: int = 1
    errors: int = 0
    tokens: int = 0
    cost_nusd: int = 0
    orphan: bool = False


@dataclass(frozen=True)
class Waterfall:
    """A trace. ``missing`` are the ids of parents that are named and are not there."""

    lines: Sequence[Line]
    begins: datetime
    whole_us: int
    services: Sequence[str]
    missing: Sequence[str]


def _end_us(span: Span, begins: Any) -> int:
    return int((span.starts_at - begins) // _US) + span.duration_us


def waterfall_of(spans: Sequence[Span]) -> Waterfall:
    """Return the trace with its spans in the order of the tree, siblings by start. Spans without their parent stand at the top."""
    begins = min(span.starts_at for span in spans)
    ends = {span.span_id: _end_us(span, begins) for span in spans}
    whole_us = max(1, *ends.values())
    services = sorted({span.service for span in spans})
    tones = {name: f"s{number % 5 + 1}" for number, name in enumerate(services)}
    known = {span.span_id: span for span in spans}
    below, tops, missing = _sorted(spans, known)
    lines: list[Line] = []
    children: list[list[int]] = []
    stack = [(span, -1, 0) for span in reversed(tops)]
    while stack:
        span, parent, depth = stack.pop()
        offset = (span.starts_at - begins) // _US
        tone = "trouble" if span.status == 2 else tones[span.service]
        place = len(lines)
        lines.append(
            Line(span, parent, depth, offset, 100 * offset / whole_us, 100 * span.duration_us / whole_us, tone)
        )
        lines[place].orphan = parent < 0 and bool(span.parent_span_id)
        children.append([])
        if parent >= 0:
            children[parent].append(place)
        stack += [(child, place, depth + 1) for child in reversed(below.pop(span.span_id, ()))]
    _sum_up(lines)
    _time_alone(lines, children)
    _critical_path(lines, children)
    return Waterfall(lines, begins, whole_us, services, sorted(missing))


def _sorted(spans: Sequence[Span], known: dict[str, Span]) -> tuple[dict[str, list[Span]], list[Span], set[str]]:
    """Return spans by their parent, those at the top, and the parents that are missing. Rings are cut open where they begin."""
    below: dict[str, list[Span]] = {}
    tops, missing = [], set()
    for span in sorted(spans, key=lambda each: (each.starts_at, each.span_id)):
        parent = span.parent_span_id
        if parent and parent not in known:
            missing.add(parent)
        if parent in known and parent != span.span_id:
            below.setdefault(parent, []).append(span)
        else:
            tops.append(span)
    _cut_rings(below, tops, known)
    return below, tops, missing


def _cut_rings(below: dict[str, list[Span]], tops: list[Span], known: dict[str, Span]) -> None:
    """Put the first span of every ring at the top."""
    reached: set[str] = set()
    ordered = iter(sorted(known.values(), key=lambda each: (each.starts_at, each.span_id)))
    stack = list(tops)
    while True:
        while stack:
            span = stack.pop()
            reached.add(span.span_id)
            stack += [child for child in below.get(span.span_id, ()) if child.span_id not in reached]
        first = next((span for span in ordered if span.span_id not in reached), None)
        if first is None:
            return
        below[first.parent_span_id].remove(first)
        tops.append(first)
        stack.append(first)


def _sum_up(lines: list[Line]) -> None:
    """Add up from below: what our SDK and an instrumentation both counted is counted once."""
    tokens = [[0, 0] for _ in lines]
    costs = [[0, 0] for _ in lines]
    for place in range(len(lines) - 1, -1, -1):
        line = lines[place]
        span, by = line.span, int(line.span.usage_by == BY_SDK)
        tokens[place][by] += (span.input_tokens or 0) + (span.output_tokens or 0)
        costs[place][by] += span.cost_nusd or 0
        line.errors += span.status == 2
        line.tokens, line.cost_nusd = max(tokens[place]), max(costs[place])
        if line.parent >= 0:
            parent = lines[line.parent]
            parent.size += line.size
            parent.errors += line.errors
            for side in (0, 1):
                tokens[line.parent][side] += tokens[place][side]
                costs[line.parent][side] += costs[place][side]


def _time_alone(lines: list[Line], children: list[list[int]]) -> None:
    for place, line in enumerate(lines):
        covered, until = 0, line.offset_us
        end = line.offset_us + line.span.duration_us
        for child in children[place]:
            starts = max(until, lines[child].offset_us)
            ends = min(end, lines[child].offset_us + lines[child].span.duration_us)
            covered += max(0, ends - starts)
            until = max(until, ends)
        line.self_us = max(0, line.span.duration_us - covered)


def _critical_path(lines: list[Line], children: list[list[int]]) -> None:
    """Walk back from the end: at any time the whole waits for the child that ended last, else for the span itself."""
    if not lines:
        return
    root = max(
        (place for place, line in enumerate(lines) if line.parent < 0), key=lambda at: lines[at].span.duration_us
    )
    stack = [(root, lines[root].offset_us + lines[root].span.duration_us)]
    while stack:
        place, until = stack.pop()
        line = lines[place]
        at = min(until, line.offset_us + line.span.duration_us)
        by_end = sorted(children[place], key=lambda child: -(lines[child].offset_us + lines[child].span.duration_us))
        for child in by_end:
            starts = lines[child].offset_us
            ends = min(at, starts + lines[child].span.duration_us)
            if starts >= at or ends <= line.offset_us:
                continue
            line.critical_us += at - ends
            stack.append((child, ends))
            at = max(starts, line.offset_us)
        line.critical_us += max(0, at - line.offset_us)


def as_columns(found: Waterfall) -> dict[str, Any]:
    """Return the trace for the page's script: names once, a list per line.

    A line is ``[id, parent, depth, service, name, offset_us, duration_us, status, self_us, critical_us, size, errors, tokens,
    cost_nusd, own_tokens, kind, orphan]``; service, name and kind are places in ``services``, ``names`` and ``kinds``.
    """
    names: dict[str, int] = {}
    kinds: dict[str, int] = {}
    services = {name: place for place, name in enumerate(found.services)}
    rows = []
    for line in found.lines:
        span = line.span
        kind = span.decision or span.operation
        rows.append(
            [
                span.span_id,
                line.parent,
                line.depth,
                services[span.service],
                names.setdefault(span.name, len(names)),
                line.offset_us,
                span.duration_us,
                span.status,
                line.self_us,
                line.critical_us,
                line.size,
                line.errors,
                line.tokens,
                line.cost_nusd,
                (span.input_tokens or 0) + (span.output_tokens or 0),
                kinds.setdefault(kind, len(kinds)),
                int(line.orphan),
            ]
        )
    return {
        "whole_us": found.whole_us,
        "services": list(found.services),
        "names": list(names),
        "kinds": list(kinds),
        "rows": rows,
    }

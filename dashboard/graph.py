"""The mesh as a drawing: parties in columns from who calls to who is called, edges between them. Edges in, coordinates out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.telemetry.queries import Edge

WIDTH, ROW, BOX_W, BOX_H, MARGIN = 1080.0, 64.0, 176.0, 40.0, 12.0
MOST_DEEP = 6
KINDS = ("service", "agent", "tool", "model")
# Which filter of the traces finds a party's.
FILTERS = {"service": "service", "agent": "agent", "tool": "tool", "model": "model"}

Party = tuple[str, str]


@dataclass(frozen=True)
class Node:
    kind: str
    name: str
    x: float
    y: float
    calls: int
    errors: int
    tokens: int
    cost_nusd: int

    @property
    def filter(self) -> str:
        return FILTERS[self.kind]

    @property
    def tone(self) -> str:
        return _tone(self.errors, self.calls)


@dataclass(frozen=True)
class Wire:
    """An edge as drawn. ``width`` grows with the calls, ``tone`` tells the share of errors; ``label_x`` and ``label_y`` its middle."""

    edge: Edge
    path: str
    width: float
    tone: str
    label_x: float
    label_y: float

    @property
    def filter(self) -> str:
        return FILTERS[self.edge.to_kind]


@dataclass(frozen=True)
class Graph:
    nodes: Sequence[Node]
    wires: Sequence[Wire]
    height: float


def _tone(errors: int, calls: int) -> str:
    share = errors / calls if calls else 0.0
    return "trouble" if share >= 0.1 else "watch" if share >= 0.02 else "ok"


def graph_of(edges: Sequence[Edge]) -> Graph:
    """Return the drawing: services left, tools and models right, agents between them by how far they are from a service."""
    columns = _columns(edges)
    places: dict[Party, tuple[float, float]] = {}
    used = sorted(set(columns.values()))
    deepest = max(1, len(used) - 1)
    tallest = 1
    for at, column in enumerate(used):
        parties = _ordered([party for party, where in columns.items() if where == column], edges, places)
        tallest = max(tallest, len(parties))
        x = MARGIN + at * (WIDTH - BOX_W - 2 * MARGIN) / deepest
        for row, party in enumerate(parties):
            places[party] = (round(x, 1), row - (len(parties) - 1) / 2)
    height = tallest * ROW + 2 * MARGIN
    placed = {party: (x, round(height / 2 + row * ROW - BOX_H / 2, 1)) for party, (x, row) in places.items()}
    most = max((edge.calls for edge in edges), default=1)
    return Graph(
        [_node(party, at, edges) for party, at in placed.items()],
        [_wire(edge, placed, most) for edge in edges],
        height,
    )


def _columns(edges: Sequence[Edge]) -> dict[Party, int]:
    """Return the column of every party: the least number of calls from where nobody calls; tools and models last."""
    callers: dict[Party, set[Party]] = {}
    for edge in edges:
        callers.setdefault((edge.from_kind, edge.from_name), set())
        callers.setdefault((edge.to_kind, edge.to_name), set()).add((edge.from_kind, edge.from_name))
    columns = {party: 0 for party, above in callers.items() if not above or party[0] == "service"}
    if not columns and callers:
        columns[min(callers)] = 0
    for _ in range(len(callers)):
        reached = {
            party: min(MOST_DEEP, 1 + min(columns[each] for each in above if each in columns))
            for party, above in callers.items()
            if party not in columns and any(each in columns for each in above)
        }
        if not reached:
            break
        columns |= reached
    for party in callers:
        columns.setdefault(party, 1)
    last = 1 + max((column for (kind, _), column in columns.items() if kind in ("service", "agent")), default=0)
    return {party: last if party[0] in ("tool", "model") else column for party, column in columns.items()}


def _ordered(parties: list[Party], edges: Sequence[Edge], places: dict[Party, tuple[float, float]]) -> list[Party]:
    """Return the parties of a column near those who call them, so that few wires cross."""

    def pull(party: Party) -> tuple[float, int, str]:
        rows = [
            places[(edge.from_kind, edge.from_name)][1]
            for edge in edges
            if (edge.to_kind, edge.to_name) == party and (edge.from_kind, edge.from_name) in places
        ]
        return (sum(rows) / len(rows) if rows else 0.0, KINDS.index(party[0]), party[1])

    return sorted(parties, key=pull)


def _node(party: Party, at: tuple[float, float], edges: Sequence[Edge]) -> Node:
    into = [edge for edge in edges if (edge.to_kind, edge.to_name) == party]
    out = [edge for edge in edges if (edge.from_kind, edge.from_name) == party]
    counted = into or out
    return Node(
        *party,
        *at,
        calls=sum(edge.calls for edge in counted),
        errors=sum(edge.errors for edge in counted),
        tokens=sum(edge.tokens for edge in counted),
        cost_nusd=sum(edge.cost_nusd for edge in counted),
    )


def _wire(edge: Edge, placed: dict[Party, tuple[float, float]], most: int) -> Wire:
    (ax, ay), (bx, by) = placed[(edge.from_kind, edge.from_name)], placed[(edge.to_kind, edge.to_name)]
    x1, y1, x2, y2 = ax + BOX_W, ay + BOX_H / 2, bx, by + BOX_H / 2
    if x2 <= x1:  # back, or within a column: around below
        x1, x2 = ax + BOX_W / 2, bx + BOX_W / 2
        y1, y2 = ay + BOX_H, by + BOX_H
        bend = max(y1, y2) + 26
        path = f"M{x1:.1f},{y1:.1f} C{x1:.1f},{bend:.1f} {x2:.1f},{bend:.1f} {x2:.1f},{y2:.1f}"
    else:
        middle = (x1 + x2) / 2
        path = f"M{x1:.1f},{y1:.1f} C{middle:.1f},{y1:.1f} {middle:.1f},{y2:.1f} {x2:.1f},{y2:.1f}"
    width = 1 + 7 * math.log1p(edge.calls) / math.log1p(most)
    return Wire(
        edge, path, round(width, 2), _tone(edge.errors, edge.calls), round((x1 + x2) / 2, 1), round((y1 + y2) / 2, 1)
    )
